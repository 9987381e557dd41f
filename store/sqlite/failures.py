"""From SQLite's errors to those of the store, by what the caller does next."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import apsw

from ..errors import CommitUnknown, StoreError, StoreFull, StoreHalted, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Generator

_WHAT_TO_DO: Final = (
    "The damage is where all new data goes, so the store cannot continue: replace it by a backup, or move"
    " what is readable into a new store with `persistasaurus export --skip-damaged`"
)


def commit_failure(error: BaseException) -> StoreError:
    """Return the error for a failed commit."""
    match error:
        case StoreError():
            return error
        case apsw.FullError():
            return StoreFull("the disk is full: nothing was written")
        case apsw.BusyError() | apsw.LockedError():
            return StoreHalted(f"another connection keeps the file locked, nothing was written: {error}")
        case apsw.CorruptError() | apsw.NotADBError() | apsw.ConstraintError():
            return StoreUnusable(f"the file is damaged, nothing was written: {error}. {_WHAT_TO_DO}")
        case _:
            return CommitUnknown(f"the commit failed, what it wrote may be on disk or not: {error!r}")


@contextmanager
def naming(path: str) -> Generator[None]:
    """Say of a store that cannot be used which one it is, unless the message does."""
    try:
        yield
    except StoreUnusable as error:
        if path in str(error):
            raise
        raise StoreUnusable(f"{path}: {error}") from error


def open_failure(error: apsw.Error) -> StoreError:
    """Return the error for a store that cannot be opened."""
    failure = reopen_failure(error)
    return StoreUnusable(f"cannot open the store: {error}") if isinstance(failure, StoreHalted) else failure


def reopen_failure(error: apsw.Error) -> StoreError:
    """Return the error for a file that cannot be used, or not yet."""
    match error:
        case apsw.FullError():
            return StoreFull("the disk is full")
        case apsw.CorruptError() | apsw.NotADBError() | apsw.ConstraintError():
            return StoreUnusable(f"the file is damaged: {error}. {_WHAT_TO_DO}")
        case _:
            return StoreHalted(f"the file cannot be used (yet): {error!r}")


def read_failure(error: apsw.Error) -> StoreError:
    """Return the error for a failed query."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreUnusable(f"the file is damaged: {error}")
    return StoreHalted(f"the file cannot be read: {error!r}")
