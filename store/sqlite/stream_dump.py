"""All that a store holds of a stream, each row checked against its checksum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw
import msgspec

from ..contract import HeaderChange, InboxEntry, NewRecord, PastSignal, Restore, StreamState
from ..errors import RecordCorrupt, StreamNotFound
from .checksum import dead_letter_seal, first_link, header_seal, is_linked, signal_seal
from .names import WordReader
from .statements import check_order, rows, text, value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
_RECORDS: Final = """
SELECT version, at, kind, chain, CAST(data AS BLOB) FROM record
WHERE stream = ? AND version > ? ORDER BY version LIMIT ?
"""
_SIGNALS: Final = """
SELECT i.id, i.at, CAST(i.name AS BLOB), CAST(i.key AS BLOB), CAST(i.data AS BLOB), i.settled, i.seal,
  d.at, CAST(d.reason AS BLOB), d.seal
FROM inbox i LEFT JOIN dead_letter d ON d.inbox = i.id
WHERE i.stream = ? ORDER BY i.id
"""
_COUNT: Final = "SELECT count(*) FROM record"
_COUNT_OF: Final = "SELECT ifnull(max(version), 0) FROM record WHERE stream = ?"


class Outline(msgspec.Struct, frozen=True):
    """A stream without its records. `header` has the alarm that the stream asked for.

    `version` is the one that it must have; that its records lead there is seen when they are read.
    """

    key: int
    stream: str
    type: str
    header: HeaderChange
    version: int
    chain: bytes
    signals: tuple[PastSignal, ...]


class Holdings:
    """Reads streams whole. What is not what was written raises `RecordCorrupt`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._words = WordReader()

    def keys(self, streams: Sequence[str] | None) -> list[int] | Iterator[int]:
        """Tell the numbers of streams, in the order of their creation; None: of all.

        Raises:
            StreamNotFound: there is no stream of such a name.
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
        """Count records."""
        if streams is None:
            return value(self._connection, _COUNT)
        return sum(value(self._connection, _COUNT_OF, (key,)) for key in self.keys(streams))

    def outline(self, key: int) -> Outline:
        """Read a stream without its records."""
        found = self._rows(key, _STREAM, (key,))
        stored_name, kind, status, state, alarm, wake_at, version, created_at, sealed, last, chain = found[0]
        name, words = text(stored_name), (self._word(kind), self._word(status))
        numbers = (state, alarm, wake_at, version, created_at)
        if sealed != header_seal(name, *words, numbers) or not isinstance(last, int):
            raise RecordCorrupt(name, None, "its header does not match its checksum")
        signals = tuple(self._signal(name, key, row) for row in self._rows(key, _SIGNALS, (key,)))
        header = HeaderChange(words[1], StreamState(state), alarm)
        return Outline(key, name, words[0], header, max(last, version), chain, signals)

    def _rows(self, key: int, query: str, values: Row) -> list[Row]:
        try:
            return rows(self._connection, query, values)
        except apsw.CorruptError as error:
            name = text(value(self._connection, _NAME, (key,)))
            raise RecordCorrupt(name, None, str(error)) from error

    def _word(self, key: int) -> str:
        return self._words.word(self._connection, key)[0]

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

    def records(self, outline: Outline) -> Iterator[NewRecord]:
        """Read the records of a stream; it may be longer than what should be in memory at once."""
        version, chain = 0, first_link(outline.stream)
        while version < outline.version:
            page = self._rows(outline.key, _RECORDS, (outline.key, version, _PAGE))
            if not page:
                raise RecordCorrupt(outline.stream, version + 1, "it is missing")
            for number, at, kind, found, data in page:
                version += 1
                if number != version:
                    raise RecordCorrupt(outline.stream, version, "it is missing")
                word, framed = self._words.word(self._connection, kind)
                if not is_linked(found, chain, (version, at, framed, data)):
                    raise RecordCorrupt(outline.stream, version, "its checksum does not match")
                chain = found
                yield NewRecord(at, word, data)

    def whole(self, stream: str) -> Restore:
        """Read all of one stream.

        Raises:
            StreamNotFound: there is no such stream.
        """
        outline = self.outline(self._key(stream))
        records = tuple(self.records(outline))
        return Restore(outline.stream, outline.type, outline.header, records, outline.signals)
