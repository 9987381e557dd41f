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
"""What is less than a second does not count as a jump of the calendar."""


_BEGINNING_OF_TIME = -62_135_596_800_000_000
_END_OF_TIME = 253_402_300_799_999_999
"""The first microsecond of the year 1, and the last one of 9999: there `datetime` begins and ends, in UTC."""


def within_time(instant: int) -> int:
    """Return an instant, or the one nearest to it that everybody can show."""
    return min(max(instant, _BEGINNING_OF_TIME), _END_OF_TIME)


class Due:
    """When something is to happen: at an instant on disk, and in this run by the clock that cannot jump.

    A duration is over when it has elapsed, whatever the calendar says; a date on the calendar has
    come when the calendar says so.
    """

    __slots__ = ("_calendar", "_elapsed", "_since", "wall")

    def __init__(self, wall: int, since: int, *, calendar: bool = False) -> None:
        self.wall = within_time(wall)  # histories of earlier versions may say otherwise
        self._since = since
        self._calendar = calendar
        self._elapsed: float | None = None

    def arm(self, moment: Timestamp) -> None:
        """Begin to wait, in this run, for what remains: never for more than the whole duration.

        Where the calendar has jumped since the duration began, in this run, that is no time gone by.
        """
        if not self._calendar:
            whole = max(self.wall - self._since, 0) * _MICROSECOND
            jumped, is_of_this_run = _jumped(self._since, moment)
            left = max(self.wall - (moment.wall - jumped), 0) * _MICROSECOND
            if not is_of_this_run:
                # Whatever the calendar says, that long it has been waited for.
                whole = max(whole - moment.uptime, 0.0)
            self._elapsed = moment.elapsed + min(left, whole)

    def has_come(self, moment: Timestamp) -> bool:
        """Tell whether it is time."""
        return self.remaining(moment) <= 0

    def remaining(self, moment: Timestamp) -> float:
        """Return the seconds that are left."""
        if self._elapsed is None:
            return (self.wall - moment.wall) * _MICROSECOND
        return self._elapsed - moment.elapsed

    def instant(self, moment: Timestamp) -> float:
        """Return when it comes, on the clock that cannot jump."""
        return moment.elapsed + self.remaining(moment) if self._elapsed is None else self._elapsed


def _jumped(since: int, moment: Timestamp) -> tuple[int, bool]:
    """Return by how much the calendar has jumped from an instant on, and whether that was in this run.

    What it has shown more than once was for the last time: to wait too long is better than too short.
    """
    jumped, end = 0, moment.wall
    for at, by in reversed(moment.jumps):
        if at + max(by, 0) - _INEXACT <= since <= end + _INEXACT:
            return jumped, True
        jumped, end = jumped + by, at - min(by, 0)
    began = moment.wall - jumped - int(moment.uptime / _MICROSECOND)
    return jumped, began - _INEXACT <= since <= end + _INEXACT


class StepPhase(enum.Enum):
    """Where a step that has begun stands."""

    SCHEDULED = "scheduled"
    """It waits for its time: a delay, or a retry."""
    RUNNING = "running"
    """An attempt is recorded. Right after a recovery that means: in doubt."""
    SUSPECT = "suspect"
    """It waits for its turn, since it may have killed the process."""
    RECONCILING = "reconciling"
    """Its `reconcile` function is finding out."""


class PendingOperation(Protocol):
    """Something that the flow's code has done: live it is recorded, in a replay the history has to say it."""

    @property
    def waiter(self) -> Waiter | None:
        """Who in the code waits for it."""
        ...

    def matches(self, event: events.AnyEvent) -> bool:
        """Tell whether an event is the record of it."""
        ...

    def confirm(self, event: Any, at: int) -> None:
        """Take over from its record what the code cannot know."""
        ...

    def record(self, sink: CommandSink) -> None:
        """Have it recorded."""
        ...

    def describe(self) -> str:
        """Say it in words."""
        ...


class StepRun:
    """A step of this flow that has begun and not ended.

    `attempt` numbers attempts from 1, `failures` counts the failed ones, and `unresolved` those since
    the last outcome: that many times the process may have died of it. `is_live`: the attempt was made
    by this process, so it is not in doubt; neither is one that is known not to have begun, which is what
    `is_doubtful` tells. `approved`: a person has said that it may run once more.
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
        """Decode the arguments: anew for each attempt, which may change its own as it likes."""
        return self.step.parameters.decode(self.data)

    def schedule(self, due: Due) -> None:
        """Wait for a time."""
        self.phase = StepPhase.SCHEDULED
        self.due = due

    def begin(self, attempt: int, at: int) -> None:
        """Note that an attempt is recorded. An approval is used up by it."""
        self.attempted_at = at
        self.phase = StepPhase.RUNNING
        self.due = None
        self.attempt = attempt
        self.unresolved += 1
        self.approved = False
        self.is_live = False
        self.is_doubtful = True

    def fail_once(self, due: Due) -> None:
        """Note a failure that is to be tried again."""
        self.failures += 1
        self.unresolved = 0
        self.is_live = False
        self.schedule(due)

    def approve(self) -> None:
        """Note that a person wants it to run on, whatever happened before."""
        self.approved = True
        self.unresolved = 0
        self.failures = 0

    # ------------------------------------------------------------------------------ as an operation
    def matches(self, event: events.AnyEvent) -> bool:
        """Tell whether it was started, or scheduled, under this number and name and with these arguments."""
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
        """Begin the attempt, or wait as long as is recorded."""
        if type(event) is events.StepScheduled:
            self.schedule(Due(event.due, at))
        else:
            self.begin(1, at)

    def record(self, sink: CommandSink) -> None:
        """Have its start recorded."""
        sink.step(self)

    def describe(self) -> str:
        """Say it in words."""
        return f"step {self.number} {self.step.name!r}"


class Timer:
    """A sleep of this flow: for a duration, or `until` a date on the calendar."""

    __slots__ = ("due", "number", "until", "waiter")

    def __init__(self, number: int, until: timedelta | datetime, waiter: Waiter) -> None:
        self.number = number
        self.until = until
        self.waiter = waiter
        self.due = Due(0, 0)

    def matches(self, event: events.AnyEvent) -> bool:
        """Tell whether a timer of this number was set; for how long may have changed since."""
        return type(event) is events.TimerSet and event.timer == self.number

    def confirm(self, event: events.TimerSet, at: int) -> None:
        """Wait as long as is recorded."""
        self.due = Due(event.due, at, calendar=event.until)

    def record(self, sink: CommandSink) -> None:
        """Have it recorded that the timer is set."""
        sink.timer(self)

    def describe(self) -> str:
        """Say it in words."""
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
            PayloadError: it does not fit what is waited for.
        """
        if self.step is not None:
            return self.step.parameters.decode(data)
        return data if self.codec is None else self.codec.decode(data)

    def matches(self, event: events.AnyEvent) -> bool:
        """Tell whether a signal of this name was awaited, as this step or as none."""
        return type(event) is events.SignalAwaited and event.name == self.name and event.step == self.number

    def confirm(self, event: events.SignalAwaited, at: int) -> None:
        """Take nothing over: the name is all there is."""

    def record(self, sink: CommandSink) -> None:
        """Have it recorded that the signal is awaited."""
        sink.wait(self)

    def describe(self) -> str:
        """Say it in words."""
        return describe_wait(self.name, self.number)


class FlowEnding:
    """The flow's end, as its code came to it."""

    __slots__ = ("_end", "event", "waiter")

    def __init__(self, event: AnyEnd, end: Callable[[AnyEnd], None]) -> None:
        self.event = event
        self._end = end
        self.waiter: Waiter | None = None

    def matches(self, event: events.AnyEvent) -> bool:
        """Tell whether the flow has ended in the same way; with which value is not compared."""
        return type(event) is type(self.event)

    def confirm(self, event: AnyEnd, at: int) -> None:
        """End as is recorded."""
        del at
        self._end(event)

    def record(self, sink: CommandSink) -> None:
        """Have it recorded."""
        sink.end(self)

    def describe(self) -> str:
        """Say it in words."""
        if isinstance(self.event, events.FlowCompleted):
            return "the flow's completion"
        return f"the flow's failure with {self.event.error.type}: {storable(self.event.error.message, 200)}"


class CommandSink(Protocol):
    """Where the commands go that a flow's code issues: to be recorded, or to be compared with its history."""

    def step(self, run: StepRun, /) -> None:
        """Take note of a step."""
        ...

    def wait(self, wait: Wait, /) -> None:
        """Take note of a wait for a signal."""
        ...

    def timer(self, timer: Timer, /) -> None:
        """Take note of a sleep."""
        ...

    def end(self, end: FlowEnding, /) -> None:
        """Take note of the flow's end."""
        ...

    def retry(self, run: StepRun) -> None:
        """Take note that a failed step waits for its next attempt."""
        ...

    def warn(self, text: str) -> None:
        """Take note of what somebody should know."""
        ...

    def log(self, say: Callable[[], None]) -> None:
        """Have something said, unless it was said before."""
        ...

    def give_up(self, key: str, reason: str) -> None:
        """Take note that nobody will take a signal, since it does not fit."""
        ...

    def seal(self, codec: Codec, values: msgspec.Struct, limits: PayloadLimits) -> bytes:
        """Encode the arguments of a call."""
        ...


def describe_wait(name: str, step: int) -> str:
    """Say in words that a signal is awaited."""
    return f"wait for signal {name!r}" + (f" as step {step}" if step else "")
