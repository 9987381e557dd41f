"""Reading transcripts, which are not trusted: each line is checked before its content is used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import apsw
import msgspec

from ..contract import HeaderChange, NewRecord, PastSignal, Restore, StoreLimits, StreamState
from ..errors import NotAnExport
from ..sqlite.checksum import first_link, framed, link
from ..sqlite.statements import run
from .transcript import (
    FORMAT,
    VERSION,
    Counts,
    FirstLine,
    FlowLine,
    LastLine,
    Line,
    Payload,
    RecordLine,
    SignalLine,
    is_too_deep,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

L = TypeVar("L", bound=Line)

_NO_EXPORT: Final = "the file is not an export of a store"
_ESCAPED: Final = 6
"""A byte of a payload takes this many characters at most."""
_AROUND: Final = 64 * 1024
"""The maximum length of a line without its payload."""

DEFAULT_LIMITS: Final = StoreLimits()

_decoders: Final[dict[type[Line], msgspec.json.Decoder[Any]]] = {
    line: msgspec.json.Decoder(line) for line in (FirstLine, FlowLine, RecordLine, SignalLine, LastLine)
}


def read_export(path: str | os.PathLike[str], *, limits: StoreLimits = DEFAULT_LIMITS) -> list[Restore]:
    """Read and check an export without a store: flows with their records and signals.

    Raises:
        NotAnExport: it is not an export, was cut off or was changed; `line` says where.
    """
    with opened_text(path) as file:
        return list(TranscriptReader(file, limits).flows())


def opened_text(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file, unless it is a store: closing that would drop an engine's locks in this process.

    Raises:
        NotAnExport: it cannot be read, or is a store, judging by the files beside it.
    """
    where = Path(path)
    if any(where.parent.joinpath(where.name + suffix).exists() for suffix in (".lock", "-wal")):
        raise NotAnExport(None, f"{where} is a store, not an export of one")
    try:
        return where.open("rb")
    except OSError as error:
        raise NotAnExport(None, f"cannot read {where}: {error.strerror}") from error


class TranscriptReader:
    """Reads one transcript, once. Memory is that of its largest flow."""

    def __init__(self, file: IO[bytes], limits: StoreLimits) -> None:
        self._file = file
        self._limits = limits
        self._longest = _ESCAPED * limits.data + _AROUND
        self._hash = hashlib.sha256()
        self._counts = Counts(0, 0, 0)
        self.line = 0
        self.bytes = 0
        """The number of bytes read."""

    def flows(self) -> Iterator[Restore]:
        """Read flow by flow. Only after the last one is it known that nothing is missing.

        Raises:
            NotAnExport: a line is not what must come next.
        """
        self._first()
        names = _Names()
        try:
            while not (raw := self._next()).startswith(b'{"end":'):
                self._hash.update(raw)
                flow = self._flow(self._decoded(raw, FlowLine, "a flow, or the end"), names)
                yield flow
            self._last(self._decoded(raw, LastLine, "the end"))
        finally:
            names.close()

    def _first(self) -> None:
        raw = self._next()
        self._hash.update(raw)
        try:
            first = self._decoded(raw, FirstLine, "")
        except NotAnExport:
            raise NotAnExport(1, _NO_EXPORT) from None
        if first.format != FORMAT:
            raise NotAnExport(1, _NO_EXPORT)
        if first.version != VERSION:
            self._refuse(
                f"the export has version {first.version}, this code knows {VERSION}: use a newer one"
            )

    def _flow(self, announced: FlowLine, names: _Names) -> Restore:
        begin, name = self.line, announced.flow
        if not names.add(name):
            self._refuse(f"flow {name!r} occurs twice")
        if announced.records < 1:
            self._refuse(f"flow {name!r} has no records")
        records: list[NewRecord] = []
        chain = first_link(name)
        for version in range(1, announced.records + 1):
            record = self._record(version)
            chain = link(chain, version, record.at, framed(record.kind), record.data)
            records.append(record)
        if chain.hex() != announced.chain:
            raise NotAnExport(begin, f"flow {name!r} does not have the records that were exported")
        signals = self._signals(announced)
        counts = self._counts
        self._counts = Counts(counts.flows + 1, counts.records + len(records), counts.signals + len(signals))
        header = HeaderChange(announced.status, StreamState[announced.state.upper()], announced.wake_at)
        return Restore(name, announced.type, header, tuple(records), signals)

    def _record(self, version: int) -> NewRecord:
        line = self._line(RecordLine, f"record {version}")
        if line.version != version:
            self._refuse(f"record {version} is expected, not {line.version}")
        return NewRecord(line.at, line.kind, self._payload(line))

    def _signals(self, announced: FlowLine) -> tuple[PastSignal, ...]:
        found: dict[str, PastSignal] = {}
        for number in range(1, announced.signals + 1):
            line = self._line(SignalLine, f"signal {number}")
            if line.key in found:
                self._refuse(f"signal {line.key!r} occurs twice")
            if line.settled is None and (line.dead is not None or announced.state == "ended"):
                self._refuse(f"signal {line.key!r} can no longer wait")
            if line.settled is not None and not 1 <= line.settled <= announced.records:
                self._refuse(f"signal {line.key!r} is settled by a record that is not there")
            data = self._payload(line)
            found[line.key] = PastSignal(line.signal, line.key, data, line.at, line.settled, line.dead)
        return tuple(found.values())

    def _payload(self, line: Payload) -> bytes:
        try:
            data = line.payload()
        except ValueError as error:
            self._refuse(str(error))
        if len(data) > self._limits.data:
            self._refuse(f"the payload has {len(data)} bytes, more than the limit of {self._limits.data}")
        return data

    def _last(self, last: LastLine) -> None:
        if last.end != self._counts or last.sha256 != self._hash.hexdigest():
            self._refuse("the file was changed: its content does not match its checksum")
        if self._file.read(1):
            self._refuse("something follows the end")

    # Lines

    def _line(self, kind: type[L], expected: str) -> L:
        raw = self._next()
        self._hash.update(raw)
        return self._decoded(raw, kind, expected)

    def _next(self) -> bytes:
        raw = self._file.readline(self._longest)
        self.line += 1
        self.bytes += len(raw)
        if not raw.endswith(b"\n"):
            if len(raw) == self._longest:
                self._refuse(f"it exceeds the limit of {self._longest} bytes")
            self._refuse("the file ends here: it was cut off, or is still being written")
        return raw

    def _decoded(self, raw: bytes, kind: type[L], expected: str) -> L:
        if is_too_deep(raw):
            self._refuse("it is nested too deeply")
        try:
            return _decoders[kind].decode(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            self._refuse(f"{expected} is expected: {error}")

    def _refuse(self, reason: str) -> NoReturn:
        raise NotAnExport(self.line, reason)


class _Names:
    """The flows' names so far, on disk if there are many."""

    def __init__(self) -> None:
        self._connection = apsw.Connection("")
        run(self._connection, "CREATE TABLE name (name TEXT PRIMARY KEY) WITHOUT ROWID")
        run(self._connection, "BEGIN")

    def add(self, name: str) -> bool:
        """Remember a name; return whether it is new."""
        run(self._connection, "INSERT OR IGNORE INTO name VALUES (?)", (name,))
        return self._connection.changes() == 1

    def close(self) -> None:
        self._connection.close()
