"""Listening sockets, and who can reach them."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ...flows.errors import PersistasaurusError

if TYPE_CHECKING:
    import os

_LAST_PORT: Final = 65535
_REASONS: Final = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another port",
    errno.EACCES: "no permission: choose a port above 1023, or a folder that you may write to",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.ENOENT: "its folder does not exist",
}


class CannotServe(PersistasaurusError):
    """The server does not start. The message says why, and what to do."""

    code = "cannot-serve"


class ServerSocket(Protocol):
    """A bound socket."""

    socket: socket.socket
    url: str
    """Where clients find the server."""
    is_local: bool
    """Only this machine reaches it."""

    def close(self) -> None:
        """Stop listening, and leave nothing behind."""
        ...


class TcpListener:
    """A socket on an address and a port; port 0 lets the system choose.

    Raises:
        CannotServe: the address does not exist, is in use, or is not permitted.
    """

    def __init__(self, host: str, port: int) -> None:
        family, address = _resolved(host, port)
        self.is_local = ipaddress.ip_address(address[0].partition("%")[0]).is_loopback
        # With the protocol named, since asyncio sets TCP_NODELAY only on sockets that say they are TCP.
        # Without it, the body of an answer waits up to 40 ms for the client to acknowledge its head.
        self.socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(address)
        except OSError as error:
            self.socket.close()
            raise CannotServe(f"cannot listen on {host} port {port}: {_reason(error)}") from error
        shown = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
        self.port: int = self.socket.getsockname()[1]
        self.url = f"http://{shown}:{self.port}"

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()


class UnixListener:
    """A unix socket that only its owner can open (mode 0600).

    Raises:
        CannotServe: something else is there, or a running server.
    """

    is_local = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.url = f"http+unix://{self._path}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear(self._path)
            self.socket.bind(str(self._path))
            # No one can connect before it listens, so this comes early enough.
            self._path.chmod(0o600)
        except OSError as error:
            self.socket.close()
            raise CannotServe(f"cannot listen on {self._path}: {_reason(error)}") from error
        except CannotServe:
            self.socket.close()
            raise
        self._inode = self._path.lstat().st_ino

    def close(self) -> None:
        """Stop listening, and remove the socket's file if it is still ours."""
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    if not 0 <= port <= _LAST_PORT:
        # The system would take it modulo 65536, and listen on another port.
        raise CannotServe(f"cannot listen on port {port}: ports end at {_LAST_PORT}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as error:
        raise CannotServe(f"cannot listen on {host!r} port {port}: there is no such address") from error
    family, _, _, _, address = found[0]
    return family, address  # type: ignore[return-value]


def _clear(path: Path) -> None:
    """Remove the socket that a dead server left, and nothing else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CannotServe(f"cannot listen on {path}: something else is there, and was not touched")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise CannotServe(f"cannot listen on {path}: another server answers there")


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)
