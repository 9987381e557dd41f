"""A folder that one user alone can reach, and files in it that are there in whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from ..errors import StoreError, StoreFull, StoreUnusable

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
# What opening answers with for links, and for what is no file; or when somebody took the rights away.
_STRANGE: Final = (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EISDIR)


class NotAFileError(Exception):
    """What lies there is none of ours, and reading it again would not help; the text says why."""


def is_private(folder: Path) -> bool:
    """Tell whether there is a folder; what it holds can be trusted.

    Raises:
        StoreUnusable: others could have put things there.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        raise StoreUnusable(f"{folder} is not a folder: remove it")
    if found.st_uid != os.geteuid():
        raise StoreUnusable(f"{folder} belongs to another user ({found.st_uid}): be that user, or remove it")
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise StoreUnusable(f"{folder} can be written by others: look at what is in it, then chmod 700 it")
    return True


def make_private(folder: Path) -> None:
    """Create a folder unless there is one, durably once its parent is synced.

    Raises:
        StoreUnusable: others could put things there.
        OSError: it cannot be created.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    is_private(folder)


def write_whole(to: Path, data: bytes, beside: Path, *, durable: bool) -> None:
    """Write a file under a name in the folder `beside`, then give it its own: readers see all of it, or none.

    Raises:
        OSError: nothing is there; or, when syncing the folder fails at the very end, it may be.
    """
    draft = beside / to.name
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode=0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.rename(to)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    if durable:
        sync(to.parent)


def sync(folder: Path) -> None:
    """Make durable which names are in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names_in(folder: Path) -> list[str]:
    """Return what a folder holds, in no order.

    Raises:
        OSError: it cannot be read.
    """
    return os.listdir(folder)  # noqa: PTH208 - a path for each would be most of the cost


def read_own(path: Path, limit: int) -> bytes:
    """Read a file that this user has written.

    Raises:
        FileNotFoundError: there is none.
        NotAFileError: it is a link, no regular file, another user's, or has more than `limit` bytes.
        OSError: it cannot be read now.
    """
    # Before it is opened, since opening a device can do something.
    _check(path.lstat(), limit)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _STRANGE:
            raise NotAFileError(f"it cannot be opened: {error.strerror}") from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        _check(os.fstat(descriptor), limit)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise NotAFileError(_too_large(limit))
    return data


def _check(found: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileError("it is no regular file")
    if found.st_uid != os.geteuid():
        raise NotAFileError(f"it belongs to another user ({found.st_uid})")
    if found.st_size > limit:
        raise NotAFileError(_too_large(limit))


def _too_large(limit: int) -> str:
    return f"it has more than {limit:,} bytes, which is the limit"


def failure(error: OSError, doing: str) -> StoreError:
    """Turn an error of the system into what the caller does next."""
    if error.errno in _FULL:
        return StoreFull(f"the disk is full: {doing}")
    return StoreUnusable(f"{doing}: {error.strerror}")
