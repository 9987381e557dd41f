"""One owner per store: a lock beside the file.

SQLite's own locks do not suffice: POSIX drops them when any code in the process opens and closes the file.
The lock beside the file names its owner, and keeps out others that use the same name; `FileLocks` keep out
those that use another.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ..errors import StoreHalted, StoreOwned, StoreUnusable
from .forking import dies_after_fork

if TYPE_CHECKING:
    from pathlib import Path

_HOLDER_SIZE: Final = 200
FLOCK: Final = struct.Struct("hhqqi4x")
"""`struct flock`: kind, whence, start, length (0: all), process."""


_held: Final[weakref.WeakValueDictionary[tuple[int, int], Ownership]] = weakref.WeakValueDictionary()
"""The locks that this process holds, by device and inode of the lock's file."""


class Ownership:
    """An exclusive `flock` that lives as long as this object or its process."""

    def __init__(self, path: Path, descriptor: int, now: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self.since = _instant(now)
        self._identity = identity_of(descriptor)
        _held[self._identity] = self
        dies_after_fork(self)

    @classmethod
    def acquire(cls, path: Path, now: int) -> Ownership:
        """Take the lock, or raise at once.

        Raises:
            StoreOwned: it is taken; the message says by whom.
        """
        while True:
            descriptor = _open(path)
            try:
                _lock(path, descriptor)
                if _is_at(path, descriptor):
                    _set_mark(descriptor, fcntl.F_WRLCK)
                    text = f"process {os.getpid()} on {socket.gethostname()} since {_instant(now)}\n"
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, text.encode(), 0)
                    return cls(path, descriptor, now)
            except BaseException:
                os.close(descriptor)
                raise
            # Another process removed the file between opening and locking it, so our lock is void.
            os.close(descriptor)

    def renewed(self, now: int) -> Ownership:
        """Return an ownership that holds: this one, or a new one if the lock's file was deleted.

        Raises:
            StoreOwned: another process has taken it in the meantime.
        """
        if self._holds():
            return self
        fresh = Ownership.acquire(self._path, now)
        self.release()
        return fresh

    def _holds(self) -> bool:
        return self._descriptor is not None and _is_at(self._path, self._descriptor)

    def check(self) -> None:
        """Raise `StoreHalted` if the lock's file is no longer the one that we hold."""
        if not self._holds():
            raise StoreHalted(f"{self._path} was deleted or replaced: another process may own the store")

    def release(self) -> None:
        """Release the lock. The file stays: after a deletion two processes could lock two files."""
        if self._descriptor is not None:
            # Explicitly, since a forked child may still hold a copy of the descriptor.
            # The mark goes first: the next owner must be able to set its own.
            _set_mark(self._descriptor, fcntl.F_UNLCK)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Close our descriptor and leave the lock to those who share it: for a forked child."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _held.pop(self._identity, None)
            os.close(descriptor)

    die_after_fork = forget


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreUnusable(f"cannot open {path}: {error.strerror}") from error


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise StoreUnusable(f"cannot lock {path}: {error.strerror}") from error
        raise StoreOwned(f"{path.with_suffix('')} {_usage(descriptor)}") from None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except OSError:
        return False
    return identity_of(descriptor) == (there.st_dev, there.st_ino)


def identity_of(descriptor: int) -> tuple[int, int]:
    """Return device and inode of an open file."""
    found = os.fstat(descriptor)
    return (found.st_dev, found.st_ino)


def _instant(now: int) -> str:
    return datetime.fromtimestamp(now / 1_000_000, UTC).isoformat(timespec="seconds")


def _usage(descriptor: int) -> str:
    ours = _held.get(identity_of(descriptor))
    if ours is None:
        return f"is in use by {introduction(descriptor) or 'another process'}"
    return (
        f"is already open in this process (process {os.getpid()}, since {ours.since}): use the FlowSystem"
        " that has it, or close() that one first. In a notebook, the cell that opened it ran before"
    )


def introduction(descriptor: int) -> str:
    """Return what the last owner wrote about itself, in one line that is safe to show."""
    try:
        text = os.pread(descriptor, _HOLDER_SIZE, 0).decode(errors="replace").strip()
    except OSError:
        return ""
    return "".join(letter for letter in text if letter.isprintable())


def _set_mark(descriptor: int, kind: int) -> None:
    """Set or remove the owner's mark on the file. It only informs; unlike a `flock` it can be queried."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))


def is_marked(descriptor: int) -> bool:
    """Return whether the file has an owner's mark, without setting one."""
    if sys.platform != "linux":
        return False
    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return False
    return FLOCK.unpack(found)[0] != fcntl.F_UNLCK
