"""One transaction's worth of writes: each is checked in order, then all of them are written at once.

A refused write changes nothing: checks come first, accepted writes are only remembered, and the statements
run at the end, each once for all its rows.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ..contract import Append, Appended, Deliver, Delivered, InboxEntry, StreamState
from ..errors import (
    InboxFull,
    NeverDelivered,
    RecordCorrupt,
    RecordTooLarge,
    SignalConflict,
    StoreError,
    StreamEnded,
    StreamNotFound,
    WrongExpectedVersion,
)
from .checksum import LINK_SIZE, dead_letter_seal, first_link, signal_seal
from .statements import Insert, rows, run_for_each, text
from .streams import SIGNALS_LOOKED_AT, Stream, misread_of, signals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apsw

    from ..contract import HeaderChange, NewRecord, Outcome, Restore, StoreLimits, Write
    from .names import NameTableWriter
    from .statements import Row
    from .streams import StreamCache

_INSERT_STREAM: Final = Insert(
    "stream", "type", "status", "state", "alarm", "wake_at", "version", "created_at", "seal", "name", "id"
)
_UPDATE_STREAM: Final = """
UPDATE stream SET (type, status, state, alarm, wake_at, version, created_at, seal)
  = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
WHERE id = ?10
"""
_INSERT_RECORD: Final = Insert("record", "position", "stream", "version", "at", "kind", "chain", "data")
_INSERT_SIGNAL: Final = Insert("inbox", "id", "stream", "name", "key", "at", "seal", "data")
_SETTLE: Final = "UPDATE inbox SET settled = ? WHERE id = ?"
_INSERT_DEAD_LETTER: Final = Insert("dead_letter", "inbox", "at", "reason", "seal")
_FIND_SIGNAL: Final = """
SELECT id, at, CAST(name AS BLOB), CAST(data AS BLOB), seal FROM inbox WHERE stream = ? AND key = ?
"""
_REWRITE_SIGNAL: Final = "UPDATE inbox SET (name, data) = (?, ?) WHERE id = ?"
_REWRITE_KEY: Final = "UPDATE inbox SET key = ? WHERE id = ?"
_FIND_TAKEN: Final = """
SELECT id FROM inbox
WHERE stream = ? AND key = ? AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE inbox = inbox.id)
"""

_numbers: Final = struct.Struct(">qq").pack
_instant: Final = struct.Struct(">q").pack

# What a malformed write can raise while it is checked; that becomes its outcome, and harms no other write.
MALFORMED: Final = (AttributeError, OverflowError, TypeError, ValueError, struct.error)


class Counters:
    """The last numbers given out; no number is ever given out twice."""

    __slots__ = ("inbox", "position", "stream")

    def __init__(self, position: int, stream: int, inbox: int) -> None:
        self.position = position
        self.stream = stream
        self.inbox = inbox

    @property
    def given_out(self) -> tuple[int, int, int]:
        return self.position, self.stream, self.inbox


class WriterCache:
    """What the writer remembers of the file. While a batch is planned, it is ahead of the file."""

    __slots__ = ("numbers", "streams", "words")

    def __init__(self, numbers: Counters, streams: StreamCache, words: NameTableWriter) -> None:
        self.numbers = numbers
        self.streams = streams
        self.words = words


class WriteBatch:
    """Writes that share one transaction."""

    def __init__(
        self, connection: apsw.Connection, cache: WriterCache, limits: StoreLimits, now: Callable[[], int]
    ) -> None:
        self._connection = connection
        self._streams = cache.streams
        self._words = cache.words
        self._numbers = cache.numbers
        self._limits = limits
        self._now = now
        self._created: dict[int, Stream] = {}
        self._changed: dict[int, Stream] = {}
        self._records: list[Row] = []
        self._signals: dict[tuple[int, str], tuple[InboxEntry, int]] = {}
        self._rewritten: list[Row] = []
        self._rekeyed: list[Row] = []
        self._settled: list[Row] = []
        self._dead: list[Row] = []

    def plan(self, writes: Sequence[Write]) -> list[Outcome]:
        """Check each write, and remember what it writes."""
        outcomes: list[Outcome] = []
        for write in writes:
            try:
                if isinstance(write, Append):
                    outcomes.append(self._append(write))
                elif isinstance(write, Deliver):
                    outcomes.append(self._deliver(write))
                else:
                    outcomes.append(self._restore(write))
            except (StoreError, *MALFORMED) as refusal:
                outcomes.append(refusal)
        return outcomes

    def write(self) -> None:
        """Write everything that was accepted."""
        created = [self._header_row(s) for s in self._created.values()]
        changed = [self._header_row(s) for key, s in self._changed.items() if key not in self._created]
        signals = [
            (entry.id, key[0], entry.name, entry.key, entry.at, sealed, _readable(entry.data))
            for key, (entry, sealed) in self._signals.items()
        ]
        connection = self._connection
        _INSERT_STREAM.run(connection, created)
        if changed:
            run_for_each(connection, _UPDATE_STREAM, changed)
        _INSERT_RECORD.run(connection, self._records)
        _INSERT_SIGNAL.run(connection, signals)
        if self._rewritten:
            run_for_each(connection, _REWRITE_SIGNAL, self._rewritten)
        if self._rekeyed:
            run_for_each(connection, _REWRITE_KEY, self._rekeyed)
        if self._settled:
            run_for_each(connection, _SETTLE, self._settled)
        _INSERT_DEAD_LETTER.run(connection, self._dead)

    def _header_row(self, stream: Stream) -> Row:
        return (
            self._words[stream.type].id,
            self._words[stream.status].id,
            int(stream.state),
            stream.alarm,
            stream.wake_at,
            stream.version,
            stream.created_at,
            stream.seal(),
            stream.name,
            stream.id,
        )

    # Appends

    def _append(self, write: Append) -> Appended:
        stream = self._streams.find(write.stream)
        if stream is None:
            stream = self._new_stream(write)
        elif stream.version != write.expected:
            raise WrongExpectedVersion(write.stream, write.expected, stream.version)
        if stream.damage:
            self._check_new_header(stream, write)
        if write.header is None and not (write.consumed or write.rejected or write.given_up):
            self._extend(stream, write.records)
        else:
            self._decide(stream, write)
        return Appended(stream.version)

    def _new_stream(self, write: Append) -> Stream:
        if write.expected != 0:
            raise StreamNotFound(write.stream)
        if write.type is None or write.header is None or not write.records:
            raise ValueError(f"to create stream {write.stream!r}, a type, a header and records are needed")
        stream = Stream(self._numbers.stream + 1, write.stream, write.type, write.records[0].at)
        stream.chain = first_link(write.stream)
        _ = self._words[write.type]
        return stream

    def _check_new_header(self, stream: Stream, write: Append) -> None:
        """Check that the write replaces the header of a damaged stream."""
        if write.type is None or write.header is None:
            raise RecordCorrupt(stream.name, None, stream.damage)
        stream.type = write.type
        _ = self._words[write.type]

    def _extend(self, stream: Stream, records: Sequence[NewRecord]) -> None:
        # The hot path: it makes no needless calls, and changes the stream last.
        words, limit = self._words, self._limits.data
        key, version, chain, position = stream.id, stream.version, stream.chain, self._numbers.position
        if chain is None:
            if records:
                raise RecordCorrupt(
                    stream.name, version, "it cannot be read, so nothing can be appended after it"
                )
            return
        added: list[Row] = []
        for record in records:
            at, data = record.at, record.data
            if len(data) > limit:
                raise RecordTooLarge(f"record {version + 1} of stream {stream.name!r}: {_sizes(data, limit)}")
            version += 1
            position += 1
            kind = words[record.kind]
            chain = blake2b(
                chain + _numbers(version, at) + kind.framed + data, digest_size=LINK_SIZE
            ).digest()
            added.append((position, key, version, at, kind.id, chain, _readable(data)))
        self._records += added
        stream.version, stream.chain, self._numbers.position = version, chain, position

    def _decide(self, stream: Stream, write: Append) -> None:
        change = write.header
        reasons: dict[int, str | None] = dict.fromkeys(write.consumed)
        reasons.update(write.rejected)
        given_up = self._given_up(stream, write) if write.given_up else {}
        reasons.update((k, reason) for k, reason in given_up.items() if k in reasons or k in stream.waiting)
        if change is not None:
            self._check_change(change)
            if change.state == StreamState.ENDED:
                ended = f"the stream has ended ({change.status})"
                reasons.update((key, ended) for key in stream.waiting if key not in reasons)
        for key in reasons:
            if key not in stream.waiting:
                raise ValueError(f"signal {key} does not wait in the inbox of stream {stream.name!r}")
        dead = self._dead_rows(write, {**given_up, **reasons})
        self._extend(stream, write.records)
        self._dead += dead
        self._mark_consumed(stream, reasons)
        self._update_header(stream, change)

    def _given_up(self, stream: Stream, write: Append) -> dict[int, str]:
        """Return the ids of newly given up signals, with the reasons."""
        found: dict[int, str] = {}
        dead = {row[0] for row in self._dead}
        for key, reason in write.given_up:
            for (number,) in rows(self._connection, _FIND_TAKEN, (stream.id, key)):
                if number not in dead:
                    found[number] = reason
        return found

    def _check_change(self, change: HeaderChange) -> None:
        _ = self._words[change.status]
        StreamState(change.state)
        if change.wake_at is not None:
            _instant(change.wake_at)

    def _dead_rows(self, write: Append, reasons: dict[int, str | None]) -> list[Row]:
        rejected = [(key, reason) for key, reason in reasons.items() if reason is not None]
        if not rejected:
            return []
        at = write.records[-1].at if write.records else self._now()
        return [(key, at, reason, dead_letter_seal(key, at, reason)) for key, reason in rejected]

    def _mark_consumed(self, stream: Stream, reasons: dict[int, str | None]) -> None:
        self._settled += [(stream.version, key) for key in reasons]
        for key in reasons:
            del stream.waiting[key]

    def _update_header(self, stream: Stream, change: HeaderChange | None) -> None:
        before = stream.wake_at
        if change is not None:
            stream.status, stream.state, stream.alarm = change.status, change.state, change.wake_at
            stream.damage = ""
        stream.wake_at = stream.due()
        if change is not None or stream.wake_at != before:
            self._changed[stream.id] = stream
        if stream.id > self._numbers.stream:
            self._numbers.stream = stream.id
            self._created[stream.id] = stream
            self._streams.add(stream)

    # Signals

    def _deliver(self, write: Deliver) -> Delivered:
        stream = self._streams.find(write.stream)
        if stream is None:
            raise StreamNotFound(write.stream)
        first = self._first_delivery(stream, write)
        if first is not None:
            return first
        if stream.damage or stream.inbox_damage:
            raise RecordCorrupt(stream.name, None, stream.damage or stream.inbox_damage)
        self._check_room(stream, write)
        number = self._numbers.inbox + 1
        entry = InboxEntry(number, write.at, write.name, write.key, write.data)
        self._signals[stream.id, entry.key] = (entry, signal_seal(stream.id, entry))
        self._numbers.inbox = number
        stream.waiting[number] = write.at
        if stream.state == StreamState.OPEN and (stream.wake_at is None or write.at < stream.wake_at):
            stream.wake_at = write.at
            self._changed[stream.id] = stream
        return Delivered(number, write.at, duplicate=False)

    def _first_delivery(self, stream: Stream, write: Deliver) -> Delivered | None:
        pending = self._signals.get((stream.id, write.key))
        if pending is not None:
            first, _ = pending
            if (first.name, first.data) != (write.name, write.data):
                raise SignalConflict(write.stream, write.key, first)
            return Delivered(first.id, first.at, duplicate=True)
        if stream.misread is None:
            known = signals_of(self._connection, stream.id)
            stream.misread = misread_of(stream.id, known)
            if not stream.misread and len(known) < SIGNALS_LOOKED_AT:
                # All of them are what was written, so no index is needed.
                key = write.key.encode()
                found = [
                    (number, at, name, data, sealed)
                    for number, at, name, k, data, sealed in known
                    if k == key
                ]
                return self._recorded_delivery(stream, write, found[0]) if found else None
        found = rows(self._connection, _FIND_SIGNAL, (stream.id, write.key))
        if found:
            return self._recorded_delivery(stream, write, found[0])
        return self._misread(stream, write, stream.misread)

    def _misread(self, stream: Stream, write: Deliver, misread: list[Row]) -> Delivered | None:
        """Find an earlier delivery whose key is damaged since: no index would find it."""
        for number, at, name, _, data, sealed in misread:
            sent = InboxEntry(number, at, write.name, write.key, write.data)
            if sealed == signal_seal(stream.id, sent):
                self._rewritten.append((write.name, _readable(write.data), number))
                self._rekeyed.append((write.key, number))
                return Delivered(number, at, duplicate=True)
            stored = InboxEntry(number, at, text(name), write.key, data)
            if sealed == signal_seal(stream.id, stored):
                raise SignalConflict(write.stream, write.key, stored)
        return None

    def _recorded_delivery(self, stream: Stream, write: Deliver, row: Row) -> Delivered:
        number, at, name, data, sealed = row
        if (name, data) != (write.name.encode(), write.data):
            stored = InboxEntry(number, at, text(name), write.key, data)
            if sealed == signal_seal(stream.id, stored):
                raise SignalConflict(write.stream, write.key, stored)
            sent = InboxEntry(number, at, write.name, write.key, write.data)
            if sealed != signal_seal(stream.id, sent):
                raise RecordCorrupt(
                    write.stream, None, f"signal {write.key!r} was recorded before, and is damaged since"
                )
            # It was this, before it was damaged.
            self._rewritten.append((write.name, _readable(write.data), number))
        return Delivered(number, at, duplicate=True)

    def _check_room(self, stream: Stream, write: Deliver) -> None:
        if stream.state.is_over:
            raise StreamEnded(write.stream, stream.status)
        if write.only_again:
            raise NeverDelivered(write.stream, write.key)
        if len(write.data) > self._limits.data:
            raise RecordTooLarge(f"signal {write.key!r}: {_sizes(write.data, self._limits.data)}")
        if len(stream.waiting) >= self._limits.inbox:
            raise InboxFull(write.stream, self._limits.inbox)
        _instant(write.at)

    # Streams of another store

    def _restore(self, write: Restore) -> Appended:
        found = self._streams.find(write.stream)
        if found is not None:
            raise WrongExpectedVersion(write.stream, 0, found.version)
        stream = self._new_stream(Append(write.stream, 0, write.records, write.header, write.type))
        self._check_change(write.header)
        _check_past(write, self._limits.data)
        entries = [
            InboxEntry(number, signal.at, signal.name, signal.key, signal.data)
            for number, signal in enumerate(write.signals, self._numbers.inbox + 1)
        ]
        sealed = {(stream.id, entry.key): (entry, signal_seal(stream.id, entry)) for entry in entries}
        past = [(entry.id, signal) for entry, signal in zip(entries, write.signals, strict=True)]
        dead = [(key, *s.dead, dead_letter_seal(key, *s.dead)) for key, s in past if s.dead is not None]
        self._extend(stream, write.records)
        self._numbers.inbox += len(entries)
        self._signals |= sealed
        self._settled += [(s.settled, key) for key, s in past if s.settled is not None]
        self._dead += dead
        stream.waiting = {key: s.at for key, s in past if s.settled is None}
        self._update_header(stream, write.header)
        return Appended(stream.version)


def _check_past(write: Restore, limit: int) -> None:
    """Raise if the signals do not belong to the records and the header that they come with."""
    if len({signal.key for signal in write.signals}) < len(write.signals):
        raise ValueError(f"two signals of stream {write.stream!r} have the same key")
    for signal in write.signals:
        settled = signal.settled
        if len(signal.data) > limit:
            raise RecordTooLarge(f"signal {signal.key!r}: {_sizes(signal.data, limit)}")
        if settled is None and (signal.dead is not None or write.header.state == StreamState.ENDED):
            raise ValueError(f"signal {signal.key!r} of stream {write.stream!r} can no longer wait")
        if settled is not None and not 1 <= settled <= len(write.records):
            raise ValueError(f"signal {signal.key!r} was settled at a version that {write.stream!r} lacks")
        _instant(signal.at)
        if signal.dead is not None:
            _instant(signal.dead[0])


def _readable(data: bytes) -> str | bytes:
    # TEXT if possible: every SQLite tool shows and queries it as JSON.
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        return data


def _sizes(data: bytes, limit: int) -> str:
    return f"{len(data)} bytes, more than the limit of {limit}"
