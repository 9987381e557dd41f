"""Where a store lives, and how to tell that it is still there."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from .errors import StoreHalted, StoreUnusable

MEMORY: Final = ":memory:"

# Byte-range locks or shared memory cannot be trusted there.
_NETWORK_FILESYSTEMS: Final = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    },
)

_SMALLEST_DATABASE: Final = 512
_MOUNTS: Final = Path("/proc/self/mountinfo")

_memory_names = itertools.count(1)


class MemoryLocation:
    """A database that several connections of this process share, and that ends with the last of them."""

    def __init__(self) -> None:
        self.uri = f"file:/persistasaurus-{next(_memory_names)}?vfs=memdb"

    def check(self) -> None:
        """Memory does not go away while it is in use."""


class Situation(NamedTuple):
    """How the files of a store lie. When this is the same, so are the files."""

    identity: tuple[int, int]
    """Device and inode of the file."""
    log: int | None
    """Inode of the log."""
    at_rest: tuple[int, int] | None
    """When nobody has the file open, and all is in it: its time and size. Else None."""


class FileLocation:
    """A database file; `path` is free of symbolic links, so that all who open it lock the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._log_inode: int | None = None
        self._size = 0

    @classmethod
    def resolve(cls, path: str | os.PathLike[str]) -> FileLocation:
        """Find the file behind all links, refusing places where SQLite's locks do not hold."""
        try:
            resolved = Path(path).resolve()
        except (RuntimeError, ValueError) as error:  # links in a circle, a NUL in the name
            raise StoreUnusable(f"cannot open {os.fspath(path)!r}: {error}") from error
        filesystem = filesystem_of(resolved.parent)
        if filesystem in _NETWORK_FILESYSTEMS:
            raise StoreUnusable(
                f"{resolved} is on a network filesystem ({filesystem}): locks do not hold there"
            )
        return cls(resolved)

    @property
    def lock_path(self) -> Path:
        """The file whose lock says who owns the store."""
        return self._beside(".lock")

    @property
    def log_path(self) -> Path:
        """SQLite's write-ahead log."""
        return self._beside("-wal")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def situation(self) -> Situation:
        """Look how the files lie, without opening any.

        Raises:
            OSError: there is no file, or nobody may look.
        """
        found = self.path.stat()
        identity = (found.st_dev, found.st_ino)
        log = _status(self.log_path)
        if log is None:
            # It lies beside every file that is open; a rollback journal is of another mode than ours.
            at_rest = _status(self._beside("-journal")) is None
        else:
            at_rest = log.st_size == 0 and _status(self._beside("-shm")) is None
        state = (found.st_mtime_ns, found.st_size) if at_rest else None
        return Situation(identity, None if log is None else log.st_ino, state)

    def check_kind(self) -> os.stat_result:
        """Refuse what cannot be a store, before SQLite looks at it.

        Raises:
            StoreUnusable: it is none.
            OSError: there is no file.
        """
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnusable(f"{self.path} is not a file")
        if 0 < found.st_size < _SMALLEST_DATABASE and _status(self._beside("-journal")) is None:
            # SQLite would take it for an empty one, and write over it. With a journal it is one of ours that
            # was about to be created, and SQLite makes it empty again.
            raise StoreUnusable(f"{self.path} is no SQLite database")
        if found.st_nlink != 1:
            raise StoreUnusable(
                f"{self.path} has {found.st_nlink} names (hard links): it cannot be locked by name"
            )
        return found

    def claim(self) -> None:
        """Create the file when there is none, readable by its owner alone, and remember which one it is."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_directory(self.path.parent)
        found = self.check_kind()
        if found.st_mode & stat.S_IWOTH:
            raise StoreUnusable(f"{self.path} can be written by everybody: take that right away first")
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size

    def check(self) -> None:
        """Raise when the file or its log was deleted, replaced or cut: SQLite would go on without a word.

        Raises:
            StoreHalted: what is written now would be gone.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            raise StoreHalted(f"{self.path} is gone while the store is open: {error.strerror}") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise StoreHalted(f"{self.path} was replaced by another file while the store is open")
        if found.st_size < self._size:
            raise StoreHalted(f"{self.path} was cut to {found.st_size} bytes while the store is open")
        self._size = found.st_size
        self._check_log()

    def _check_log(self) -> None:
        try:
            inode = self.log_path.stat().st_ino
        except OSError as error:
            if self._log_inode is None:
                return
            raise StoreHalted(f"{self.log_path} is gone while the store is open: {error.strerror}") from error
        if self._log_inode is None:
            self._log_inode = inode
        elif inode != self._log_inode:
            raise StoreHalted(f"{self.log_path} was replaced by another file while the store is open")

    def forget_log(self) -> None:
        """Between two connections the log may be another file."""
        self._log_inode = None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def sync_directory(path: Path) -> None:
    """Make durable which names the files in a directory have."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def filesystem_of(directory: Path) -> str | None:
    """Return the type of the filesystem, where the system tells."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, found = -1, None
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        point = left.split(" ")[4].replace("\\040", " ")
        if directory.is_relative_to(point) and len(point) >= best:
            best, found = len(point), right.split(" ")[0]
    return found
