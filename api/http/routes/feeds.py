"""Feeds: batches of events, after a position, of one flow or of all flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from ....actors.flows.admission import outside_error
from ....actors.persistence.persistent_actor import ACTOR_STATUS
from ....store import StoreError, Unreadable
from ..contract.models import FlowEnd, FollowedEvent
from ..contract.views import event_fields, event_view, unreadable_event
from .histories import header_of, read_events

if TYPE_CHECKING:
    from ....actors import FlowSystem
    from ....store import GlobalRecord, Record

_AT_ONCE: Final = 64
_MOST_AT_ONCE: Final = 1024
_ENOUGH_BYTES: Final = 1 << 18
_KNOWN_STREAMS: Final = 10_000
_encode = msgspec.json.Encoder().encode


class EventBatch(NamedTuple):
    """Events after an id, each with its id and as it is sent; `reached` is the last id it covers.

    `end`: how the flow has ended, if it has; `flows`: whose events these are, unless all are of one flow.
    """

    after: int
    events: list[tuple[int, bytes]]
    reached: int
    has_more: bool = False
    end: bytes | None = None
    flows: frozenset[str] = frozenset()
    size: int = 0
    sent: bytes | None = None
    """All of the events as they are sent, for those who share the batch."""

    def message(self) -> bytes:
        """Return all of the events as they are sent."""
        return b"".join(data for _, data in self.events) if self.sent is None else self.sent


def frame(number: int, data: bytes) -> bytes:
    """Write an event as it is sent, with its id."""
    return b"id: %d\ndata: %b\n\n" % (number, one_line(data))


def damaged_frame(number: int, found: Unreadable) -> bytes:
    """Write a damaged event as it is sent."""
    return b"event: problem\n" + frame(number, _encode(unreadable_event(found)))


def one_line(data: bytes) -> bytes:
    """Write JSON in one line. Line breaks are white space in JSON, but would end the field."""
    return data.replace(b"\n", b" ").replace(b"\r", b" ")


class Feed(Protocol):
    """Events that can be followed. Read on any thread that may wait, by one reader at a time."""

    flow_id: str | None
    """Whose events these are; None: those of all flows."""

    def read(self, after: int) -> EventBatch:
        """Read on after an id.

        Raises:
            FlowNotFound: there is no such flow.
            StoreUnavailable: it cannot be read.
        """
        ...

    def newest(self) -> int:
        """Return the newest id; raises as `read` does."""
        ...


class FlowFeed:
    """The events of one flow; their ids are its versions. It ends when the flow has ended."""

    def __init__(self, system: FlowSystem, flow_id: str) -> None:
        self._system = system
        self.flow_id: str | None = flow_id
        self._flow_id = flow_id

    def read(self, after: int) -> EventBatch:
        header, records = read_events(self._system, self._flow_id, after, _AT_ONCE)
        reached = (records[-1].version or after) if records else after
        has_more = reached < header.version
        shown = [self._sent(record) for record in records]
        is_end = header.state.is_over and not has_more
        end = FlowEnd(flow_id=self._flow_id, status=header.status)  # pyright: ignore[reportArgumentType] - one of them
        return EventBatch(after, shown, reached, has_more, _encode(end) if is_end else None)

    def newest(self) -> int:
        return header_of(self._system, self._flow_id).version

    def _sent(self, found: Record | Unreadable) -> tuple[int, bytes]:
        number = found.version or 0
        if isinstance(found, Unreadable):
            return number, damaged_frame(number, found)
        return number, frame(number, _encode(event_view(found)))


class AllFlowsFeed:
    """The events of all flows, in the order of their commits; their ids are positions.

    The program's own actors are streams as well, and are left out.
    """

    def __init__(self, system: FlowSystem) -> None:
        self._system = system
        self.flow_id: str | None = None
        self._is_flow: dict[str, bool] = {}

    def read(self, after: int) -> EventBatch:
        """Read on, until there is enough for a message."""
        shown: list[tuple[int, bytes]] = []
        flows: set[str] = set()
        reached, size, has_more = after, 0, True
        while has_more and len(shown) < _MOST_AT_ONCE and size < _ENOUGH_BYTES:
            records = self._read(reached)
            for found in records:
                if self._knows(found.stream):
                    data = self._sent(found)
                    shown.append((found.position or 0, data))
                    flows.add(found.stream or "")
                    size += len(data)
            reached = (records[-1].position or reached) if records else reached
            has_more = len(records) == _AT_ONCE
        sent = b"".join(data for _, data in shown)
        return EventBatch(after, shown, reached, has_more, None, frozenset(flows), size, sent)

    def _read(self, after: int) -> list[GlobalRecord | Unreadable]:
        self._system.client.admission.check_open()
        try:
            return self._system.store.scan_all(after=after, limit=_AT_ONCE)
        except StoreError as error:
            raise outside_error("", error) from error

    def newest(self) -> int:
        """Find the position of the newest event by bisection: nothing follows it."""
        low, high = 0, 1
        while self._is_before_an_event(high):
            low, high = high, high * 2
        if not self._is_before_an_event(low):
            return low
        while low + 1 < high:
            middle = (low + high) // 2
            low, high = (middle, high) if self._is_before_an_event(middle) else (low, middle)
        return high

    def _is_before_an_event(self, position: int) -> bool:
        try:
            return bool(self._system.store.scan_all(after=position, limit=1))
        except StoreError as error:
            raise outside_error("", error) from error

    def _sent(self, found: GlobalRecord | Unreadable) -> bytes:
        if isinstance(found, Unreadable):
            return damaged_frame(found.position or 0, found)
        shown: dict[str, Any] = event_fields(found.record)
        data = _encode(FollowedEvent(**shown, position=found.position, flow_id=found.stream))
        return frame(found.position, data)

    def _knows(self, stream: str | None) -> bool:
        if stream is None:
            return True
        known = self._is_flow.get(stream)
        if known is None:
            try:
                header = self._system.store.header(stream)
            except StoreError as error:
                raise outside_error("", error) from error
            if len(self._is_flow) >= _KNOWN_STREAMS:
                self._is_flow.clear()
            known = self._is_flow[stream] = header is not None and header.status != ACTOR_STATUS
        return known
