"""From a store to text: everything in it, or single flows, as they are at one instant.

All of it is from one snapshot, so messages between flows are complete. The snapshot waits for nothing: output
to a pipe goes through a temporary file.
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
"""Progress is reported after this many records, and at the end."""


class Exported(msgspec.Struct, frozen=True):
    """What was written. `skipped` reports damaged flows, which were left out."""

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
    """Pass a store as text to `write`, piece by piece; `write` may be slow. See `transcript`.

    Args:
        store_path: The store, whoever has it open.
        write: Receives the pieces, each in whole; what it raises ends the export.
        flows: The flows to write; None: all.
        skip_damaged: Leave damaged flows out, and report them.
        on_progress: Receives the number of records read, and the total; before `write` is called.
        vfs: The name of a registered SQLite VFS, for tests and simulations.

    Raises:
        StreamNotFound: there is no such flow; nothing was passed on.
        RecordCorrupt: a flow is damaged; nothing was passed on.
        NotWritten: there is no room for the temporary file; nothing was passed on.
        StoreUnusable: the store is missing, not a store, too new or damaged.
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

    The file takes the name `target_path` when it is complete and synced; `overwrite` replaces an existing
    one. Other arguments are as for `export`.

    Raises:
        NotWritten: it cannot be written there; nothing is left of it, and nothing else was changed.
        StoreOwned: another has a store open at `target_path`, or is writing to it as well.
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
    """Writes a transcript into a file that can be truncated."""

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
            with _told():
                self._file.seek(begin)
                self._file.truncate()
            self._hash = before
            self._skipped.append(damage)

    def _flow(self, header_row: StreamHeaderRow) -> None:
        self._put(transcript.encode(_flow_line(header_row)))
        for version, record in enumerate(self._dump.records(header_row), 1):
            line = RecordLine(version=version, at=record.at, kind=record.kind, **form(record.data))
            self._put(transcript.encode(line))
            self._read += 1
            if self._read % _REPORTED == 0:
                self._report(self._read, self._total)
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

    def end(self) -> Exported:
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
