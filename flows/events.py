"""The events that a flow's history consists of.

An event carries only what cannot be derived. Its body is JSON with the fields below and a `type`, whose
names never change. Fields are only ever appended, with defaults: the histories of every release must replay
for ever.

Input events come from outside the flow's code and make it continue; command events record what the code then
did. A replay feeds the inputs to the code and expects the same commands.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from .values.depth import DEPTH_MAX, depth

ParkReason: TypeAlias = Literal[
    "poisoned",
    "in_doubt",
    "nondeterminism",
    "unknown_flow",
    "unreadable",
    "crashing",
    "lethal",
    "blocking",
    "history_limit",
]


class Failure(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An exception as it is stored: text only.

    `line` is its place in the user's code (file and line), if known; `ancestry` names its classes unless they
    are built in.
    """

    type: str
    message: str
    traceback: str = ""
    line: str = ""
    ancestry: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all events."""


# ----------------------------------------------------------------------------------- input events
class FlowStarted(Event, tag="flow_started", frozen=True):
    """The flow exists. Its random numbers and uuids derive from `seed`."""

    flow: str
    args: msgspec.Raw
    seed: int


class StepCompleted(Event, tag="step_completed", frozen=True):
    """The step has a result, and will never run again."""

    step: int
    result: msgspec.Raw


class StepFailed(Event, tag="step_failed", frozen=True):
    """An attempt has failed; without `retry_at` (microseconds, UTC) the step has failed for good."""

    step: int
    attempt: int
    error: Failure
    retry_at: int | None = None


class StepAttempted(Event, tag="step_attempted", frozen=True):
    """An attempt at a delayed, failed or doubtful step is about to run; written before it runs."""

    step: int
    attempt: int


class StepInterrupted(Event, tag="step_interrupted", frozen=True):
    """The engine stopped waiting for the step, as in a shutdown: it is in doubt, but killed no process.

    If it had not `begun`, it is not in doubt either.
    """

    step: int
    begun: bool = True


class TimerFired(Event, tag="timer_fired", frozen=True):
    """The sleep is over."""

    timer: int


class SignalReceived(Event, tag="signal_received", frozen=True):
    """A signal has moved from the inbox into the flow's history; it is consumed when awaited."""

    name: str
    key: str
    args: msgspec.Raw


class Paused(Event, tag="paused", frozen=True):
    """The flow starts nothing more until resumed; what happens meanwhile is recorded and kept.

    `request` is the id under which another process left the request, if one did.
    """

    by: str = ""
    why: str = ""
    request: str = ""


class Resumed(Event, tag="resumed", frozen=True):
    """The flow continues with everything that happened while it was paused. `request` is as in `Paused`."""

    by: str = ""
    why: str = ""
    request: str = ""


class Parked(Event, tag="parked", frozen=True):
    """The flow needs a person."""

    reason: str
    message: str
    traceback: str = ""


class Repaired(Event, tag="repaired", frozen=True):
    """A person lets the flow continue. What its code did from version `since` on is void; inputs stay.

    Only the failures at the versions `retried` are void, too: their steps are retried.
    """

    since: int | None = None
    by: str = ""
    why: str = ""
    retried: tuple[int, ...] = ()


# --------------------------------------------------------------------------------- command events
class StepStarted(Event, tag="step_started", frozen=True):
    """The step is about to run for the first time. `line` is where the flow called it."""

    step: int
    name: str
    args: msgspec.Raw
    line: str = ""


class StepScheduled(Event, tag="step_scheduled", frozen=True):
    """The step is to run not before `due` (microseconds, UTC)."""

    step: int
    name: str
    args: msgspec.Raw
    due: int
    line: str = ""


class TimerSet(Event, tag="timer_set", frozen=True):
    """The flow sleeps until `due` (microseconds, UTC); `until`: a date on the calendar, not a duration."""

    timer: int
    due: int
    until: bool = False
    line: str = ""


class SignalAwaited(Event, tag="signal_awaited", frozen=True):
    """The flow waits for a signal; `step` is the number of the step that its payload will run as, if any."""

    name: str
    step: int = 0
    line: str = ""


class FlowCompleted(Event, tag="flow_completed", frozen=True):
    """The flow has ended with a result."""

    result: msgspec.Raw


class FlowFailed(Event, tag="flow_failed", frozen=True):
    """The flow has ended with an error; `step` is the step whose failure caused it, if one did."""

    error: Failure
    step: int | None = None


InputEvent: TypeAlias = (
    FlowStarted
    | StepCompleted
    | StepFailed
    | StepAttempted
    | StepInterrupted
    | TimerFired
    | SignalReceived
    | Paused
    | Resumed
    | Parked
    | Repaired
)
CommandEvent: TypeAlias = StepStarted | StepScheduled | TimerSet | SignalAwaited | FlowCompleted | FlowFailed
AnyEvent: TypeAlias = InputEvent | CommandEvent

_DEPTH = DEPTH_MAX + 8
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEvent)

encode = _encoder.encode


def kind(event: Event) -> str:
    """Return the name under which the store lists the event."""
    return event.__struct_config__.tag  # pyright: ignore[reportReturnType] - all tags are given, as text


def decode(data: bytes) -> AnyEvent:
    """Read an event's body.

    Raises:
        msgspec.MsgspecError: this version does not know such an event.
    """
    # Payloads are no deeper than the limit. Anything deeper is damage, and could exhaust a small stack.
    if len(data) > _DEPTH and depth(data, _DEPTH) > _DEPTH:
        raise msgspec.DecodeError("the event is nested deeper than any event can be")
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
