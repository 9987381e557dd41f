"""Everything that a store holds of a stream, each row checked against its checksum."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Final, NoReturn

import apsw
import msgspec

from ..contract import HeaderChange, InboxEntry, PastSignal, Restore, StreamState
from ..errors import RecordCorrupt, StreamNotFound
from .checksum import dead_letter_seal, header_seal, signal_seal
from .names import NameTableReader
from .statements import check_order, rows, text, value
from .stream_scan import StreamScan

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ..contract import NewRecord
    from .statements import Row

_PAGE: Final = 1000

_KEYS: Final = "SELECT id FROM stream WHERE id > ? ORDER BY id LIMIT ?"
_KEY: Final = "SELECT id FROM stream WHERE name = ?"
_NAME: Final = "SELECT CAST(name AS BLOB) FROM stream WHERE id = ?"
_STREAM: Final = """
SELECT CAST(s.name AS BLOB), s.type, s.status, s.state, s.alarm, s.wake_at, s.version, s.created_at, s.seal,
  r.version, r.chain
FROM stream s
LEFT JOIN record r
  ON r.stream = s.id AND r.version = (SELECT max(version) FROM record WHERE stream = s.id)
WHERE s.id = ?
"""
_SIGNALS: Final = """
SELECT i.id, i.at, CAST(i.name AS BLOB), CAST(i.key AS BLOB), CAST(i.data AS BLOB), i.settled, i.seal,
  d.at, CAST(d.reason AS BLOB), d.seal
FROM inbox i LEFT JOIN dead_letter d ON d.inbox = i.id
WHERE i.stream = ? ORDER BY i.id
"""
_COUNT: Final = "SELECT count(*) FROM record"
_COUNT_OF: Final = "SELECT ifnull(max(version), 0) FROM record WHERE stream = ?"


class StreamHeaderRow(msgspec.Struct, frozen=True):
    """A stream without its records. `header` has the alarm that the stream has set.

    `version` is the expected one; reading the records shows whether they reach it.
    """

    key: int
    stream: str
    type: str
    header: HeaderChange
    version: int
    chain: bytes
    signals: tuple[PastSignal, ...]


class StreamDump:
    """Reads whole streams. Damage raises `RecordCorrupt`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._scan = StreamScan(lambda question: question(connection), NameTableReader(), _give_up)

    def keys(self, streams: Sequence[str] | None) -> list[int] | Iterator[int]:
        """Return the numbers of streams, in the order of their creation; None: of all.

        Raises:
            StreamNotFound: there is no stream with such a name.
        """
        return self._all_keys() if streams is None else sorted({self._key(stream) for stream in streams})

    def _all_keys(self) -> Iterator[int]:
        last = 0
        while page := rows(self._connection, _KEYS, (last, _PAGE)):
            keys = [key for (key,) in page]
            check_order([last, *keys])
            yield from keys
            last = keys[-1]

    def _key(self, stream: str) -> int:
        key: int | None = value(self._connection, _KEY, (stream,))
        if key is None:
            raise StreamNotFound(stream)
        return key

    def record_count(self, streams: Sequence[str] | None) -> int:
        if streams is None:
            return value(self._connection, _COUNT)
        return sum(value(self._connection, _COUNT_OF, (key,)) for key in self.keys(streams))

    def header_row(self, key: int) -> StreamHeaderRow:
        with self._damage_of(key):
            found = rows(self._connection, _STREAM, (key,))
            stored = rows(self._connection, _SIGNALS, (key,))
        stored_name, kind, status, state, alarm, wake_at, version, created_at, sealed, last, link = found[0]
        name, words = text(stored_name), (self._scan.word(kind)[0], self._scan.word(status)[0])
        numbers = (state, alarm, wake_at, version, created_at)
        if sealed != header_seal(name, *words, numbers) or not isinstance(last, int):
            raise RecordCorrupt(name, None, "its header does not match its checksum")
        signals = tuple(self._signal(name, key, row) for row in stored)
        header = HeaderChange(words[1], StreamState(state), alarm)
        return StreamHeaderRow(key, name, words[0], header, max(last, version), link, signals)

    @contextmanager
    def _damage_of(self, key: int) -> Generator[None]:
        try:
            yield
        except apsw.CorruptError as error:
            name = text(value(self._connection, _NAME, (key,)))
            raise RecordCorrupt(name, None, str(error)) from error

    def _signal(self, stream: str, stream_key: int, row: Row) -> PastSignal:
        number, at, stored_name, stored_key, data, settled, sealed, dead_at, stored_reason, dead_sealed = row
        entry = InboxEntry(number, at, text(stored_name), text(stored_key), data)
        if sealed != signal_seal(stream_key, entry):
            raise RecordCorrupt(stream, None, f"signal {number} does not match its checksum")
        dead = None if dead_at is None else (dead_at, text(stored_reason))
        if dead is not None and dead_sealed != dead_letter_seal(number, *dead):
            raise RecordCorrupt(
                stream, None, f"the dead letter of signal {number} does not match its checksum"
            )
        if not isinstance(settled, int | None):
            raise RecordCorrupt(stream, None, f"when signal {number} was settled is damaged")
        return PastSignal(entry.name, entry.key, data, at, settled, dead)

    def records(self, header_row: StreamHeaderRow) -> Iterator[NewRecord]:
        """Read the records of a stream one by one: together they may not fit in memory."""
        stored = chain.from_iterable(self._scan.stored(header_row.key, header_row.key))
        with self._damage_of(header_row.key):
            yield from self._scan.records(header_row.stream, header_row.version, stored)

    def whole(self, stream: str) -> Restore:
        """Read all of one stream.

        Raises:
            StreamNotFound: there is no such stream.
        """
        header_row = self.header_row(self._key(stream))
        records = tuple(self.records(header_row))
        return Restore(header_row.stream, header_row.type, header_row.header, records, header_row.signals)


def _give_up(stream: str, version: int | None, reason: str) -> NoReturn:
    raise RecordCorrupt(stream, version, reason)
