"""Feeds: portions of events for those who follow a flow, or all flows, from behind a position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from ...actors.door import outside_error
from ...actors.event_sourced import ACTOR_STATUS
from ...store import StoreError
from .histories import read_events
from .shapes import End, FollowedEvent
from .told import event_view, shown_event

if TYPE_CHECKING:
    from ...actors import FlowSystem
    from ...store.contract import GlobalRecord

__all__ = ["AllFlows", "Feed", "OneFlow", "Portion"]

_AT_ONCE: Final = 64
_KNOWN_STREAMS: Final = 10_000
_encode = msgspec.json.Encoder().encode


class Portion(NamedTuple):
    """Events as JSON with their ids; up to which id it reaches; whether there is more; the end, if any."""

    events: list[tuple[int, bytes]]
    reached: int
    has_more: bool
    end: bytes | None


class Feed(Protocol):
    """Something to be followed. Read on any thread that may wait, by one at a time."""

    def read(self, after: int) -> Portion:
        """Read on from behind an id.

        Raises:
            FlowNotFound: there is no such flow.
            StoreUnavailable: it cannot be read.
        """
        ...


class OneFlow:
    """The events of one flow; their ids are its versions. It ends when the flow has ended."""

    def __init__(self, system: FlowSystem, flow_id: str) -> None:
        self._system = system
        self._flow_id = flow_id

    def read(self, after: int) -> Portion:
        """See `Feed.read`."""
        header, records = read_events(self._system, self._flow_id, after, _AT_ONCE)
        reached = records[-1].version if records else after
        has_more = reached < header.version
        shown = [(record.version, _encode(event_view(record))) for record in records]
        is_end = header.state.is_over and not has_more
        end = End(flow_id=self._flow_id, status=header.status)  # pyright: ignore[reportArgumentType] - one of them
        return Portion(shown, reached, has_more, _encode(end) if is_end else None)


class AllFlows:
    """The events of all flows, in the order in which they were committed; their ids are positions.

    Actors of the program's own are streams as well, and are left out: only flows are followed.
    """

    def __init__(self, system: FlowSystem) -> None:
        self._system = system
        self._is_flow: dict[str, bool] = {}

    def read(self, after: int) -> Portion:
        """See `Feed.read`."""
        try:
            records = self._system.store.read_all(after=after, limit=_AT_ONCE)
            shown = [(found.position, self._shown(found)) for found in records if self._knows(found.stream)]
        except StoreError as error:
            raise outside_error("", error) from error
        reached = records[-1].position if records else after
        return Portion(shown, reached, len(records) == _AT_ONCE, end=None)

    def newest(self) -> int:
        """Find the position of the newest event: there is none behind it, and one behind any before it."""
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
        return bool(self._system.store.read_all(after=position, limit=1))

    def _shown(self, found: GlobalRecord) -> bytes:
        shown: dict[str, Any] = shown_event(found.record)
        return _encode(FollowedEvent(**shown, position=found.position, flow_id=found.stream))

    def _knows(self, stream: str) -> bool:
        known = self._is_flow.get(stream)
        if known is None:
            header = self._system.store.header(stream)
            if len(self._is_flow) >= _KNOWN_STREAMS:
                self._is_flow.clear()
            known = self._is_flow[stream] = header is not None and header.status != ACTOR_STATUS
        return known
