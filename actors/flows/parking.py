"""Parking: which errors park a flow at once, and under which reason; and what a history says of its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ...flows import events
from ...flows.errors import NondeterminismError, PersistasaurusError
from ...flows.machine.failure import failure_of
from ...flows.machine.history import COMMAND_EVENTS
from ...store import HeaderChange, Record, RecordCorrupt, StoreError, StoreUnusable, StreamState
from ..persistence.persistent_actor import ACTOR_STATUS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...flows.machine.effects import Decision
    from ...store import EventStore, Header

__all__ = [
    "HARMFUL",
    "PARK",
    "PAUSE",
    "RECOVERABLE",
    "UNREPLAYABLE",
    "WHAT_TO_DO",
    "LastWord",
    "UnknownFlowError",
    "advice",
    "inputs_of",
    "is_flow",
    "known_last_word",
    "last_parked",
    "last_word",
    "may_go_on",
    "parked_for",
    "type_of",
]

LastWord: TypeAlias = events.FlowCompleted | events.FlowFailed | events.Parked

_STARTED = events.FlowStarted.__struct_config__.tag

PARK = HeaderChange("parked", StreamState.HELD, None)
"""What becomes of a parked flow's header."""

RECOVERABLE = frozenset(("nondeterminism", "unknown_flow", "unreadable"))
"""Reasons to be parked that may be gone when a system is opened with other code."""

PAUSE = HeaderChange("paused", StreamState.HELD, None)
"""What becomes of a paused flow's header."""

HARMFUL = frozenset(("blocking", "lethal"))
"""Reasons for which a flow's code is not even replayed before somebody retries it."""


WHAT_TO_DO = (
    "`persistasaurus verify` says what is damaged; a backup may have it intact. Every other flow continues."
)
"""What is said about damage, after what it is."""


def advice(error: Exception) -> str:
    """Return what is to be done about an error of the store, in words that can follow it."""
    return f". {WHAT_TO_DO}" if isinstance(error, RecordCorrupt | StoreUnusable) else ""


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


def inputs_of(decision: Decision) -> tuple[list[events.AnyEvent], tuple[int, ...]]:
    """Return what of a decision must not be lost, though it was not made to its end.

    These are the input events that the code was given, with what it did about the earlier ones; and the
    entries of the inbox that are input now. What it did since the last one, it will do again.
    """
    decided = list(decision.events)
    while decided and type(decided[-1]) in COMMAND_EVENTS:
        decided.pop()
    started = {e.step: None for e in decided if isinstance(e, events.StepStarted | events.StepAttempted)}
    signals = sum(type(event) is events.SignalReceived for event in decided)
    never_ran = [events.StepInterrupted(step, begun=False) for step in started]
    return [*decided, *never_ran], tuple(decision.consumed[:signals])


def is_flow(store: EventStore, header: Header | None) -> bool:
    """Tell whether a stream is a flow, and no other actor; by its first record, if its header is damaged."""
    if header is None:
        return False
    return header.status != ACTOR_STATUS if header.is_sound else bool(type_of(store, header))


def type_of(store: EventStore, header: Header) -> str:
    """Return the type of a flow; by its first record, if its header is damaged. Empty: it is no flow."""
    if header.is_sound:
        return header.type
    first = store.scan(header.stream, limit=1)
    if not first or not isinstance(first[0], Record) or first[0].kind != _STARTED:
        return ""
    try:
        event = events.decode(first[0].data)
    except msgspec.MsgspecError:
        return ""
    return event.flow if isinstance(event, events.FlowStarted) else ""


def last_parked(history: Iterable[events.AnyEvent]) -> events.Parked | None:
    """Return the event that parks a flow still, from its history read backwards."""
    for event in history:
        if isinstance(event, events.Parked):
            return event
        if isinstance(event, events.Repaired):
            return None
    return None


def last_word(store: EventStore, header: Header) -> LastWord:
    """Return the event that says how a flow has ended, or why it is parked.

    It is the last one, unless steps that still ran then have ended since. Of a flow that is parked because
    its history cannot be read, nothing may be on record but that it is parked.

    Raises:
        StoreError: it cannot be read.
        ValueError: the history does not say.
    """
    try:
        for after in (header.version - 1, 0):
            for record in reversed(store.read(header.stream, after=after)):
                event = events.decode(record.data)
                if isinstance(event, LastWord):
                    return event
    except RecordCorrupt as error:
        if header.status == "parked":
            return parked_for(error)
        raise
    if header.status == "parked":
        return events.Parked("unreadable", "nothing more could be written to its history")
    raise ValueError(f"the history of flow {header.stream!r} does not say how it ended")


def known_last_word(store: EventStore, header: Header) -> LastWord | None:
    """Return the event that `last_word` returns; None: it cannot be told."""
    try:
        return last_word(store, header)
    except (StoreError, ValueError, msgspec.MsgspecError):
        return None


def may_go_on(word: LastWord | None) -> bool:
    """Tell whether a parked flow may run on by itself, if the code is another now."""
    return isinstance(word, events.Parked) and word.reason in RECOVERABLE
