"""A flow's history in a replay: which part of it counts, and how the code differs from it."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from .. import events
from ..description import describe
from ..errors import NondeterminismError
from ..values.location import NOWHERE
from ..values.text import shortened
from .pending import StepRun, describe_wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pending import PendingOperation


class Recorded(NamedTuple):
    """An event with its place in the flow's history. `at`: microseconds since the epoch, UTC."""

    version: int
    at: int
    event: events.AnyEvent


class Rewound(NamedTuple):
    """A place to which a repair has taken the code back.

    The numbers are the last ones used before the repair. What the code does anew gets higher ones: a number,
    and the idempotency key derived from it, never means two things.
    """

    last_step: int
    last_timer: int


class Plan(NamedTuple):
    """The effect of repairs on a history: the void versions, and where the code was taken back."""

    void: frozenset[int]
    rewound: dict[int, Rewound]


_version = attrgetter("version")
_NO_REPAIRS = Plan(frozenset(), {})


def plan_of(history: Sequence[Recorded]) -> Plan:
    """Return which part of a history counts.

    A repair voids the failures that it retries, and everything that the code did from the version `since`
    on, with its consequences: the code will do it anew. Signals, and input for what had begun before, stay:
    they have happened.
    """
    repairs = [(index, r.event) for index, r in enumerate(history) if type(r.event) is events.Repaired]
    if not repairs:
        return _NO_REPAIRS
    void: set[int] = set()
    rewound: dict[int, Rewound] = {}
    seen = last_step = last_timer = 0
    for index, repaired in repairs:
        void.update(repaired.retried)
        if repaired.since is not None:
            for _, _, event in history[seen:index]:
                if isinstance(event, _BEGINNINGS):
                    last_step = max(last_step, getattr(event, "step", None) or 0)
                    last_timer = max(last_timer, getattr(event, "timer", None) or 0)
            seen = index
            void |= _voided_by(history, repaired.since, index)
            rewound[repaired.since] = Rewound(last_step, last_timer)
    return Plan(frozenset(void), rewound)


def _voided_by(history: Sequence[Recorded], since: int, end: int) -> set[int]:
    begun: set[tuple[str, int]] = set()
    void: set[int] = set()
    first = bisect_left(history, since, hi=end, key=_version)
    for version, _, event in history[first:end]:
        operation = _operation(event)
        if isinstance(event, _BEGINNINGS) and operation is not None:
            begun.add(operation)
        if isinstance(event, _COMMAND_EVENTS) or operation in begun:
            void.add(version)
    return void


def failures_to_retry(history: Sequence[Recorded]) -> tuple[tuple[int, ...], int | None]:
    """Return the versions of the failures that a repair retries, and that of the flow's own failure.

    They are the failure that was fatal, and those after the flow's end, which no code could handle.
    There are none if the flow has not failed since the last repair.
    """
    ended = next(
        (r for r in reversed(history) if isinstance(r.event, events.FlowFailed | events.Repaired)), None
    )
    if ended is None or not isinstance(ended.event, events.FlowFailed):
        return (), None
    final = [r for r in history if isinstance(r.event, events.StepFailed) and r.event.retry_at is None]
    fatal = [r.version for r in final if r.version < ended.version and _fails(r.event, ended.event.step)][-1:]
    late = [r.version for r in final if r.version > ended.version]
    return (*fatal, *late), ended.version


def _fails(event: events.AnyEvent, step: int | None) -> bool:
    return isinstance(event, events.StepFailed) and event.step == step


_BEGINNINGS = (events.StepStarted, events.StepScheduled, events.SignalAwaited, events.TimerSet)
_COMMAND_EVENTS = (*_BEGINNINGS, events.FlowCompleted, events.FlowFailed)
COMMAND_EVENTS = frozenset(_COMMAND_EVENTS)
"""The kinds of events that record what the code did."""


def _operation(event: events.AnyEvent) -> tuple[str, int] | None:
    if isinstance(event, events.TimerSet | events.TimerFired):
        return ("timer", event.timer)
    step = None if isinstance(event, events.FlowFailed) else getattr(event, "step", None)
    return ("step", step) if step else None


def divergence(
    flow: str, recorded: Recorded, attempted: PendingOperation | None, why: BaseException | None = None
) -> NondeterminismError:
    """Return the error for a history that the code does not follow, with both sides and what to do."""
    error = NondeterminismError(
        f"{flow} does not do what its history says, at event {recorded.version}:\n"
        f"  recorded:  {_recorded(recorded.event)}\n"
        f"  attempted: {_attempted(attempted)}\n"
        f"{_arguments(recorded.event, attempted)}"
        f"{_reason(why)}"
        "The history is unchanged. The flow will continue once the original code is restored: keep the old"
        " code path for running flows, or deploy the previous version; then call"
        " handle.retry() or restart. Use steps for time, randomness and global state, or"
        " now(), random() and uuid4()."
    )
    error.version = recorded.version
    error.attempted_at = None if attempted is None or attempted.waiter is None else attempted.waiter.location
    return error


def _recorded(event: events.AnyEvent) -> str:
    line = getattr(event, "line", "")
    if isinstance(event, events.SignalAwaited):
        what = describe_wait(event.name, event.step)
    else:
        words = describe(event)
        what = words.thing if isinstance(event, _BEGINNINGS) else str(words)
    return f"{what} at {line}" if line else what


def _attempted(attempted: PendingOperation | None) -> str:
    if attempted is None:
        return "nothing: the code waits for something else, or has ended"
    at = NOWHERE if attempted.waiter is None else attempted.waiter.location
    return attempted.describe() if at is NOWHERE else f"{attempted.describe()} at {at}"


def _arguments(event: events.AnyEvent, attempted: PendingOperation | None) -> str:
    """Show both sides' arguments if only they differ."""
    if not isinstance(attempted, StepRun) or not isinstance(event, events.StepStarted | events.StepScheduled):
        return ""
    if (event.step, event.name) != (attempted.number, attempted.step.name):
        return ""
    return (
        f"  recorded arguments:  {_cut(bytes(event.args))}\n  attempted arguments: {_cut(attempted.data)}\n"
    )


def _reason(why: BaseException | None) -> str:
    return "" if why is None or isinstance(why, LookupError) else f"  because: {why}\n"


def _cut(data: bytes) -> str:
    return shortened(data.decode(errors="replace"), _ARGUMENTS)


_ARGUMENTS = 200
