"""Small files that belong to one user: made whole or not at all, and not trusted when others had access."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

from ..actors.runtime.primitives import new_id
from ..store.files.location import sync_directory

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_LARGEST: Final = 64 * 1024
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def create_once(path: Path, text: str) -> None:
    """Make the file, with all of its content and mode 0600, unless it exists. Durable on return.

    Of several processes that do this at once, one wins, and none ever sees half a file.

    Raises:
        OSError: it cannot be made there, or everyone may replace files in the folder.
    """
    _check_folder(path.parent)
    if os.path.lexists(path):
        return
    with _draft(path, text) as draft, contextlib.suppress(FileExistsError):
        # Unlike renaming, this does not replace what another process has made in the meantime.
        os.link(draft, path)
    sync_directory(path.parent)


def replace(path: Path, text: str) -> None:
    """Replace the file. Durable on return. Raises OSError: it cannot be made there; the old one stays."""
    _check_folder(path.parent)
    with _draft(path, text) as draft:
        draft.replace(path)
    sync_directory(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Generator[None]:
    """Keep other processes that use this from changing the file in the block. Waits for them."""
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # It may have been replaced while this waited.
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                yield
                return
        finally:
            os.close(descriptor)


def read_private(path: Path) -> str:
    """Read a small file that only its owner, this user, can open.

    Raises:
        OSError: it is missing, too large, a link, or belongs or is open to others; or its folder is.
    """
    _check_folder(path.parent)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _check_file(os.fstat(descriptor))
        content = os.read(descriptor, _LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(content) > _LARGEST:
        raise OSError(f"it is larger than {_LARGEST} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise OSError("it is not text") from None


@contextlib.contextmanager
def _draft(path: Path, text: str) -> Generator[Path]:
    """Make a file of mode 0600 beside the path, whole and synced. It is removed after the block."""
    draft = path.with_name(f"{path.name}.{new_id()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _check_file(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a file")
    if found.st_uid != os.geteuid():
        raise PermissionError(
            "it belongs to another user, who may know its content. Remove it, or change its owner"
        )
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise PermissionError(
            f"others can read it (mode {mode:04o}), and may know its content. Create it again, with chmod 600"
        )


def _check_folder(folder: Path) -> None:
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise PermissionError(
            f"all users may replace files in its folder (mode {stat.S_IMODE(mode):04o}): chmod o-w it first"
        )
