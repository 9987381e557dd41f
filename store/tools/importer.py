"""From text to a store: each flow is written whole, or not at all.

The text is read to its end, and compared with the store, before anything is written. Flows written by an
interrupted import are complete; the same import again writes the rest.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import apsw
import msgspec

from ..contract import Durability
from ..errors import ImportConflict, NotAnExport, RecordCorrupt, StreamNotFound
from ..files.temporary import closed
from ..progress import unwatched
from ..sqlite.failures import read_failure
from ..sqlite.store import SqliteStore
from ..sqlite.stream_dump import StreamDump
from .snapshot import looked_at
from .transcript_reader import DEFAULT_LIMITS, TranscriptReader, opened_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ..contract import Restore, StoreLimits
    from ..progress import Progress

_BATCH_BYTES: Final = 4 << 20
_BATCH_FLOWS: Final = 1000
_REPORTED: Final = 1 << 20
"""Progress is reported after this many bytes."""
_CHECKING, _COMPARING, _WRITING, _PASSES = range(4)
"""The passes over the text, and their number."""
_NAMED: Final = 5


class Imported(msgspec.Struct, frozen=True):
    """What was written.

    `present` counts the flows that were there already, equal to those of the export; `conflicts` are the
    flows that are there and differ, and were left as they are.
    """

    flows: int
    records: int
    signals: int
    present: int
    conflicts: tuple[str, ...]


def import_(  # noqa: PLR0913 - most have a default
    source: str | os.PathLike[str] | IO[bytes],
    store_path: str | os.PathLike[str],
    *,
    now: Callable[[], int],
    skip_conflicts: bool = False,
    on_progress: Progress = unwatched,
    durability: Durability = Durability.FULL,
    limits: StoreLimits = DEFAULT_LIMITS,
    vfs: str | None = None,
) -> Imported:
    """Write the flows of an export into a store, which is created if there is none, and owned meanwhile.

    The flows continue when an engine opens the store. A flow that has been written stays written, also if a
    later one fails; the same import again writes what is missing.

    Args:
        source: The export: its path, or a stream of bytes, such as a pipe.
        store_path: The store.
        now: The clock, in microseconds since the epoch, UTC.
        skip_conflicts: Leave out flows that the store has with another history.
        on_progress: Receives the number of bytes read, and the total; each byte counts three times.
        durability: Whether written flows survive a power failure before the end.
        limits: The store's limits.
        vfs: The name of a registered SQLite VFS, for tests and simulations.

    Raises:
        NotAnExport: it is not an export, was cut off or was changed; nothing was written.
        ImportConflict: the store has flows of it with another history; nothing was written.
        StoreOwned: an engine has the store open; nothing was written.
        StoreUnusable: the file at `store_path` is not a store, or cannot be used; nothing was written.
        StoreError: the store failed meanwhile. Each flow was written whole or not at all.
    """
    opened = partial(SqliteStore.open, store_path, now=now, durability=durability, limits=limits, vfs=vfs)
    with ExitStack() as stack:
        # An existing store is opened first, so that a conflicting owner is reported at once.
        store = stack.enter_context(closing(opened())) if Path(store_path).exists() else None
        passes = _Passes(stack.enter_context(_seekable(source)), limits, on_progress)
        for _ in passes.flows(_CHECKING):
            pass
        store = store or stack.enter_context(closing(opened()))
        conflicts: set[str] | None = None
        if store.headers(limit=1):
            conflicts = _conflicts(passes.flows(_COMPARING), store_path, vfs)
            if conflicts and not skip_conflicts:
                raise _refusal(conflicts)
        return _Writing(store, conflicts).run(passes.flows(_WRITING))


@contextmanager
def _seekable(source: str | os.PathLike[str] | IO[bytes]) -> Generator[IO[bytes]]:
    """Copy a stream into a temporary file, so that it can be read repeatedly."""
    if not isinstance(source, str | os.PathLike):
        with closed(tempfile.TemporaryFile()) as file:
            try:
                shutil.copyfileobj(source, file)
                file.flush()
            except OSError as error:
                raise NotAnExport(
                    None, f"the export could not be read to its end: {error.strerror}"
                ) from error
            yield file
        return
    with opened_text(source) as file:
        yield file


class _Passes:
    """Reads the same text repeatedly."""

    def __init__(self, file: IO[bytes], limits: StoreLimits, report: Progress) -> None:
        self._file = file
        self._limits = limits
        self._report = report
        self._size = file.seek(0, os.SEEK_END)

    def flows(self, passed: int) -> Iterator[Restore]:
        """Read it from its beginning to its end, after `passed` other passes."""
        self._file.seek(0)
        reader, reported = TranscriptReader(self._file, self._limits), 0
        before = passed * self._size
        for flow in reader.flows():
            yield flow
            if reader.bytes - reported >= _REPORTED:
                reported = reader.bytes
                self._report(before + reported, _PASSES * self._size)
        self._report(before + self._size, _PASSES * self._size)


def _conflicts(flows: Iterator[Restore], store_path: str | os.PathLike[str], vfs: str | None) -> set[str]:
    """Return the flows that the store has with another history."""
    try:
        with looked_at(store_path, vfs) as look:
            dump = StreamDump(look.connection)
            return {flow.stream for flow in flows if not _fits(flow, dump)}
    except apsw.Error as error:
        raise read_failure(error) from error


def _fits(flow: Restore, dump: StreamDump) -> bool:
    try:
        return dump.whole(flow.stream) == flow
    except StreamNotFound:
        return True
    except RecordCorrupt:
        return False


def _refusal(conflicts: set[str]) -> ImportConflict:
    names = sorted(conflicts)
    some = ", ".join(repr(name) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ImportConflict(
        tuple(names), f"the store has these flows with another history, nothing was written: {some}{more}"
    )


class _Writing:
    """Writes flows in batches; `conflicts` is None if the store has none of the flows."""

    def __init__(self, store: SqliteStore, conflicts: set[str] | None) -> None:
        self._store = store
        self._conflicts = conflicts
        self._batch: list[Restore] = []
        self._bytes = 0
        self._flows = self._records = self._signals = self._present = 0

    def run(self, flows: Iterator[Restore]) -> Imported:
        """Write the flows that are missing."""
        for flow in flows:
            if self._is_there(flow):
                continue
            self._batch.append(flow)
            self._bytes += sum(len(record.data) for record in flow.records)
            if self._bytes >= _BATCH_BYTES or len(self._batch) >= _BATCH_FLOWS:
                self._commit()
        self._commit()
        conflicts = tuple(sorted(self._conflicts or ()))
        return Imported(self._flows, self._records, self._signals, self._present, conflicts)

    def _is_there(self, flow: Restore) -> bool:
        if self._conflicts is None or self._store.header(flow.stream) is None:
            return False
        self._present += flow.stream not in self._conflicts
        return True

    def _commit(self) -> None:
        batch, self._batch, self._bytes = self._batch, [], 0
        for outcome in self._store.commit(batch):
            if isinstance(outcome, Exception):
                raise outcome
        self._store.checkpoint(idle=True)
        self._flows += len(batch)
        self._records += sum(len(flow.records) for flow in batch)
        self._signals += sum(len(flow.signals) for flow in batch)
