"""What can be asked of a store, each question on a connection of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw

from .batch import signal_seal
from .checksum import first_link, is_linked
from .contract import DeadLetter, GlobalRecord, Header, InboxEntry, Record, StreamState
from .errors import RecordCorrupt, StreamNotFound
from .statements import rows, text, value
from .streams import state_of

if TYPE_CHECKING:
    from .statements import Row
    from .words import WordReader

# Text is read as bytes: a damaged name must not keep anybody from reading what is beside it.
_HEADER: Final = """
SELECT s.id, CAST(s.name AS BLOB), s.type, s.status, s.state,
  ifnull(r.version, s.version), s.wake_at, s.created_at, ifnull(r.at, s.created_at)
FROM stream s
LEFT JOIN record r
  ON r.stream = s.id AND r.version = (SELECT max(version) FROM record WHERE stream = s.id)
"""
_HEADER_BY_NAME: Final = _HEADER + "WHERE s.name = ?"
_HEADERS: Final = (
    _HEADER
    + """
WHERE s.id > ?1 AND (?2 IS NULL OR s.type = ?2) AND (?3 IS NULL OR s.status = ?3)
ORDER BY s.id LIMIT ?4
"""
)
# In two parts, since SQLite does not find the place of (wake_at, id) in the index by itself.
_DUE_THEN: Final = _HEADER + "WHERE s.wake_at = ? AND s.id > ? ORDER BY s.id LIMIT ?"
_DUE_LATER: Final = _HEADER + "WHERE s.wake_at > ? AND s.wake_at <= ? ORDER BY s.wake_at, s.id LIMIT ?"
_NEXT_WAKE: Final = "SELECT min(wake_at) FROM stream WHERE wake_at IS NOT NULL"
_NEWEST: Final = """
SELECT max(at) FROM (
  SELECT * FROM (SELECT at FROM record ORDER BY position DESC LIMIT 1)
  UNION ALL SELECT * FROM (SELECT at FROM inbox ORDER BY id DESC LIMIT 1)
)
"""
_STREAM: Final = "SELECT id FROM stream WHERE name = ?"
_READ: Final = """
SELECT version, at, kind, chain, CAST(data AS BLOB) FROM record
WHERE stream = ? AND version >= ? ORDER BY version LIMIT ?
"""
_READ_ALL: Final = """
SELECT r.position, CAST(s.name AS BLOB), r.version, r.at, r.kind, r.chain, CAST(r.data AS BLOB),
  (SELECT chain FROM record b WHERE b.stream = r.stream AND b.version = r.version - 1)
FROM record r
LEFT JOIN stream s ON s.id = r.stream
WHERE r.position > ? ORDER BY r.position LIMIT ?
"""
_INBOX: Final = """
SELECT id, at, CAST(name AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB), seal FROM inbox
WHERE stream = ? AND settled IS NULL ORDER BY id LIMIT ?
"""
_DEAD_LETTERS: Final = """
SELECT d.id, d.at, CAST(s.name AS BLOB), CAST(i.name AS BLOB), CAST(i.key AS BLOB),
  CAST(i.data AS BLOB), CAST(d.reason AS BLOB)
FROM dead_letter d
LEFT JOIN inbox i ON i.id = d.inbox
LEFT JOIN stream s ON s.id = i.stream
WHERE d.id > ? ORDER BY d.id LIMIT ?
"""
_DEAD_LETTERS_OF: Final = """
SELECT d.id, d.at, CAST(s.name AS BLOB), CAST(i.name AS BLOB), CAST(i.key AS BLOB),
  CAST(i.data AS BLOB), CAST(d.reason AS BLOB)
FROM stream s
JOIN inbox i ON i.stream = s.id
JOIN dead_letter d ON d.inbox = i.id
WHERE s.name = ? AND d.id > ? ORDER BY d.id LIMIT ?
"""

_BEFORE_ALL: Final = -(2**63)
_UNLIMITED: Final = -1


class Queries:
    """Questions to a connection that the caller lends."""

    def __init__(self, words: WordReader) -> None:
        self._words = words

    def header(self, connection: apsw.Connection, stream: str) -> Header | None:
        """See `EventStore.header`."""
        found = rows(connection, _HEADER_BY_NAME, (stream,))
        return self._header(connection, found[0]) if found else None

    def headers(
        self,
        connection: apsw.Connection,
        of: tuple[str | None, str | None],
        after: str | None,
        limit: int,
    ) -> list[Header]:
        """See `EventStore.headers`; `of` are type and status."""
        first = 0 if after is None else self._stream(connection, after)
        keys = [None if word is None else self._words.key(connection, word) or 0 for word in of]
        found = rows(connection, _HEADERS, (first, *keys, limit))
        return [self._header(connection, row) for row in found]

    def due(
        self,
        connection: apsw.Connection,
        before: int,
        after: tuple[int, str] | None,
        limit: int,
    ) -> list[Header]:
        """See `EventStore.due`."""
        found: list[Row] = []
        then = _BEFORE_ALL
        if after is not None:
            then, stream = after
            key = self._stream(connection, stream)
            if then <= before:
                found += rows(connection, _DUE_THEN, (then, key, limit))
        found += rows(connection, _DUE_LATER, (then, before, limit - len(found)))
        return [self._header(connection, row) for row in found]

    def next_wake_at(self, connection: apsw.Connection) -> int | None:
        """See `EventStore.next_wake_at`."""
        return value(connection, _NEXT_WAKE)

    def newest_at(self, connection: apsw.Connection) -> int | None:
        """See `EventStore.newest_at`."""
        return value(connection, _NEWEST)

    def read(self, connection: apsw.Connection, stream: str, after: int, limit: int | None) -> list[Record]:
        """See `EventStore.read`."""
        key = self._stream(connection, stream)
        after = max(after, 0)
        wanted = _UNLIMITED if limit is None else limit
        if after == 0:
            before = first_link(stream)
        else:
            # One row more: each record can only be checked against the one before it.
            wanted += limit is not None
            before = b""
        try:
            found = rows(connection, _READ, (key, after, wanted))
        except apsw.CorruptError as error:
            raise RecordCorrupt(stream, None, str(error)) from error
        if after and found:
            if found[0][0] != after:
                raise RecordCorrupt(stream, after, "it is missing")
            before = found.pop(0)[3]
        return self._checked(connection, stream, found, (after, before))

    def _checked(
        self, connection: apsw.Connection, stream: str, stored: list[Row], start: tuple[int, bytes]
    ) -> list[Record]:
        expected, before = start
        records: list[Record] = []
        for version, at, kind, chain, data in stored:
            expected += 1
            if version != expected:
                raise RecordCorrupt(stream, expected, "it is missing")
            word, framed = self._words.word(connection, kind)
            if not is_linked(chain, before, (version, at, framed, data)):
                raise RecordCorrupt(stream, version, "its checksum does not match")
            before = chain
            records.append(Record(version, at, word, data))
        return records

    def read_all(self, connection: apsw.Connection, after: int, limit: int) -> list[GlobalRecord]:
        """See `EventStore.read_all`."""
        found: list[GlobalRecord] = []
        for position, name, version, at, kind, chain, data, before in rows(
            connection, _READ_ALL, (after, limit)
        ):
            stream = text(name)
            if before is None:
                before = first_link(stream)  # noqa: PLW2901 - nothing is before the first
            word, framed = self._words.word(connection, kind)
            if not is_linked(chain, before, (version, at, framed, data)):
                raise RecordCorrupt(stream, version, "its checksum does not match")
            found.append(GlobalRecord(position, stream, Record(version, at, word, data)))
        return found

    def inbox(self, connection: apsw.Connection, stream: str, limit: int) -> list[InboxEntry]:
        """See `EventStore.inbox`."""
        stream_key = self._stream(connection, stream)
        entries: list[InboxEntry] = []
        for number, at, name, key, data, seal in rows(connection, _INBOX, (stream_key, limit)):
            entry = InboxEntry(number, at, text(name), text(key), data)
            if seal != signal_seal(stream_key, entry):
                raise RecordCorrupt(stream, None, f"signal {number} in its inbox does not match its checksum")
            entries.append(entry)
        return entries

    def dead_letters(
        self, connection: apsw.Connection, of: str | None, after: int, limit: int
    ) -> list[DeadLetter]:
        """See `EventStore.dead_letters`."""
        if of is None:
            found = rows(connection, _DEAD_LETTERS, (after, limit))
        else:
            found = rows(connection, _DEAD_LETTERS_OF, (of, after, limit))
        return [
            DeadLetter(number, at, text(stream), text(name), text(key), data or b"", text(reason))
            for number, at, stream, name, key, data, reason in found
        ]

    def _stream(self, connection: apsw.Connection, name: str) -> int:
        key: int | None = value(connection, _STREAM, (name,))
        if key is None:
            raise StreamNotFound(name)
        return key

    def _header(self, connection: apsw.Connection, row: Row) -> Header:
        _, name, kind, status, state, version, wake_at, created_at, updated_at = row
        numbers = (version, wake_at or 0, created_at, updated_at)
        is_sound = all(isinstance(number, int) for number in numbers)
        return Header(
            stream=text(name),
            type=self._words.word(connection, kind)[0],
            status=self._words.word(connection, status)[0],
            # Of a damaged one the numbers that are there are told, and somebody must look first.
            state=state_of(state) if is_sound else StreamState.HELD,
            version=_number(version),
            wake_at=wake_at if is_sound else None,
            created_at=_number(created_at),
            updated_at=_number(updated_at),
        )


def _number(stored: object) -> int:
    return stored if isinstance(stored, int) else 0
