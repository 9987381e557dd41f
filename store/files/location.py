"""Where a store lives, and how to tell that it is still there."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import StoreHalted, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Generator

MEMORY: Final = ":memory:"

# Byte-range locks or shared memory cannot be trusted there.
_NETWORK_FILESYSTEMS: Final = {
    *("afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "glusterfs", "lustre"),
    *("ncpfs", "nfs", "nfs4", "smb3", "smbfs"),
}

_SMALLEST_DATABASE: Final = 512
_DESCRIPTORS: Final = Path("/proc/self/fdinfo")
_MOUNTS: Final = Path("/proc/self/mountinfo")

_memory_names = itertools.count(1)


class MemoryLocation:
    """A database shared by the connections of this process. It ends with the last of them."""

    def __init__(self) -> None:
        self.uri = f"file:/persistasaurus-{next(_memory_names)}?vfs=memdb"

    def __str__(self) -> str:
        return "in memory"

    def check(self) -> None:
        """Do nothing: memory cannot be deleted while it is in use."""

    def has_shrunk(self) -> bool:
        return False

    def note_size(self) -> None:
        """Do nothing: memory has no size to watch."""


class FileState(NamedTuple):
    """The state of a store's files. If it is equal, so are the files."""

    identity: tuple[int, int]
    """Device and inode of the file."""
    log: int | None
    """Inode of the log."""
    at_rest: tuple[int, int] | None
    """Its time and size, if no process has it open and everything is in it; else None."""


class FileLocation:
    """A database file; `path` is free of symbolic links, so that all who open it lock the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._logs: dict[Path, int] = {}
        """The inodes of the log and of its index, as first seen."""
        self._size = 0

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def resolve(cls, path: str | os.PathLike[str]) -> FileLocation:
        """Resolve all links; refuse places where SQLite's locks do not hold."""
        try:
            resolved = Path(path).resolve()
            str(resolved).encode()  # SQLite takes no other names
        except (RuntimeError, ValueError) as error:  # circular links, a NUL in the name, or not Unicode
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

    @property
    def index_path(self) -> Path:
        """The index of SQLite's log, shared by all who have the file open."""
        return self._beside("-shm")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def file_state(self) -> FileState:
        """Return the state of the files, without opening any.

        Raises:
            OSError: there is no file, or it may not be read.
        """
        found = self.path.stat()
        identity = (found.st_dev, found.st_ino)
        log = _status(self.log_path)
        if log is None:
            # Every open file has a log beside it; a rollback journal belongs to another mode than ours.
            at_rest = _status(self._beside("-journal")) is None
        else:
            at_rest = log.st_size == 0 and _status(self.index_path) is None
        state = (found.st_mtime_ns, found.st_size) if at_rest else None
        return FileState(identity, None if log is None else log.st_ino, state)

    def check_kind(self) -> os.stat_result:
        """Refuse what cannot be a store, before SQLite looks at it.

        Raises:
            StoreUnusable: it is not a store.
            OSError: there is no file.
        """
        found = self.path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnusable(f"{self.path} is not a file")
        if 0 < found.st_size < _SMALLEST_DATABASE and _status(self._beside("-journal")) is None:
            # SQLite would take it for an empty one, and write over it. With a journal it is one of ours that
            # was about to be created, and SQLite makes it empty again.
            raise StoreUnusable(f"{self.path} is not an SQLite database")
        if found.st_size == 0:
            self._refuse_log_alone()
        if found.st_nlink != 1:
            raise StoreUnusable(
                f"{self.path} has {found.st_nlink} names (hard links): its log would be beside one only,"
                " and a process that opens the other would not see it. Remove the other name"
            )
        if _mount_of(self.path) != _mount_of(self.path.parent):
            raise StoreUnusable(
                f"{self.path} is mounted as a single file: its log would not lie beside the original, and"
                " what is in the log would be lost. Mount the folder that the file is in"
            )
        return found

    def create(self) -> None:
        """Create the file if there is none, readable by its owner alone.

        Raises:
            StoreUnusable: there was one, since its log is still there.
        """
        if _status(self.path) is None:
            self._refuse_log_alone()
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_directory(self.path.parent)

    def _refuse_log_alone(self) -> None:
        """Keep a log whose file is gone: SQLite would take it for a leftover, and delete it."""
        log = _status(self.log_path)
        if log is not None and log.st_size > 0:
            raise StoreUnusable(
                f"{self.path} is gone or empty, and its log {self.log_path.name} is still there: put the file"
                " back where it was. To begin an empty store, move the log away"
            )

    def claim(self) -> None:
        """Remember which file is there now.

        Raises:
            StoreUnusable: it cannot be a store, or not a safe one.
            OSError: there is no file.
        """
        found = self.check_kind()
        if found.st_mode & stat.S_IWOTH:
            raise StoreUnusable(f"{self.path} can be written by all users: chmod o-w it first")
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size

    def check(self) -> None:
        """Check that the file, its log and the log's index are still there: SQLite would not notice.

        Raises:
            StoreHalted: one was deleted or replaced, so writes would be lost.
        """
        if not self._is_there():
            raise StoreHalted(f"{self.path} was replaced by another file while the store is open")
        for log in (self.log_path, self.index_path):
            known, found = self._logs.get(log), _status(log)
            if found is None:
                if known is not None:
                    raise StoreHalted(f"{log} is gone while the store is open")
            elif self._logs.setdefault(log, found.st_ino) != found.st_ino:
                raise StoreHalted(f"{log} was replaced by another file while the store is open")

    def _is_there(self) -> bool:
        found = self._found()
        return (found.st_dev, found.st_ino) == self._identity

    def _found(self) -> os.stat_result:
        try:
            return self.path.stat()
        except OSError as error:
            raise StoreHalted(f"{self.path} is gone while the store is open: {error.strerror}") from error

    def has_shrunk(self) -> bool:
        """Return whether the file is smaller than before; another file is for `check` to find.

        Raises:
            StoreHalted: it is gone.
        """
        found = self._found()
        if (found.st_dev, found.st_ino) != self._identity:
            return False
        if found.st_size < self._size:
            return True
        self._size = found.st_size
        return False

    def note_size(self) -> None:
        """Accept the current size of the file."""
        self._size = self._found().st_size

    def has_strange_log(self) -> bool:
        """Return whether another program has begun a log of its own for this file, and written to it.

        Raises:
            StoreHalted: the file is gone.
        """
        log = _status(self.log_path)
        is_strange = log is not None and log.st_ino != self._logs.get(self.log_path) and log.st_size > 0
        return self._is_there() and is_strange

    def forget_logs(self) -> None:
        """Accept another log and index: between two connections they may be other files."""
        self._logs.clear()


@contextmanager
def existing(path: str | os.PathLike[str]) -> Generator[FileLocation]:
    """Yield the location of a store that the block opens and must not create.

    Raises:
        StoreUnusable: there is none, it cannot be one, or the block cannot open it.
    """
    given = os.fspath(path)
    try:
        location = FileLocation.resolve(path)
        location.check_kind()
        yield location
    except FileNotFoundError as error:
        raise StoreUnusable(f"there is no store at {given!r}") from error
    except OSError as error:
        raise StoreUnusable(f"cannot open {given!r}: {error.strerror}") from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _mount_of(path: Path) -> str | None:
    """Return the system's id of the mount that a path lies on, if there is one."""
    try:
        # Such a descriptor cannot be read, and closing it takes no locks away.
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except AttributeError:
        return None
    try:
        told = (_DESCRIPTORS / str(descriptor)).read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return next((line for line in told.splitlines() if line.startswith("mnt_id:")), None)


def sync_directory(path: Path) -> None:
    """Make the names of the files in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def filesystem_of(directory: Path) -> str | None:
    """Return the type of the filesystem, if the system knows it."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, found = -1, None
    inside = f"{directory}{os.sep}"
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        point = left.split(" ", 5)[4].replace("\\040", " ")
        if inside.startswith(f"{point.rstrip(os.sep)}{os.sep}") and len(point) >= best:
            best, found = len(point), right.split(" ", 1)[0]
    return found
