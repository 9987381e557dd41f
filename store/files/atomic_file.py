"""Files that take their name when they are complete: there is never half of one under that name."""

from __future__ import annotations

import contextlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import NotWritten, StoreHalted, StoreUnusable
from .location import sync_directory
from .ownership import Ownership

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# The suffixes of files beside a database.
_LOGS: Final = ("-wal", "-journal")
_REQUESTS: Final = tuple(f"-requests{suffix}" for suffix in ("", *_LOGS, "-shm"))
_BESIDE: Final = (*_LOGS, "-shm", ".lock", *_REQUESTS)
_SECRETS: Final = (".token", ".keys")


class AtomicFile:
    """A new file beside its final name, `.NAME.partial`, readable only by its owner.

    During the work, the final name is owned like an open store: no other process opens a store there, or
    makes a draft for it. So a draft found at the beginning was left by a killed process, and is removed.
    """

    def __init__(self, target: str | os.PathLike[str], source: Path, *, overwrite: bool) -> None:
        given = Path(target)
        self.target = given.parent.resolve() / given.name
        self.path = self.target.parent / f".{self.target.name}.partial"
        self._source = source
        self._overwrite = overwrite

    @contextmanager
    def create(self, now: int) -> Generator[AtomicFile]:
        """Create the file. At the end of the block it takes its name; after an error nothing is left of it.

        `now`, in microseconds since the epoch, UTC, is shown to others who want the same name meanwhile.

        Raises:
            NotWritten: the place cannot be used; nothing was changed.
            StoreOwned: another has a store open at that place, or is writing to it as well.
        """
        with self._told():
            self._check()
        with self._owned(now):
            with self._told():
                self._check()
                self._check_logs()
                self._remove()
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            try:
                yield self
                with self._told():
                    self._place()
            except BaseException:
                with contextlib.suppress(OSError):
                    self._remove()
                raise

    def check_room(self, size: int) -> None:
        """Check for `size` free bytes first: a full disk would halt an engine that writes to it, too.

        Raises:
            NotWritten: there is not enough room.
        """
        with self._told():
            found = os.statvfs(self.target.parent)
        free = found.f_bavail * found.f_frsize
        if size > free:
            raise NotWritten(f"no room for {self.target}: {size:,} bytes are needed, {free:,} are free")

    @contextmanager
    def written_through(self) -> Generator[Callable[[], None]]:
        """Yield a function that syncs what was written so far: one sync at the end would delay others.

        Locks of the file end with the block, so nothing may rely on them.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            yield lambda: os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def _check(self) -> None:
        if not self.target.parent.is_dir():
            raise NotWritten(f"cannot write {self.target}: there is no such folder")
        self._check_names()
        try:
            found = self.target.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(found.st_mode):
            raise NotWritten(f"{self.target} exists, and is not a regular file: it was left unchanged")
        if not self._overwrite:
            raise NotWritten(f"{self.target} already exists: it was left unchanged")

    def _check_logs(self) -> None:
        for log in (_beside(self.target, suffix) for suffix in _LOGS):
            if log.exists() and log.lstat().st_size:
                raise NotWritten(
                    f"{log} is not empty, and would be taken for a part of {self.target.name}. Open and close"
                    " the store that it belongs to, or remove it"
                )

    def _check_names(self) -> None:
        theirs = {self._source, *(_beside(self._source, suffix) for suffix in (*_BESIDE, *_SECRETS))}
        ours = {self.target, self.path} | {_beside(self.target, suffix) for suffix in _BESIDE}
        same = any(
            path.exists() and path.samefile(one)
            for path in (self.target, self.path)
            for one in theirs
            if one.exists()
        )
        if same or theirs & ours:
            raise NotWritten(f"{self.target} would overwrite the store being read: choose another name")

    @contextmanager
    def _owned(self, now: int) -> Generator[None]:
        lock = _beside(self.target, ".lock")
        try:
            ownership = Ownership.acquire(lock, now)
        except StoreUnusable as error:
            raise NotWritten(f"cannot write {self.target}: {error}") from error
        try:
            yield
        finally:
            # Last, and while it is held: so nothing else can hold another one at the same time.
            with contextlib.suppress(StoreHalted, OSError):
                ownership.check()
                lock.unlink()
            ownership.release()

    def _remove(self) -> None:
        for suffix in ("", *_LOGS, "-shm"):
            _beside(self.path, suffix).unlink(missing_ok=True)

    def _place(self) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for suffix in (*_LOGS, "-shm"):
            # Those of the replaced file; the logs are empty, as was checked.
            _beside(self.target, suffix).unlink(missing_ok=True)
        self.path.replace(self.target)
        sync_directory(self.target.parent)

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise NotWritten(f"cannot write {self.target}: {error.strerror}") from error


def _beside(path: Path, suffix: str) -> Path:
    return path.parent / f"{path.name}{suffix}"
