"""The queries of a store, each on a connection that the caller lends.

A damaged page or row must not hide what is beside it. So a query about many streams runs once for all of
them, and if that fails for smaller and smaller parts (`around`): by the table where an index is damaged, and
by the index where the table is.
"""

from __future__ import annotations

from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeVar

import apsw
from msgspec import structs

from ..contract import (
    GlobalRecord,
    Header,
    InboxEntry,
    Inspection,
    LoadedStream,
    Record,
    StreamState,
    Unreadable,
)
from ..errors import RecordCorrupt, StreamNotFound
from .checksum import first_link, header_seal, is_linked, signal_seal
from .failures import read_failure
from .salvage import (
    Gap,
    around,
    by_either_index,
    chunks,
    created_at,
    key_by_table,
    last_position,
    last_stream,
    names,
    newest,
    places,
    records,
    records_by_table,
    wakes,
)
from .statements import check_order, roll_back, rows, run, text, value
from .streams import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .names import NameTableReader
    from .statements import Row

# Text is read as bytes: a damaged name must not hide what is beside it.
_STREAM_COLUMNS: Final = """
s.id, CAST(s.name AS BLOB), s.type, s.status, s.state, s.alarm, s.wake_at, s.version, s.created_at, s.seal
"""
_NEWEST_RECORD: Final = """
LEFT JOIN record r
  ON r.stream = s.id AND r.version = (SELECT max(version) FROM record WHERE stream = s.id)
"""
_HEADER: Final = f"SELECT {_STREAM_COLUMNS}, r.version, r.at FROM stream s {_NEWEST_RECORD}"  # noqa: S608 - of constants
_HEADER_BY_NAME: Final = _HEADER + "WHERE s.name = ?"
_HEADERS: Final = (
    _HEADER
    + """
WHERE s.id > ?1 AND (?2 IS NULL OR s.type = ?2) AND (?3 IS NULL OR s.status = ?3)
ORDER BY s.id LIMIT ?4
"""
)
# In two parts, since SQLite does not find the place of (wake_at, id) in the index by itself.
_DUE_THEN: Final = """
SELECT wake_at, id FROM stream INDEXED BY stream_due WHERE wake_at = ? AND id > ? ORDER BY id LIMIT ?
"""
_DUE_LATER: Final = """
SELECT wake_at, id FROM stream INDEXED BY stream_due WHERE wake_at > ? AND wake_at <= ?
ORDER BY wake_at, id LIMIT ?
"""
_DUE: Final = f"""
SELECT {_STREAM_COLUMNS}, r.version, r.at, d.wake_at, d.id FROM ({{}}) d
LEFT JOIN stream s ON s.id = d.id {_NEWEST_RECORD} ORDER BY d.wake_at, d.id
"""  # noqa: S608 - of constants
# This looks a row up in the indexes, since a stream is found by them.
_INSPECT: Final = f"""
SELECT {_STREAM_COLUMNS}, s.version, s.created_at,
  EXISTS (SELECT 1 FROM stream n INDEXED BY sqlite_autoindex_stream_1 WHERE n.name = s.name AND n.id = s.id)
  AND (s.wake_at IS NULL
    OR EXISTS (SELECT 1 FROM stream d INDEXED BY stream_due WHERE d.wake_at = s.wake_at AND d.id = s.id))
FROM stream s NOT INDEXED WHERE s.id > ? ORDER BY s.id LIMIT ?
"""  # noqa: S608 - of constants
_STREAM_BY_NAME: Final = f"SELECT {_STREAM_COLUMNS} FROM stream s WHERE s.name = ?"  # noqa: S608 - of constants
_STREAMS: Final = f"""
SELECT {_STREAM_COLUMNS} FROM stream s NOT INDEXED WHERE s.id BETWEEN ?1 AND ?2
ORDER BY s.id LIMIT ?2 - ?1 + 1
"""  # noqa: S608 - of constants
_NEXT_WAKE: Final = "SELECT min(wake_at) FROM stream WHERE wake_at IS NOT NULL"
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
"""
_READ_AFTER: Final = _READ_ALL + "WHERE r.position > ? ORDER BY r.position LIMIT ?"
# Limited, so that SQLite does not look for more on the page after the last row.
_READ_BETWEEN: Final = _READ_ALL + "WHERE r.position BETWEEN ?1 AND ?2 ORDER BY r.position LIMIT ?2 - ?1 + 1"
_INBOX: Final = """
SELECT id, at, CAST(name AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB), seal
FROM inbox INDEXED BY {} WHERE stream = ? AND settled IS NULL ORDER BY id LIMIT ?
"""
_NEWEST_SIGNAL: Final = """
SELECT stream, seal, id, at, CAST(name AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB) FROM inbox
WHERE id <= ? ORDER BY id DESC LIMIT 1
"""
# How many streams one statement loads; each size is a statement of its own in APSW's cache.
_PAGES: Final = (1, 4, 16, 64)
_LOAD_STREAMS: Final = f"""
SELECT {_STREAM_COLUMNS}, (SELECT max(version) FROM record WHERE stream = s.id)
FROM stream s WHERE s.name IN ({{}})
"""  # noqa: S608 - of constants
_LOAD_RECORDS: Final = """
SELECT stream, version, at, kind, chain, CAST(data AS BLOB) FROM record
WHERE stream IN ({}) AND version <= {} ORDER BY stream, version
"""
_LOAD_SIGNALS: Final = """
SELECT stream, id, at, CAST(name AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB), seal
FROM inbox INDEXED BY inbox_waiting WHERE stream IN ({}) AND settled IS NULL ORDER BY stream, id LIMIT {}
"""

_BEFORE_ALL: Final = -(2**63)
_AFTER_ALL: Final = 2**63 - 1
_UNLIMITED: Final = -1
_MISSING: Final = "it is missing"
_ALTERED: Final = "its checksum does not match"
_UNCHECKED: Final = "it cannot be checked, since the one before it cannot be read"
_UNREAD: Final = "its header cannot be read"
_UNKNOWN: Final = "?"


class Queries:
    """See the module; methods are described in `EventReader`."""

    def __init__(self, words: NameTableReader) -> None:
        self._words = words
        self.has_met_damage = False
        """Whether a history could not be read by the index of records."""
        self.doubts_index = True
        """Whether that index may be to blame: it was not compared with its table."""

    # Headers

    def header(self, connection: apsw.Connection, stream: str) -> Header | None:
        """See `EventStore.header`."""
        try:
            found = rows(connection, _HEADER_BY_NAME, (stream,))
        except apsw.CorruptError:
            key = self._key(connection, stream)
            return None if key is None else self._salvaged(connection, key, stream)
        return self._header(connection, found[0], name=stream) if found else None

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
        try:
            found = rows(connection, _HEADERS, (first, *keys, limit))
        except apsw.CorruptError:
            left = self._left(connection, first + 1, last_stream(connection))
            return list(islice((header for header in left if _is_of(header, of)), limit))
        return [self._header(connection, row) for row in found]

    def due(
        self,
        connection: apsw.Connection,
        before: int,
        after: tuple[int, str] | None,
        limit: int,
    ) -> list[Header]:
        """See `EventStore.due`."""
        then, key = _BEFORE_ALL, 0
        if after is not None:
            then, stream = after
            key = self._stream(connection, stream) if stream else 0
        found: list[Row] = []
        try:
            if after is not None and then <= before:
                found += rows(connection, _DUE.format(_DUE_THEN), (then, key, limit))
            found += rows(connection, _DUE.format(_DUE_LATER), (then, before, limit - len(found)))
        except apsw.CorruptError:
            return self._due_around(connection, before, (then, key), limit)
        return [self._due(connection, row) for row in found]

    def _due(self, connection: apsw.Connection, row: Row) -> Header:
        *_, wake_at, key = row
        found = self._header(connection, row[:-2]) if row[0] == key else self._salvaged(connection, key)
        return found if found.damage is None else structs.replace(found, wake_at=wake_at)

    def _due_around(
        self, connection: apsw.Connection, before: int, after: tuple[int, int], limit: int
    ) -> list[Header]:
        try:
            found = rows(connection, _DUE_THEN, (*after, limit))
            found += rows(connection, _DUE_LATER, (after[0], before, limit - len(found)))
        except apsw.CorruptError:
            found = [row for row in wakes(connection) if row > after]
        return [
            # As in the index, since the caller asks for the next page with it.
            structs.replace(self._salvaged(connection, key), wake_at=wake_at)
            for wake_at, key in found[:limit]
            if wake_at <= before
        ]

    def next_wake_at(self, connection: apsw.Connection) -> int | None:
        """See `EventStore.next_wake_at`."""
        try:
            return value(connection, _NEXT_WAKE)
        except apsw.CorruptError:
            return next((wake_at for wake_at, _ in wakes(connection)), None)

    def inspect(self, connection: apsw.Connection, after: int, limit: int) -> Inspection:
        """See `EventStore.inspect`."""
        try:
            found = rows(connection, _INSPECT, (after, limit))
            check_order([after, *(row[0] for row in found)])
        except apsw.CorruptError:
            return self._inspect_around(connection, after, limit)
        headers = [self._header(connection, row[:-1]) for row in found]
        damaged = [header for header in headers if header.damage is not None]
        is_index_damaged = not all(row[-1] for row in found)
        return Inspection(damaged, is_index_damaged, found[-1][0] if len(found) == limit else None)

    def _inspect_around(self, connection: apsw.Connection, after: int, limit: int) -> Inspection:
        last = last_stream(connection)
        end = min(after + limit, last)
        damaged = [h for h in self._left(connection, after + 1, end) if h.damage is not None]
        return Inspection(damaged, is_index_damaged=True, after=end if end < last else None)

    def _left(self, connection: apsw.Connection, first: int, last: int) -> Iterator[Header]:
        """Read headers by number; of damaged ones perhaps only the name, or only that there is one."""
        for start, end in chunks(first, last):
            known: dict[int, str] | None = None
            for found in around(lambda a, b: rows(connection, _STREAMS, (a, b)), start, end):
                if not isinstance(found, Gap):
                    yield self._joined(connection, found)
                    continue
                known = names(connection, start, end) if known is None else known
                name = known.get(found.key)
                header = self._lost(connection, found.key, name, found.reason)
                # A number may have been given out for nothing.
                if name is not None or header.version:
                    yield header

    def _salvaged(self, connection: apsw.Connection, key: int, name: str | None = None) -> Header:
        try:
            found = rows(connection, _STREAMS, (key, key))
        except apsw.CorruptError as error:
            reason = str(error)
        else:
            if found:
                return self._joined(connection, found[0], name)
            reason = _MISSING
        known = names(connection, key, key).get(key) if name is None else name
        return self._lost(connection, key, known, reason)

    def _joined(self, connection: apsw.Connection, row: Row, name: str | None = None) -> Header:
        last = newest(connection, row[0], by_table=name is not None)
        return self._header(connection, (*row, last.version, last.at), name=name, damage=last.damage)

    def _lost(self, connection: apsw.Connection, key: int, name: str | None, reason: str) -> Header:
        """Return a header for a stream whose own cannot be read."""
        last = newest(connection, key, by_table=False)
        began = created_at(connection, key)
        return Header(
            stream=f"stream {key}?" if name is None else name,
            type=_UNKNOWN,
            status=_UNKNOWN,
            state=StreamState.HELD,
            version=_number(last.version),
            wake_at=None,
            created_at=began,
            updated_at=_number(last.at) or began,
            damage=f"{_UNREAD}: {reason}",
            is_sound=False,
        )

    def _header(
        self, connection: apsw.Connection, row: Row, *, name: str | None = None, damage: str | None = None
    ) -> Header:
        key, stored_name, _, _, state, _, wake_at, version, created, _, last, last_at = row
        seen = text(stored_name) if name is None else name
        if not isinstance(last, int):  # a damaged index may hold anything
            last = None
        words = self._words_of(connection, row)
        is_sound = _is_sealed(row, seen, *words)
        if not is_sound:
            other = names(connection, key, key).get(key, seen)
            if _is_sealed(row, other, *words):
                seen, is_sound, damage = other, True, "its name does not match its checksum"
        if not is_sound:
            damage = "its header does not match its checksum"
        elif last is None or last < version:
            last = version
            damage = damage or "its last records are missing"
        are_numbers = all(isinstance(number, int) for number in (version, wake_at or 0, created))
        return Header(
            stream=seen,
            type=words[0],
            status=words[1],
            # A damaged one keeps what numbers it has, and waits for an operator.
            state=state_of(state) if are_numbers else StreamState.HELD,
            version=_number(version if last is None else last),
            wake_at=wake_at if are_numbers else None,
            created_at=_number(created),
            updated_at=_number(created if last_at is None else last_at),
            damage=damage,
            is_sound=is_sound,
        )

    def _stream(self, connection: apsw.Connection, name: str) -> int:
        key = self._key(connection, name)
        if key is None:
            raise StreamNotFound(name)
        return key

    def _key(self, connection: apsw.Connection, name: str) -> int | None:
        try:
            return value(connection, _STREAM, (name,))
        except apsw.CorruptError:
            key = key_by_table(connection, name)
            if key is None:
                raise  # perhaps there is such a stream, and perhaps not
            return key

    # Records

    def newest_at(self, connection: apsw.Connection) -> int | None:
        """See `EventStore.newest_at`."""
        found = [self._newest_record_at(connection), self._newest_signal_at(connection)]
        return max((at for at in found if at is not None), default=None)

    def _newest_record_at(self, connection: apsw.Connection) -> int | None:
        last, step = last_position(connection), 1
        while last > 0:
            found = self.scan_all(connection, max(last - step, 0), step)
            sound = [one.record.at for one in found if isinstance(one, GlobalRecord)]
            if sound:
                return sound[-1]
            last, step = last - step, step * 2
        return None

    def _newest_signal_at(self, connection: apsw.Connection) -> int | None:
        last: int | None = _AFTER_ALL
        while last is not None:
            try:
                found = rows(connection, _NEWEST_SIGNAL, (last,))
            except apsw.CorruptError:
                return None  # the records' instants are good enough
            last = None
            for stream, sealed, number, at, name, key, data in found:
                if sealed == signal_seal(stream, InboxEntry(number, at, text(name), text(key), data)):
                    return at
                last = number - 1
        return None

    def read(self, connection: apsw.Connection, stream: str, after: int, limit: int | None) -> list[Record]:
        """See `EventStore.read`."""
        try:
            return self._read(connection, stream, max(after, 0), limit)
        except (apsw.CorruptError, RecordCorrupt) as error:
            found = self._scanned(connection, stream, max(after, 0), limit)
            if isinstance(error, RecordCorrupt) and error.version == after and _has_gaps(found):
                raise  # the one before them is missing
            return _sound(found)

    def _read(self, connection: apsw.Connection, stream: str, after: int, limit: int | None) -> list[Record]:
        key, end = self._place(connection, stream) if limit is None else (self._stream(connection, stream), 0)
        wanted = _UNLIMITED if limit is None else limit
        if after == 0:
            before = first_link(stream)
        else:
            # One more row, since each record is checked against the one before it.
            wanted += limit is not None
            before = b""
        found = rows(connection, _READ, (key, after, wanted))
        if after and found:
            if found[0][0] != after:
                raise RecordCorrupt(stream, after, _MISSING)
            before = found.pop(0)[3]
        if after + len(found) < end:
            raise RecordCorrupt(stream, after + len(found) + 1, _MISSING)
        return self._checked(connection, stream, found, (after, before))

    def _place(self, connection: apsw.Connection, stream: str) -> tuple[int, int]:
        """Return a stream's number and its version; 0: its header does not hold it."""
        try:
            found = rows(connection, _STREAM_BY_NAME, (stream,))
        except apsw.CorruptError:
            return self._stream(connection, stream), 0
        if not found:
            raise StreamNotFound(stream)
        row = found[0]
        return row[0], row[7] if _is_sealed(row, stream, *self._words_of(connection, row)) else 0

    def _words_of(self, connection: apsw.Connection, row: Row) -> tuple[str, str]:
        word = self._words.word
        return word(connection, row[2])[0], word(connection, row[3])[0]

    def _checked(
        self, connection: apsw.Connection, stream: str, stored: list[Row], start: tuple[int, bytes]
    ) -> list[Record]:
        expected, before = start
        records: list[Record] = []
        for version, at, kind, chain, data in stored:
            expected += 1
            if version != expected:
                raise RecordCorrupt(stream, expected, _MISSING)
            word, framed = self._words.word(connection, kind)
            if not is_linked(chain, before, (version, at, framed, data)):
                raise RecordCorrupt(stream, version, _ALTERED)
            before = chain
            records.append(Record(version, at, word, data))
        return records

    def scan(
        self, connection: apsw.Connection, stream: str, after: int, limit: int | None
    ) -> list[Record | Unreadable]:
        """See `EventStore.scan`."""
        try:
            return [*self.read(connection, stream, after, limit)]
        except RecordCorrupt:
            return self._scanned(connection, stream, max(after, 0), limit)

    def _scanned(
        self, connection: apsw.Connection, stream: str, after: int, limit: int | None
    ) -> list[Record | Unreadable]:
        """Read as much as possible; also by the table, as long as it may be the index that is damaged."""
        place = self._place(connection, stream)
        question = (connection, place[0], after or 1, _UNLIMITED if limit is None else limit + (after > 0))
        found = self._assembled(connection, stream, (after, place[1], limit), records(*question))
        if _has_gaps(found):
            self.has_met_damage = True
            if self.doubts_index:
                by_table = self._assembled(
                    connection, stream, (after, place[1], limit), records_by_table(*question)
                )
                return max(found, by_table, key=_soundness)
        return found

    def _assembled(
        self,
        connection: apsw.Connection,
        stream: str,
        part: tuple[int, int, int | None],
        stored: Iterable[Row | Gap],
    ) -> list[Record | Unreadable]:
        """Assemble a part of a history, with its gaps; `part` is after, end and limit."""
        after, end, limit = part
        before = None if after else first_link(stream)
        expected = after
        found: list[Record | Unreadable] = []
        for version, likes in groupby(stored, itemgetter(0)):
            row = self._likeliest(connection, list(likes), before)
            if version == after:
                before = None if isinstance(row, Gap) else row[3]
                continue
            expected += 1
            if version != expected:
                found.append(Unreadable(None, stream, expected, _MISSING))
                expected, before = version, None
            if isinstance(row, Gap):
                found.append(Unreadable(None, stream, version, row.reason))
                before = None
                continue
            found.append(self._record_or_not(connection, stream, row, before))
            before = row[3]
        if limit is None and expected < end:
            found.append(Unreadable(None, stream, expected + 1, _MISSING))
        return found[:limit]

    def _likeliest(
        self, connection: apsw.Connection, likes: list[Row | Gap], before: bytes | None
    ) -> Row | Gap:
        """Choose between rows of one version, since a damaged row may look like one of another stream."""
        for row in likes if len(likes) > 1 else ():
            if not isinstance(row, Gap) and isinstance(
                self._record_or_not(connection, "", row, before), Record
            ):
                return row
        return likes[0]

    def _record_or_not(
        self, connection: apsw.Connection, stream: str, row: Row, before: bytes | None
    ) -> Record | Unreadable:
        version, at, kind, chain, data = row
        word, framed = self._words.word(connection, kind)
        if before is None:
            return Unreadable(None, stream, version, _UNCHECKED)
        if not is_linked(chain, before, (version, at, framed, data)):
            return Unreadable(None, stream, version, _ALTERED)
        return Record(version, at, word, data)

    def read_all(self, connection: apsw.Connection, after: int, limit: int) -> list[GlobalRecord]:
        """See `EventStore.read_all`."""
        return _sound(self.scan_all(connection, after, limit))

    def scan_all(
        self, connection: apsw.Connection, after: int, limit: int
    ) -> list[GlobalRecord | Unreadable]:
        """See `EventStore.scan_all`."""
        try:
            found = rows(connection, _READ_AFTER, (after, limit))
        except apsw.CorruptError:
            return list(islice(self._all_around(connection, after + 1), limit))
        return [self._global(connection, row) for row in found]

    def _global(self, connection: apsw.Connection, row: Row) -> GlobalRecord | Unreadable:
        position, name, version, at, kind, chain, data, before = row
        stream = text(name)
        if before is None and version == 1:
            before = first_link(stream)  # nothing is before the first
        found = self._record_or_not(connection, stream, (version, at, kind, chain, data), before)
        if isinstance(found, Unreadable):
            return structs.replace(found, position=position)
        return GlobalRecord(position, stream, found)

    def _all_around(self, connection: apsw.Connection, first: int) -> Iterator[GlobalRecord | Unreadable]:
        for start, end in chunks(first, last_position(connection)):
            known: dict[int, tuple[int, int]] | None = None
            gaps = 0
            for found in around(lambda a, b: rows(connection, _READ_BETWEEN, (a, b)), start, end):
                if not isinstance(found, Gap):
                    yield self._global(connection, found)
                    continue
                gaps += 1
                known = places(connection, start, end) if gaps == 1 else known
                if known is None:
                    yield Unreadable(found.key, None, None, found.reason)
                elif found.key in known:
                    yield self._hidden(connection, found, known[found.key])

    def _hidden(self, connection: apsw.Connection, gap: Gap, place: tuple[int, int]) -> Unreadable:
        """Describe a record by what an index holds; perhaps only the one before it cannot be read."""
        key, version = place
        stream = names(connection, key, key).get(key)
        is_there = any(not isinstance(row, Gap) for row in records(connection, key, version, 1))
        return Unreadable(gap.key, stream, version, _UNCHECKED if is_there else gap.reason)

    # Signals

    def inbox(self, connection: apsw.Connection, stream: str, limit: int) -> list[InboxEntry]:
        """See `EventStore.inbox`."""
        stream_key = self._stream(connection, stream)
        try:
            found = by_either_index(connection, _INBOX, (stream_key, limit))
        except apsw.CorruptError as error:
            raise RecordCorrupt(stream, None, f"its inbox cannot be read: {error}") from error
        return _sealed(stream, stream_key, found)

    # Whole streams

    def load(
        self, connection: apsw.Connection, streams: Sequence[str], limits: tuple[int, int]
    ) -> list[LoadedStream | Exception | None]:
        """See `EventStore.load`; `limits` are those of records and of signals."""
        found: dict[str, LoadedStream | Exception | None] = {}
        for start in range(0, len(streams), _PAGES[-1]):
            page = streams[start : start + _PAGES[-1]]
            found |= self._loaded_page(connection, page, limits)
            for stream in page:
                if stream not in found:
                    found[stream] = self._loaded(connection, stream, limits)
        return [found[stream] for stream in streams]

    def _loaded_page(
        self, connection: apsw.Connection, streams: Sequence[str], limits: tuple[int, int]
    ) -> dict[str, LoadedStream | None]:
        """Load streams with one statement per table, and leave out those with any damage."""
        run(connection, "BEGIN")
        try:
            return self._all_loaded(connection, streams, limits)
        except apsw.CorruptError:
            return {}
        finally:
            roll_back(connection)

    def _all_loaded(
        self, connection: apsw.Connection, streams: Sequence[str], limits: tuple[int, int]
    ) -> dict[str, LoadedStream | None]:
        loaded: dict[str, LoadedStream | None] = dict.fromkeys(streams)
        headers = {row[0]: row for row in _of_each(connection, _LOAD_STREAMS, streams)}
        records = _by_stream(_of_each(connection, _LOAD_RECORDS, [*headers], limits[0]), headers)
        found = _of_each(connection, _LOAD_SIGNALS, [*headers], limits[1])
        signals = None if len(found) == limits[1] else _by_stream(found, headers)
        for key, row in headers.items():
            stream = text(row[1])
            if stream not in loaded:
                raise apsw.CorruptError("a stream has another name in its table than in its index")
            waiting = _waiting(connection, key, limits[1]) if signals is None else signals[key]
            try:
                loaded[stream] = self._sound_stream(connection, row, (records[key], waiting), limits[0])
            except RecordCorrupt:
                del loaded[stream]
        return loaded

    def _sound_stream(
        self, connection: apsw.Connection, row: Row, parts: tuple[list[Row], list[Row]], limit: int
    ) -> LoadedStream:
        """Make a loaded stream from its rows.

        Raises:
            RecordCorrupt: a part of it is damaged; `_loaded` reads what it can of it.
        """
        stored, waiting = parts
        stream = text(row[1])
        records = self._checked(connection, stream, stored, (0, first_link(stream)))
        version = row[-1] or 0
        if version > len(records):
            if len(records) < limit:
                raise RecordCorrupt(stream, len(records) + 1, _MISSING)
            _, at, damage = newest(connection, row[0], by_table=False)
        else:
            at, damage = records[-1].at if records else None, None
        header = self._header(connection, (*row, at), damage=damage)
        if header.damage is not None:
            raise RecordCorrupt(stream, None, header.damage)
        signals = _sealed(stream, row[0], waiting)
        return LoadedStream(header, records, signals, header.version > len(records))

    def _loaded(
        self, connection: apsw.Connection, stream: str, limits: tuple[int, int]
    ) -> LoadedStream | Exception | None:
        """Load a damaged stream part by part."""
        try:
            header = self.header(connection, stream)
            if header is None:
                return None
            is_long = header.version > limits[0]
            records = _or_corrupt(lambda: self.read(connection, stream, 0, limits[0] if is_long else None))
            signals = _or_corrupt(lambda: self.inbox(connection, stream, limits[1]))
        except apsw.CorruptError as error:
            return read_failure(error)
        return LoadedStream(header, records, signals, is_long)


S = TypeVar("S", Record, GlobalRecord)
T = TypeVar("T")


def _sealed(stream: str, key: int, stored: list[Row]) -> list[InboxEntry]:
    entries: list[InboxEntry] = []
    for number, at, name, sent_as, data, seal in stored:
        entry = InboxEntry(number, at, text(name), text(sent_as), data)
        if seal != signal_seal(key, entry):
            raise RecordCorrupt(stream, None, f"signal {number} in its inbox does not match its checksum")
        entries.append(entry)
    return entries


def _of_each(
    connection: apsw.Connection, statement: str, values: Sequence[object], limit: int | None = None
) -> list[Row]:
    """Query at most a page of streams; the statement has parameters for them, and for a limit."""
    size = next(size for size in _PAGES if size >= len(values))
    places = ", ".join("?" * size)
    padded = (*values, *[None] * (size - len(values)))  # which matches no stream
    if limit is None:
        return rows(connection, statement.format(places), padded)
    return rows(connection, statement.format(places, "?"), (*padded, limit))


def _by_stream(found: list[Row], streams: Iterable[int]) -> dict[int, list[Row]]:
    of_each: dict[int, list[Row]] = {key: [] for key in streams}
    for row in found:
        of_each[row[0]].append(row[1:])
    return of_each


def _waiting(connection: apsw.Connection, key: int, limit: int) -> list[Row]:
    return rows(connection, _INBOX.format("inbox_waiting"), (key, limit))


def _or_corrupt(read: Callable[[], T]) -> T | RecordCorrupt:
    try:
        return read()
    except RecordCorrupt as error:
        return error


def _sound(found: list[S | Unreadable]) -> list[S]:
    sound: list[S] = []
    for one in found:
        if isinstance(one, Unreadable):
            raise RecordCorrupt(one.stream or _UNKNOWN, one.version, one.reason)
        sound.append(one)
    return sound


def _has_gaps(found: list[Record | Unreadable]) -> bool:
    return any(isinstance(one, Unreadable) for one in found)


def _soundness(found: list[Record | Unreadable]) -> int:
    return sum(isinstance(one, Record) for one in found)


def _is_sealed(row: Row, name: str, kind: str, status: str) -> bool:
    return row[9] == header_seal(name, kind, status, row[4:9])


def _is_of(header: Header, of: tuple[str | None, str | None]) -> bool:
    return of[0] in (None, header.type) and of[1] in (None, header.status)


def _number(stored: object) -> int:
    return stored if isinstance(stored, int) else 0
