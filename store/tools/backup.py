"""One consistent copy of a store, from any process, while an engine commits at full speed.

The copy holds what was committed when it began. It is a single file without a log, so it can be moved, kept
on read-only media, or opened as a store.

A copy has the same flows. Never run it beside the original, or pending work is done twice. A copy also
repeats what the original has done since. It does not hold requests from other processes that the engine has
not picked up.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import apsw
import msgspec

from ..contract import Corruption, Unreadable
from ..errors import NotWritten, RecordCorrupt, StoreError, StoreUnusable
from ..files.atomic_file import AtomicFile
from ..files.forking import in_sqlite, resting
from ..files.location import FileLocation
from ..progress import unwatched
from ..sqlite import schema
from ..sqlite.connection import connect_writer
from ..sqlite.names import NameTableReader
from ..sqlite.queries import Queries
from ..sqlite.statements import rows, value
from .snapshot import looked_at, snapshot, time_of

if TYPE_CHECKING:
    import os
    from collections.abc import Generator
    from pathlib import Path

    from ..progress import Progress
    from .snapshot import ReadOnlyStore

_PAGES: Final = 1024
"""Pages per step; the work can be interrupted between steps."""
_CHECKED_RECORDS: Final = 10_000
_CHECKED_AT_ONCE: Final = 1_000
_INSTRUCTIONS: Final = 100_000
"""A long statement checks for an interruption after this many instructions."""

_TARGET_PRAGMAS: Final = (
    # After a failure the whole file is removed: there is nothing to roll back to.
    ("journal_mode", "MEMORY"),
    ("locking_mode", "EXCLUSIVE"),
    ("synchronous", "FULL"),
    ("cache_size", -1_024),
)
_NEWEST: Final = "SELECT ifnull(max(position), 0) FROM record"


class BackedUp(msgspec.Struct, frozen=True):
    """The copy is there, complete and durable.

    `findings` report damage to single streams, which the copy has from its source. Only the newest records
    are checked; `StoreReader.verify` checks everything.
    """

    size: int
    findings: tuple[Corruption, ...]


def backup(
    source_path: str | os.PathLike[str],
    target_path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    on_progress: Progress = unwatched,
    vfs: str | None = None,
) -> BackedUp:
    """Copy a store as it is now into a new file, which only its owner can read.

    Args:
        source_path: The store, whoever has it open.
        target_path: Where the copy goes; it takes this name when it is complete, checked and synced.
        overwrite: Replace an existing file.
        on_progress: Receives the number of bytes copied, and the total.
        vfs: The name of a registered SQLite VFS, for tests and simulations.

    Raises:
        NotWritten: it cannot be written there; nothing is left of it, and nothing else was changed.
        StoreOwned: another has a store open at `target_path`, or is writing a backup to it.
        StoreUnusable: the source is missing, not a store, too new or damaged.
    """
    with looked_at(source_path, vfs) as source:
        draft = AtomicFile(target_path, source.path, overwrite=overwrite)
        with draft.create(time_of(source)), _connected(draft.path, vfs) as copy:
            size = _copied(source, copy, draft, resting(on_progress))
            findings = _findings(copy)
    return BackedUp(size, findings)


@contextmanager
def _connected(path: Path, vfs: str | None) -> Generator[apsw.Connection]:
    connection = connect_writer(FileLocation(path), vfs)
    try:
        for name, setting in _TARGET_PRAGMAS:
            connection.pragma(name, setting)
        # It lets Python handle a Ctrl-C during the checks.
        connection.set_progress_handler(_go_on, _INSTRUCTIONS)
        yield connection
    finally:
        connection.close()


def _go_on() -> bool:
    in_sqlite.rest()
    return False


def _copied(source: ReadOnlyStore, copy: apsw.Connection, draft: AtomicFile, on_progress: Progress) -> int:
    """Copy all pages, and return their size in bytes."""
    try:
        with snapshot(source) as original:
            page_size = original.pragma("page_size")
            draft.check_room(original.pragma("page_count") * page_size)
            with copy.backup("main", original, "main") as copying, draft.written_through() as flush:
                while not copying.done:
                    copying.step(_PAGES)
                    flush()
                    done = copying.page_count - copying.remaining
                    on_progress(done * page_size, copying.page_count * page_size)
        # Without a log, the copy can be read from a read-only place.
        copy.pragma("journal_mode", "MEMORY")
        return copy.pragma("page_count") * page_size
    except apsw.Error as error:
        raise _failure(error) from error


def _failure(error: apsw.Error) -> StoreError:
    match error:
        case apsw.FullError():
            return NotWritten("the disk is full: nothing is left of the copy")
        case apsw.CorruptError() | apsw.NotADBError():
            return StoreUnusable(f"the store is damaged, and was not copied: {error}")
        case _:
            return NotWritten(f"the copy failed, and nothing is left of it: {error}")


def _findings(copy: apsw.Connection) -> tuple[Corruption, ...]:
    """Check the finished copy.

    Raises:
        StoreUnusable: it is not a store, or its pages do not fit together.
    """
    schema.check(copy, schema.ladder())
    try:
        found = rows(copy, "PRAGMA quick_check(1)")[0][0]
        if found == "ok":
            return _damaged_records(copy)
    except apsw.Error as error:
        found = str(error)
    raise _thrown_away(found)


def _damaged_records(copy: apsw.Connection) -> tuple[Corruption, ...]:
    queries = Queries(NameTableReader())
    newest: int = value(copy, _NEWEST)
    for after in range(max(newest - _CHECKED_RECORDS, 0), newest, _CHECKED_AT_ONCE):
        for found in queries.scan_all(copy, after, _CHECKED_AT_ONCE):
            if not isinstance(found, Unreadable):
                continue
            if found.stream is None:
                raise _thrown_away(found.reason)
            reason = str(RecordCorrupt(found.stream, found.version, found.reason))
            return (Corruption(found.stream, found.version, reason),)
    return ()


def _thrown_away(why: str) -> StoreUnusable:
    return StoreUnusable(f"the store is damaged, and the copy was thrown away: {why}")
