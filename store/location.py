"""Where a store lives, and how to tell that it is still there."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from pathlib import Path
from typing import Final

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
        resolved = Path(path).resolve()
        filesystem = _filesystem_of(resolved.parent)
        if filesystem in _NETWORK_FILESYSTEMS:
            raise StoreUnusable(
                f"{resolved} is on a network filesystem ({filesystem}): locks do not hold there"
            )
        return cls(resolved)

    @property
    def lock_path(self) -> Path:
        """The file whose lock says who owns the store."""
        return self.path.with_name(self.path.name + ".lock")

    @property
    def log_path(self) -> Path:
        """SQLite's write-ahead log."""
        return self.path.with_name(self.path.name + "-wal")

    def claim(self) -> None:
        """Create the file when there is none, readable by its owner alone, and remember which one it is."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _sync_directory(self.path.parent)
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnusable(f"{self.path} is not a file")
        if 0 < found.st_size < _SMALLEST_DATABASE:
            # SQLite would take it for an empty one, and write over it.
            raise StoreUnusable(f"{self.path} is no SQLite database")
        if found.st_nlink != 1:
            raise StoreUnusable(
                f"{self.path} has {found.st_nlink} names (hard links): it cannot be locked by name"
            )
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


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _filesystem_of(directory: Path) -> str | None:
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
