"""From a store to text: everything in it, or single flows, as they are at one instant.

All of it is from one snapshot, so that whatever flows have sent each other is complete. Nobody is waited
for while it lasts: what goes to a pipe is laid down in a temporary file first.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import apsw
import msgspec

from ..errors import NotWritten, RecordCorrupt
from ..files.atomic_file import AtomicFile
from ..files.forking import resting
from ..files.temporary import closed
from ..progress import unwatched
from ..sqlite.failures import read_failure
from ..sqlite.stream_dump import StreamDump
from . import transcript
from .snapshot import looked_at, snapshot, time_of
from .transcript import Counts, FirstLine, FlowLine, LastLine, RecordLine, SignalLine, form

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Sequence

    from ..contract import PastSignal
    from ..progress import Progress
    from ..sqlite.stream_dump import StreamHeaderRow
    from .snapshot import ReadOnlyStore

_CHUNK: Final = 1 << 20
_REPORTED: Final = 1000
"""Progress is told after so many records, and at the end of each flow that is longer."""


class Exported(msgspec.Struct, frozen=True):
    """What was written. `skipped` tells of damaged flows, which were left out."""

    flows: int
    records: int
    signals: int
    skipped: tuple[RecordCorrupt, ...]


def export(  # noqa: PLR0913 - all but two have a default
    store_path: str | os.PathLike[str],
    write: Callable[[bytes], object],
    *,
    flows: Sequence[str] | None = None,
    skip_damaged: bool = False,
    on_progress: Progress = unwatched,
    vfs: str | None = None,
) -> Exported:
    """Hand out a store as text, piece by piece; `write` may take its time. See `transcript`.

    Args:
        store_path: The store, whoever has it open.
        write: Takes the pieces, each in whole; what it raises ends the export.
        flows: The flows to write; None: all.
        skip_damaged: Leave flows out that are not as they were written, and tell of them.
        on_progress: Is told how many records were read, and the total; before `write` is called.
        vfs: The name of a registered SQLite VFS, for tests and simulations.

    Raises:
        StreamNotFound: there is no such flow; nothing was handed out.
        RecordCorrupt: a flow is damaged; nothing was handed out.
        NotWritten: there is no room for the temporary file; nothing was handed out.
        StoreUnusable: the store is missing, no store, too new or damaged.
    """
    with closed(_temporary_file()) as file:
        with looked_at(store_path, vfs) as look:
            exported = _exported(look, file, (flows, skip_damaged), resting(on_progress))
        file.seek(0)
        while piece := file.read(_CHUNK):
            write(piece)
    return exported


def export_file(  # noqa: PLR0913 - all but two have a default
    store_path: str | os.PathLike[str],
    target_path: str | os.PathLike[str],
    *,
    flows: Sequence[str] | None = None,
    skip_damaged: bool = False,
    overwrite: bool = False,
    on_progress: Progress = unwatched,
    vfs: str | None = None,
) -> Exported:
    """Write a store as text into a new file, which only its owner can read.

    Args:
        store_path: The store, whoever has it open.
        target_path: Where the text goes; it takes this name when it is complete and synced.
        flows: The flows to write; None: all.
        skip_damaged: Leave flows out that are not as they were written, and tell of them.
        overwrite: Replace an existing file.
        on_progress: Is told how many records were read, and the total.
        vfs: The name of a registered SQLite VFS, for tests and simulations.

    Raises:
        NotWritten: it cannot be written there, nothing is left of it and nothing else was changed.
        StoreOwned: somebody has a store open at `target_path`, or is writing to it as well.
        StreamNotFound, RecordCorrupt, StoreUnusable: as for `export`; nothing is left of it.
    """
    with looked_at(store_path, vfs) as look:
        draft = AtomicFile(target_path, look.path, overwrite=overwrite)
        with draft.create(time_of(look)), closed(draft.path.open("wb", _CHUNK)) as file:
            return _exported(look, file, (flows, skip_damaged), resting(on_progress))


def _temporary_file() -> IO[bytes]:
    with _told():
        return tempfile.TemporaryFile()


def _exported(
    look: ReadOnlyStore, file: IO[bytes], what: tuple[Sequence[str] | None, bool], report: Progress
) -> Exported:
    flows, skip_damaged = what
    try:
        with snapshot(look) as connection:
            dump = StreamDump(connection)
            writer = _Writer(file, dump, (report, dump.record_count(flows)))
            for key in dump.keys(flows):
                writer.flow(key, skip_damaged=skip_damaged)
            return writer.end()
    except apsw.Error as error:
        raise read_failure(error) from error


class _Writer:
    """Writes a transcript into a file that can be cut."""

    def __init__(self, file: IO[bytes], dump: StreamDump, progress: tuple[Progress, int]) -> None:
        self._file = file
        self._dump = dump
        self._report, self._total = progress
        self._hash = hashlib.sha256()
        self._counts = Counts(0, 0, 0)
        self._skipped: list[RecordCorrupt] = []
        self._read = 0
        self._put(transcript.encode(FirstLine(transcript.FORMAT, transcript.VERSION)))

    def flow(self, key: int, *, skip_damaged: bool) -> None:
        """Write a flow, whole or not at all."""
        begin, before = self._file.tell(), self._hash.copy()
        try:
            self._flow(self._dump.header_row(key))
        except RecordCorrupt as damage:
            if not skip_damaged:
                raise
            self._cut(begin)
            self._hash = before
            self._skipped.append(damage)

    def _flow(self, header_row: StreamHeaderRow) -> None:
        self._put(transcript.encode(_flow_line(header_row)))
        for version, record in enumerate(self._dump.records(header_row), 1):
            line = RecordLine(version=version, at=record.at, kind=record.kind, **form(record.data))
            self._put(transcript.encode(line))
            self._advance()
        for signal in header_row.signals:
            self._put(transcript.encode(_signal_line(signal)))
        counts = self._counts
        signals = counts.signals + len(header_row.signals)
        self._counts = Counts(counts.flows + 1, counts.records + header_row.version, signals)

    def _put(self, line: bytes) -> None:
        line += b"\n"
        self._hash.update(line)
        with _told():
            self._file.write(line)

    def _cut(self, size: int) -> None:
        with _told():
            self._file.seek(size)
            self._file.truncate()

    def _advance(self) -> None:
        self._read += 1
        if self._read % _REPORTED == 0:
            self._report(self._read, self._total)

    def end(self) -> Exported:
        """Write the last line, and say what was written."""
        self._put(transcript.encode(LastLine(self._counts, self._hash.hexdigest())))
        with _told():
            self._file.flush()
        self._report(self._total, self._total)
        counts = self._counts
        return Exported(counts.flows, counts.records, counts.signals, tuple(self._skipped))


def _flow_line(header_row: StreamHeaderRow) -> FlowLine:
    header = header_row.header
    return FlowLine(
        flow=header_row.stream,
        type=header_row.type,
        status=header.status,
        state=header.state.name.lower(),  # pyright: ignore[reportArgumentType] - the names are these
        records=header_row.version,
        signals=len(header_row.signals),
        chain=header_row.chain.hex(),
        wake_at=header.wake_at,
    )


def _signal_line(signal: PastSignal) -> SignalLine:
    return SignalLine(
        signal=signal.name,
        key=signal.key,
        at=signal.at,
        settled=signal.settled,
        dead=signal.dead,
        **form(signal.data),
    )


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise NotWritten(f"the export could not be written, and was removed: {error.strerror}") from error
