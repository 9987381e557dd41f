"""Confirmations from another terminal.

A store has one owner, and only it writes. So the demo that owns it listens on a socket beside the
store, to which its user alone has access, and answers when the confirmation is durable. When nobody
owns the store, whoever confirms becomes its owner for a moment, and puts the signal on record.
"""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from ..actors.door import outside_error
from ..actors.handle import from_microseconds
from ..actors.seam import SystemClock, new_id
from ..flows.errors import FlowNotFound, PersistasaurusError
from ..flows.examples import SignupFlow
from ..store import Deliver, Delivered, SqliteStore
from .showing import console

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ..store.contract import Outcome

__all__ = ["Answer", "Confirmation", "Listener", "run"]

_SIZE_MAX = 65_536
_PATIENCE_S = 10.0


class Confirmation(msgspec.Struct, frozen=True):
    """A person has confirmed."""

    flow: str
    confirmed_at: datetime
    signal_id: str

    @classmethod
    def now(cls, flow: str) -> Confirmation:
        """Confirm at this instant."""
        return cls(flow, from_microseconds(SystemClock().now()), new_id())


class Answer(msgspec.Struct, frozen=True):
    """What became of it: it is durable, unless there is an error."""

    error: str = ""


class Listener:
    """The end of the socket that belongs to the owner of the store, who alone may make one."""

    def __init__(self, store: Path) -> None:
        self._path = _beside(store)
        self._socket = socket.socket(socket.AF_UNIX)
        os.fchmod(self._socket.fileno(), 0o600)  # before there is anything to connect to
        self._path.unlink(missing_ok=True)  # of an owner that was killed
        with _address(self._path) as address:
            self._socket.bind(address)
        self._socket.listen()

    def fileno(self) -> int:
        """Return what to select on."""
        return self._socket.fileno()

    def answer(self, confirm: Callable[[Confirmation], Answer]) -> None:
        """Take one confirmation, and answer it. Whoever says nothing sensible gets no answer."""
        peer, _ = self._socket.accept()
        with peer, contextlib.suppress(OSError, msgspec.MsgspecError):
            peer.settimeout(_PATIENCE_S / 10)
            asked = msgspec.json.decode(_read(peer), type=Confirmation)
            peer.sendall(msgspec.json.encode(confirm(asked)) + b"\n")

    def close(self) -> None:
        """Stop listening."""
        self._path.unlink(missing_ok=True)
        self._socket.close()


def run(flow_id: str, store: Path) -> int:
    """Confirm a sign-up, through its owner or as its owner, and say what that means.

    Raises:
        PersistasaurusError: it was not confirmed.
        StoreError: the store cannot be used.
    """
    confirmation = Confirmation.now(flow_id)
    if not store.exists():
        raise FlowNotFound(flow_id)
    answer = _ask(store, confirmation)
    if answer is None:
        _put_on_record(store, confirmation)
        console().print("On record. The sign-up takes it when it is run again.")
    elif answer.error:
        raise PersistasaurusError(answer.error)
    else:
        console().print("Confirmed. The sign-up goes on, over there.")
    return 0


def _ask(store: Path, confirmation: Confirmation) -> Answer | None:
    """Have the owner confirm; None: nobody listens."""
    with socket.socket(socket.AF_UNIX) as ours, _address(_beside(store)) as address:
        ours.settimeout(_PATIENCE_S)
        try:
            ours.connect(address)
        except OSError:
            return None
        try:
            ours.sendall(msgspec.json.encode(confirmation) + b"\n")
            return msgspec.json.decode(_read(ours), type=Answer)
        except (OSError, msgspec.MsgspecError):
            return Answer("the demo did not answer: look there whether it has ended, or try again")


def _put_on_record(path: Path, confirmation: Confirmation) -> None:
    """Put the signal into the inbox of a flow that does not run."""
    call = SignupFlow.confirm_email_address(confirmation.confirmed_at)
    clock = SystemClock()
    store = SqliteStore.open(path, now=clock.now)
    try:
        deliver = Deliver(confirmation.flow, call.name, confirmation.signal_id, call.data, clock.now())
        _check(confirmation.flow, store.commit([deliver])[0])
    finally:
        store.close()


def _check(flow_id: str, outcome: Outcome) -> None:
    if not isinstance(outcome, Delivered):
        raise outside_error(flow_id, outcome)  # pyright: ignore[reportArgumentType] - it is no append


def _beside(store: Path) -> Path:
    path = store.resolve()
    return path.with_name(f"{path.name}.confirm")


@contextlib.contextmanager
def _address(path: Path) -> Generator[str]:
    """Name a socket in at most 107 bytes, however long its path is."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _read(peer: socket.socket) -> bytes:
    """Read one line."""
    data = b""
    while not data.endswith(b"\n") and len(data) < _SIZE_MAX:
        piece = peer.recv(_SIZE_MAX)
        if not piece:
            break
        data += piece
    return data
