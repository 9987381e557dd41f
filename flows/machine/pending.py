"""What a flow has begun and not yet ended: steps, timers and waits."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from .. import events
from ..values.text import storable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    import msgspec

    from ..authoring.request import Waiter
    from ..authoring.step import Step
    from ..values.codec import Codec, PayloadLimits
    from .messages import Timestamp

AnyEnd: TypeAlias = events.FlowCompleted | events.FlowFailed

_MICROSECOND = 1e-6
_INEXACT = 999_999
"""Less than a second does not count as a jump of the calendar."""


_BEGINNING_OF_TIME = -62_135_596_800_000_000
_END_OF_TIME = 253_402_300_799_999_999
"""The first microsecond of the year 1, and the last one of 9999: the bounds of `datetime`, in UTC."""


def within_time(instant: int) -> int:
    """Return the nearest instant that `datetime` can express."""
    return min(max(instant, _BEGINNING_OF_TIME), _END_OF_TIME)


class Due:
    """When something is to happen: at an instant on disk, and in this process by the monotonic clock.

    A duration ends when it has elapsed, whatever the calendar says; a date comes when the calendar says so.
    """

    __slots__ = ("_calendar", "_elapsed", "_since", "wall")

    def __init__(self, wall: int, since: int, *, calendar: bool = False) -> None:
        self.wall = within_time(wall)  # histories of earlier versions may say otherwise
        self._since = since
        self._calendar = calendar
        self._elapsed: float | None = None

    def arm(self, moment: Timestamp) -> None:
        """Begin to wait, in this run, for the remainder: never for more than the whole duration.

        A jump of the calendar in this run, since the duration began, does not count as elapsed time.
        """
        if not self._calendar:
            whole = max(self.wall - self._since, 0) * _MICROSECOND
            jumped, is_of_this_run = _jumped(self._since, moment)
            left = max(self.wall - (moment.wall - jumped), 0) * _MICROSECOND
            if not is_of_this_run:
                # Whatever the calendar says, it has waited for this long.
                whole = max(whole - moment.uptime, 0.0)
            self._elapsed = moment.elapsed + min(left, whole)

    def has_come(self, moment: Timestamp) -> bool:
        return self.remaining(moment) <= 0

    def remaining(self, moment: Timestamp) -> float:
        """Return the seconds left."""
        if self._elapsed is None:
            return (self.wall - moment.wall) * _MICROSECOND
        return self._elapsed - moment.elapsed

    def instant(self, moment: Timestamp) -> float:
        """Return when it comes, on the monotonic clock."""
        return moment.elapsed + self.remaining(moment) if self._elapsed is None else self._elapsed


def _jumped(since: int, moment: Timestamp) -> tuple[int, bool]:
    """Return by how much the calendar has jumped since an instant, and whether that was in this run.

    An instant that the calendar showed more than once counts as its last one: it is better to wait too long.
    """
    jumped, end = 0, moment.wall
    for at, by in reversed(moment.jumps):
        if at + max(by, 0) - _INEXACT <= since <= end + _INEXACT:
            return jumped, True
        jumped, end = jumped + by, at - min(by, 0)
    began = moment.wall - jumped - int(moment.uptime / _MICROSECOND)
    return jumped, began - _INEXACT <= since <= end + _INEXACT


class StepPhase(enum.Enum):
    """The state of a step that has begun."""

    SCHEDULED = "scheduled"
    """It waits for a delay, or for its next attempt."""
    RUNNING = "running"
    """An attempt is recorded. Right after a recovery it is in doubt."""
    SUSPECT = "suspect"
    """It waits for its turn, because it may have killed the process."""
    RECONCILING = "reconciling"
    """Its `reconcile` function runs."""


class PendingOperation(Protocol):
    """Something that the flow's code has done: recorded live, and expected from the history in a replay."""

    @property
    def waiter(self) -> Waiter | None:
        """The part of the code that waits for it."""
        ...

    def matches(self, event: events.AnyEvent) -> bool:
        """Return whether an event is the record of it."""
        ...

    def confirm(self, event: Any, at: int) -> None:
        """Take from its record what the code cannot know."""
        ...

    def record(self, sink: CommandSink) -> None: ...

    def describe(self) -> str: ...


class StepRun:
    """A step of this flow that has begun and not ended.

    `attempt` numbers attempts from 1, `failures` counts the failed ones, and `unresolved` those since the
    last outcome, during which the process may have died. `is_live`: this process made the attempt, so it is
    not in doubt; nor is one that is known not to have begun, for which `is_doubtful` is False. `approved`:
    a person lets it run once more.
    """

    __slots__ = (
        "approved",
        "attempt",
        "attempted_at",
        "data",
        "due",
        "failures",
        "is_doubtful",
        "is_live",
        "number",
        "phase",
        "step",
        "unresolved",
        "waiter",
    )

    def __init__(self, number: int, step: Step[..., Any], data: bytes, waiter: Waiter) -> None:
        self.number = number
        self.step = step
        self.data = data
        self.waiter = waiter
        self.phase = StepPhase.SCHEDULED
        self.due: Due | None = None
        self.attempt = 0
        self.attempted_at = 0
        self.failures = 0
        self.unresolved = 0
        self.approved = False
        self.is_live = False
        self.is_doubtful = True

    def arguments(self) -> msgspec.Struct:
        """Decode the arguments: anew for each attempt, which may change its copy."""
        return self.step.parameters.decode(self.data)

    def schedule(self, due: Due) -> None:
        self.phase = StepPhase.SCHEDULED
        self.due = due

    def begin(self, attempt: int, at: int) -> None:
        """Note that an attempt is recorded. It uses up an approval."""
        self.attempted_at = at
        self.phase = StepPhase.RUNNING
        self.due = None
        self.attempt = attempt
        self.unresolved += 1
        self.approved = False
        self.is_live = False
        self.is_doubtful = True

    def fail_once(self, due: Due) -> None:
        """Note a failure that is to be retried."""
        self.failures += 1
        self.unresolved = 0
        self.is_live = False
        self.schedule(due)

    def approve(self) -> None:
        """Note that a person wants it to run, whatever happened before."""
        self.approved = True
        self.unresolved = 0
        self.failures = 0

    # ------------------------------------------------------------------------------ as an operation
    def matches(self, event: events.AnyEvent) -> bool:
        """Return whether it was started, or scheduled, with this number, name and arguments."""
        kind = type(event)
        if kind is not events.StepStarted and kind is not events.StepScheduled:
            return False
        start = cast("events.StepStarted | events.StepScheduled", event)
        return (
            start.step == self.number
            and start.name == self.step.name
            and self.step.parameters.codec.are_same(bytes(start.args), self.data)
        )

    def confirm(self, event: events.StepStarted | events.StepScheduled, at: int) -> None:
        if type(event) is events.StepScheduled:
            self.schedule(Due(event.due, at))
        else:
            self.begin(1, at)

    def record(self, sink: CommandSink) -> None:
        sink.step(self)

    def describe(self) -> str:
        return f"step {self.number} {self.step.name!r}"


class Timer:
    """A sleep of this flow: for a duration, or `until` a date."""

    __slots__ = ("due", "number", "until", "waiter")

    def __init__(self, number: int, until: timedelta | datetime, waiter: Waiter) -> None:
        self.number = number
        self.until = until
        self.waiter = waiter
        self.due = Due(0, 0)

    def matches(self, event: events.AnyEvent) -> bool:
        """Return whether a timer of this number was set; its duration may have changed since."""
        return type(event) is events.TimerSet and event.timer == self.number

    def confirm(self, event: events.TimerSet, at: int) -> None:
        self.due = Due(event.due, at, calendar=event.until)

    def record(self, sink: CommandSink) -> None:
        sink.timer(self)

    def describe(self) -> str:
        return f"sleep {self.number}"


class Wait:
    """A wait of this flow for a signal: as a step with the signal's values, or for the payload itself."""

    __slots__ = ("codec", "name", "number", "step", "waiter")

    def __init__(
        self, name: str, number: int, step: Step[..., Any] | None, codec: Codec | None, waiter: Waiter
    ) -> None:
        self.name = name
        self.number = number
        self.step = step
        self.codec = codec
        self.waiter = waiter

    def decode(self, data: bytes) -> Any:
        """Decode a payload.

        Raises:
            PayloadError: it does not fit the wait.
        """
        if self.step is not None:
            return self.step.parameters.decode(data)
        return data if self.codec is None else self.codec.decode(data)

    def matches(self, event: events.AnyEvent) -> bool:
        """Return whether a signal of this name was awaited, as this step or without one."""
        return type(event) is events.SignalAwaited and event.name == self.name and event.step == self.number

    def confirm(self, event: events.SignalAwaited, at: int) -> None:
        """Take nothing: the name is all there is."""

    def record(self, sink: CommandSink) -> None:
        sink.wait(self)

    def describe(self) -> str:
        return describe_wait(self.name, self.number)


class FlowEnding:
    """The flow's end, as its code came to it."""

    __slots__ = ("_end", "event", "waiter")

    def __init__(self, event: AnyEnd, end: Callable[[AnyEnd], None]) -> None:
        self.event = event
        self._end = end
        self.waiter: Waiter | None = None

    def matches(self, event: events.AnyEvent) -> bool:
        """Return whether the flow has ended in the same way; the result is not compared."""
        return type(event) is type(self.event)

    def confirm(self, event: AnyEnd, at: int) -> None:
        del at
        self._end(event)

    def record(self, sink: CommandSink) -> None:
        sink.end(self)

    def describe(self) -> str:
        if isinstance(self.event, events.FlowCompleted):
            return "the flow's completion"
        return f"the flow's failure with {self.event.error.type}: {storable(self.event.error.message, 200)}"


class CommandSink(Protocol):
    """Receives the commands of a flow's code: to record them, or to compare them with its history."""

    def step(self, run: StepRun, /) -> None: ...

    def wait(self, wait: Wait, /) -> None: ...

    def timer(self, timer: Timer, /) -> None: ...

    def end(self, end: FlowEnding, /) -> None: ...

    def retry(self, run: StepRun) -> None:
        """Note that a failed step waits for its next attempt."""
        ...

    def warn(self, text: str) -> None: ...

    def log(self, say: Callable[[], None]) -> None:
        """Call `say`, unless it was called before."""
        ...

    def give_up(self, key: str, reason: str) -> None:
        """Note that a signal fits no wait, and will not be taken."""
        ...

    def seal(self, codec: Codec, values: msgspec.Struct, limits: PayloadLimits) -> bytes:
        """Encode the arguments of a call."""
        ...


def describe_wait(name: str, step: int) -> str:
    return f"wait for signal {name!r}" + (f" as step {step}" if step else "")
