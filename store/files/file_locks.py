"""Locks on a store's own files, which other code in this process cannot drop by closing a file.

POSIX locks, which SQLite uses, belong to a process and an inode. If any code in the process closes any
descriptor of the file (a query with Python's own `sqlite3`, a copy, a backup), all of them are gone. The next
program that opens the store then takes itself for the only one, and removes the log under the engine.

The locks here belong to their descriptor (`F_OFD_SETLK`), and conflict with SQLite's as if another process
held them:

- a read lock on what connections share: so no program is ever the last to close the file, or alone with it;
- a read lock on the byte that marks the log's index as used: so no program takes it for a leftover;
- a write lock on a byte that SQLite does not use: so the file has one owner, whatever its name. Names that
  lead to one file from different places (bind mounts) have different locks and logs beside them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

import apsw

from ..errors import StoreHalted, StoreOwned
from .forking import dies_after_fork
from .ownership import FLOCK, identity_of

if TYPE_CHECKING:
    from .location import FileLocation


class _Range(NamedTuple):
    start: int
    length: int


# https://sqlite.org/fileformat2.html#the_lock_byte_page, and https://sqlite.org/walformat.html#wal_locks
_SHARED: Final = _Range(0x40000002, 510)
_INDEX_IN_USE: Final = _Range(128, 1)
_OWNER: Final = _Range(0x50657253, 1)
"""After everything that SQLite locks; the byte need not exist."""

_FILE_HEAD: Final = struct.Struct(">16xH10xI")
"""The size of a page, and how many there are."""
_INDEX_HEAD: Final = 48
"""It holds, among others, the log's length, and changes with each commit."""
_TAKEN: Final = (errno.EAGAIN, errno.EACCES)

_owned: Final[set[tuple[int, int]]] = set()
"""The files that this process owns, by device and inode."""
_kept: Final[list[tuple[str, int]]] = []
"""Descriptors that are not needed but cannot be closed yet, with the names of their databases."""
_connected: Final[WeakKeyDictionary[apsw.Connection, str]] = WeakKeyDictionary()
"""The names of open files; asking a connection that another thread uses would be an error."""


def note_connection(connection: apsw.Connection, name: str) -> None:
    """Note that a connection has the file of this name open, until it is closed."""
    _connected[connection] = name


class FileLocks:
    """The locks on one database file and on its log's index. Outside Linux they do nothing.

    The descriptors stay open while a connection of ours has the file open: closing them would drop SQLite's
    locks.
    """

    def __init__(self, location: FileLocation) -> None:
        self._location = location
        self._name = str(location.path)
        self._file: int | None = None
        self._index: int | None = None
        self._identity: tuple[int, int] | None = None
        dies_after_fork(self)

    def own(self) -> None:
        """Become the only owner of the file, before anything looks into it.

        Raises:
            StoreOwned: it has an owner, who used another name.
            OSError: it cannot be opened.
        """
        if sys.platform != "linux":
            return
        found = self._location.path.stat()
        identity = (found.st_dev, found.st_ino)
        if identity == self._identity:
            return
        if identity in _owned:
            raise StoreOwned(
                f"{self._name} is already open in this process by another name, such as that of a mount"
            )
        self._release_file()
        self._file = os.open(self._name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not _locked(self._file, fcntl.F_WRLCK, _OWNER):
            self._release_file()
            raise StoreOwned(
                f"{self._name} is in use by another process, whose lock is not the one beside it: it used"
                " another name (a mount), or its lock was deleted"
            )
        self._identity = identity_of(self._file)
        _owned.add(self._identity)

    def share(self) -> bytes | None:
        """Hold the connections' shared locks, once the first connection has opened the log.

        Returns the head of the log's index in the file beside the store, or None if there is none.

        Raises:
            StoreHalted: another program holds an exclusive lock on the file.
        """
        if self._file is None:
            return None
        if self._index is None and (index := self._location.index_path).exists():
            self._index = os.open(index, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        for descriptor, what in ((self._file, _SHARED), (self._index, _INDEX_IN_USE)):
            if descriptor is not None and not _locked(descriptor, fcntl.F_RDLCK, what):
                raise StoreHalted(f"another program holds an exclusive lock on {self._name}")
        return None if self._index is None else os.pread(self._index, _INDEX_HEAD, 0)

    def sizes(self) -> tuple[int, int]:
        """Return the file's size, and its size according to its first page.

        A checkpoint writes the first page first. So the file is shorter than it says during a checkpoint, or
        if it was truncated.
        """
        size = self._location.path.stat().st_size
        head = b"" if self._file is None else os.pread(self._file, _FILE_HEAD.size, 0)
        if len(head) < _FILE_HEAD.size:
            return size, size + 1  # it is unknown: assume the worse, that its end is lost
        page_size, pages = _FILE_HEAD.unpack(head)
        return size, (page_size if page_size > 1 else 1 << 16) * pages

    def page(self, number: int, size: int) -> bytes:
        """Return a page as it is in the file, whatever the log says; empty if it cannot be read."""
        return b"" if self._file is None or number < 1 else os.pread(self._file, size, (number - 1) * size)

    def let_go(self) -> None:
        """Drop the shared locks, as there are no connections: the next log may be another one."""
        if self._file is not None:
            _locked(self._file, fcntl.F_UNLCK, _SHARED)
        if self._index is not None:
            _locked(self._index, fcntl.F_UNLCK, _INDEX_IN_USE)
            index, self._index = self._index, None
            _close(self._name, index)

    def release(self) -> None:
        """Release everything, after the connections are closed."""
        self.let_go()
        self._release_file()

    def _release_file(self) -> None:
        if self._identity is not None:
            _owned.discard(self._identity)
            self._identity = None
        if self._file is not None:
            # Explicitly, since a forked child may still hold a copy of the descriptor.
            _locked(self._file, fcntl.F_UNLCK, _OWNER)
            _locked(self._file, fcntl.F_UNLCK, _SHARED)
            descriptor, self._file = self._file, None
            _close(self._name, descriptor)

    def die_after_fork(self) -> None:
        """Close our copies of the descriptors, which leaves the parent's locks as they are."""
        descriptors, self._file, self._index = (self._file, self._index), None, None
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)
        if self._identity is not None:
            _owned.discard(self._identity)
            self._identity = None


def _locked(descriptor: int, kind: int, what: _Range) -> bool:
    """Lock or unlock. On a system without such locks it counts as done."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK.pack(kind, os.SEEK_SET, what.start, what.length, 0))
    except OSError as error:
        return error.errno not in _TAKEN
    return True


def _close(name: str, descriptor: int) -> None:
    """Close a descriptor once no connection of this process has the file open."""
    _kept.append((name, descriptor))
    close_what_is_done_with()


def close_what_is_done_with() -> None:
    """Close the descriptors whose connections are closed now."""
    if not _kept:
        return
    in_use = {name for connection in apsw.connections() if (name := _connected.get(connection)) is not None}
    for kept in [kept for kept in _kept if kept[0] not in in_use]:
        try:
            _kept.remove(kept)
        except ValueError:
            continue  # another thread has closed it
        os.close(kept[1])
