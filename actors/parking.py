"""Parking: which errors park a flow at once, and under which reason; and what a history says of its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ..flows import events
from ..flows.errors import NondeterminismError, PersistasaurusError
from ..flows.failure import failure_of
from ..store import HeaderChange, RecordCorrupt, StoreError, StreamState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..store import EventStore, Header

__all__ = [
    "PARK",
    "RECOVERABLE",
    "UNREPLAYABLE",
    "LastWord",
    "UnknownFlowError",
    "last_parked",
    "last_word",
    "may_go_on",
    "parked_for",
]

LastWord: TypeAlias = events.FlowCompleted | events.FlowFailed | events.Parked

PARK = HeaderChange("parked", StreamState.HELD, None)
"""What becomes of a parked flow's header."""

RECOVERABLE = frozenset(("nondeterminism", "unknown_flow", "unreadable"))
"""Reasons to be parked that may be gone when a system is opened with other code."""


class UnknownFlowError(PersistasaurusError):
    """The flow's type is not registered."""


UNREPLAYABLE = (NondeterminismError, UnknownFlowError, RecordCorrupt, msgspec.MsgspecError)
"""Errors that come back until the code, or the log, is another. To try again would be pointless."""


def parked_for(error: BaseException) -> events.Parked:
    """Return the event that parks a flow for an error."""
    failure = failure_of(error)
    match error:
        case NondeterminismError():
            reason: events.ParkReason = "nondeterminism"
        case UnknownFlowError():
            reason = "unknown_flow"
        case RecordCorrupt() | msgspec.MsgspecError():
            reason = "unreadable"
        case _:
            reason = "crashing"
    return events.Parked(reason, failure.message or failure.type, failure.traceback)


def last_parked(history: Iterable[events.AnyEvent]) -> events.Parked | None:
    """Return the event that parks a flow still, from its history read backwards."""
    for event in history:
        if isinstance(event, events.Parked):
            return event
        if isinstance(event, events.Repaired):
            return None
    return None


def last_word(store: EventStore, flow_id: str, version: int) -> LastWord:
    """Return the event that says how a flow has ended, or why it is parked.

    It is the last one, unless steps that still ran then have ended since.

    Raises:
        StoreError: it cannot be read.
        ValueError: the history does not say.
    """
    for after in (version - 1, 0):
        for record in reversed(store.read(flow_id, after=after)):
            event = events.decode(record.data)
            if isinstance(event, LastWord):
                return event
    raise ValueError(f"the history of flow {flow_id!r} does not say how it ended")


def may_go_on(store: EventStore, header: Header) -> bool:
    """Tell whether a parked flow may run on by itself, if the code is another now."""
    try:
        event = last_word(store, header.stream, header.version)
    except (StoreError, ValueError, msgspec.MsgspecError):
        return False
    return isinstance(event, events.Parked) and event.reason in RECOVERABLE
