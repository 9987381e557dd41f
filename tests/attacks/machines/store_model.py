# ruff: noqa: PLR0911 - one for each refusal
"""What an event store is, in dictionaries."""

from __future__ import annotations

from persistasaurus.store import (
    Append,
    Appended,
    Deliver,
    Delivered,
    InboxFull,
    NeverDelivered,
    NewRecord,
    RecordTooLarge,
    SignalConflict,
    StreamEnded,
    StreamNotFound,
    StreamState,
    WrongExpectedVersion,
)

INBOX, DATA = 4, 40


class ModelStream:
    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.status = ""
        self.state = StreamState.OPEN
        self.alarm: int | None = None
        self.records: list[NewRecord] = []
        self.waiting: dict[int, Deliver] = {}

    @property
    def wake_at(self) -> int | None:
        oldest = next(iter(self.waiting.values()), None)
        if oldest is None or self.state is not StreamState.OPEN:
            return self.alarm
        return oldest.at if self.alarm is None else min(oldest.at, self.alarm)


class ModelStore:
    def __init__(self) -> None:
        self.streams: dict[str, ModelStream] = {}
        self.signals: dict[tuple[str, str], tuple[int, Deliver]] = {}
        self.dead: list[tuple[str, str, str]] = []
        self.all: list[tuple[str, NewRecord]] = []
        self.last_signal = 0

    def append(self, write: Append) -> Appended | type[Exception]:
        stream = self.streams.get(write.stream)
        if stream is None:
            if write.expected != 0:
                return StreamNotFound
            if write.type is None or write.header is None or not write.records:
                return ValueError
            stream = ModelStream(write.stream, write.type)
        elif len(stream.records) != write.expected:
            return WrongExpectedVersion
        settled = [*write.consumed, *(number for number, _ in write.rejected)]
        if any(number not in stream.waiting for number in settled):
            return ValueError
        if any(len(record.data) > DATA for record in write.records):
            return RecordTooLarge
        self._settle(stream, write)
        self.streams[write.stream] = stream
        stream.records += write.records
        self.all += [(write.stream, record) for record in write.records]
        return Appended(len(stream.records))

    def _settle(self, stream: ModelStream, write: Append) -> None:
        rejected = dict(write.rejected)
        change = write.header
        if change is not None and change.state is StreamState.ENDED:
            ended = f"the stream has ended ({change.status})"
            left = [number for number in stream.waiting if number not in (*write.consumed, *rejected)]
            rejected.update(dict.fromkeys(left, ended))
        self.dead += [(stream.name, stream.waiting[n].key, reason) for n, reason in rejected.items()]
        for number in {*write.consumed, *rejected}:
            del stream.waiting[number]
        for key, reason in write.given_up:
            is_there = (stream.name, key) in self.signals
            if is_there and not any(dead[:2] == (stream.name, key) for dead in self.dead):
                self.dead.append((stream.name, key, reason))
        if change is not None:
            stream.status, stream.state, stream.alarm = change.status, change.state, change.wake_at

    def deliver(self, write: Deliver) -> Delivered | type[Exception]:
        stream = self.streams.get(write.stream)
        if stream is None:
            return StreamNotFound
        known = self.signals.get((write.stream, write.key))
        if known is not None:
            number, first = known
            if (first.name, first.data) != (write.name, write.data):
                return SignalConflict
            return Delivered(number, first.at, duplicate=True)
        if stream.state in (StreamState.ENDED, StreamState.FAILED):
            return StreamEnded
        if write.only_again:
            return NeverDelivered
        if len(write.data) > DATA:
            return RecordTooLarge
        if len(stream.waiting) >= INBOX:
            return InboxFull
        self.last_signal += 1
        self.signals[write.stream, write.key] = self.last_signal, write
        stream.waiting[self.last_signal] = write
        return Delivered(self.last_signal, write.at, duplicate=False)

    def taken(self, name: str) -> list[tuple[int, str]]:
        """Return all that was sent to a stream: number and key."""
        return [(number, key) for (stream, key), (number, _) in self.signals.items() if stream == name]

    def due(self, before: int) -> list[str]:
        order = {name: number for number, name in enumerate(self.streams)}
        found = [(s.wake_at, order[s.name], s.name) for s in self.streams.values() if s.wake_at is not None]
        return [name for wake_at, _, name in sorted(found) if wake_at <= before]

    def next_wake_at(self) -> int | None:
        return min((s.wake_at for s in self.streams.values() if s.wake_at is not None), default=None)
