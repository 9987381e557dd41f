"""What becomes of what the code does: live it is recorded, in a replay it is expected."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from .. import events
from ..errors import PayloadError
from ..values.location import text_of
from .effects import RunStep, Warn
from .history import COMMAND_EVENTS, Plan, divergence
from .pending import Due, StepRun, Timer, Wait, within_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..values.codec import Codec, PayloadLimits
    from .effects import Decision
    from .execution import Execution
    from .history import Recorded, Rewound
    from .messages import Timestamp
    from .pending import FlowEnding, PendingOperation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant(at: int, wait: timedelta | int) -> int:
    """Return the instant that comes a while (a duration, or microseconds) after another."""
    return within_time(at + (wait if isinstance(wait, int) else wait // _MICROSECOND))


class Recorder:
    """Live: turns commands into events of the decision that is being made."""

    def __init__(self, execution: Execution, decision: Decision, moment: Timestamp) -> None:
        self._execution = execution
        self.decision = decision
        self.moment = moment

    def step(self, run: StepRun) -> None:
        """Record that a step is started, or scheduled when it has a delay."""
        args = msgspec.Raw(run.data)
        line = text_of(run.waiter.location)
        if run.step.delay is None:
            self._add(events.StepStarted(run.number, run.step.name, args, line))
            run.begin(1, self._execution.at)
            run.is_live = True
            self.decision.effects.append(RunStep(run, 1))
            return
        due = instant(self._execution.at, run.step.delay)
        self._add(events.StepScheduled(run.number, run.step.name, args, due, line))
        run.schedule(self._armed(Due(due, self._execution.at)))

    def wait(self, wait: Wait) -> None:
        """Record that a signal is awaited."""
        self._add(events.SignalAwaited(wait.name, wait.number, text_of(wait.waiter.location)))

    def timer(self, timer: Timer) -> None:
        """Record that a timer is set. A duration begins now."""
        until, at = timer.until, self._execution.at
        calendar = isinstance(until, datetime)
        wait = until - _EPOCH if isinstance(until, datetime) else until
        due = instant(0 if calendar else at, wait)
        self._add(events.TimerSet(timer.number, due, calendar, text_of(timer.waiter.location)))
        timer.due = self._armed(Due(due, at, calendar=calendar))

    def end(self, end: FlowEnding) -> None:
        """Record the flow's end."""
        self._add(end.event)
        self._execution.end(end.event)
        if type(end.event) is events.FlowCompleted:  # one that has failed may be let run on, and take them
            unread = self._execution.signals.unread
            self.decision.given_up += [(key, "unread when the flow ended (completed)") for key in unread]

    def retry(self, run: StepRun) -> None:
        """Let the time until the retry begin."""
        assert run.due is not None, "a step that is tried again waits for its time"
        run.due.arm(self.moment)

    def log(self, say: Callable[[], None]) -> None:
        """Have it said."""
        say()

    def warn(self, text: str) -> None:
        """Have it told."""
        self.decision.effects.append(Warn(text))

    def give_up(self, key: str, reason: str) -> None:
        """Have a signal go to the dead letters, and have it told."""
        self.decision.given_up.append((key, reason))
        self.warn(f"a signal is passed over; the flow waits on for one that fits: {reason}")

    def seal(self, codec: Codec, values: msgspec.Struct, limits: PayloadLimits) -> bytes:
        """Encode, and look whether it comes back."""
        return codec.seal(values, limits)[0]

    def _armed(self, due: Due) -> Due:
        due.arm(self.moment)
        return due

    def _add(self, event: events.CommandEvent) -> None:
        self.decision.events.append(event)
        self._execution.version += 1


class ReplayChecker:
    """Replay: holds what the code has done against what the history says next.

    The history may say it later: input that was recorded while the code stood still, for a shutdown,
    is followed by what the code made of them when it went on. It may even not say it yet.
    """

    def __init__(self, execution: Execution, flow: str) -> None:
        self._execution = execution
        self._flow = flow
        self._next: deque[PendingOperation] = deque()
        self._given_up: list[tuple[str, str]] = []
        self._history: Sequence[Recorded] = ()
        self._position = 0
        self._void: frozenset[int] = frozenset()
        self._unsaid: list[Callable[[], None]] = []
        expect = self._next.append
        self.step: Callable[[StepRun], None] = expect
        self.wait: Callable[[Wait], None] = expect
        self.timer: Callable[[Timer], None] = expect
        self.end: Callable[[FlowEnding], None] = expect

    def retry(self, run: StepRun) -> None:
        """Expect nothing: a failure that is tried again is no command of the code."""

    def log(self, say: Callable[[], None]) -> None:
        """Say nothing yet. What comes after all that is recorded may never have been said."""
        if self._is_beyond():
            self._unsaid.append(say)

    def _is_beyond(self) -> bool:
        """Tell whether the code has done all that the history says that it did."""
        left = len(self._next)
        for version, _, event in islice(self._history, self._position, None):
            if type(event) in COMMAND_EVENTS and version not in self._void:
                left -= 1
                if left < 0:
                    return False
        return True

    def warn(self, text: str) -> None:
        """Tell nobody: it was told when it happened."""

    def give_up(self, key: str, reason: str) -> None:
        """Remember it, as the history does not say whether it was done."""
        self._given_up.append((key, reason))

    def seal(self, codec: Codec, values: msgspec.Struct, limits: PayloadLimits) -> bytes:
        """Encode; look whether it comes back only where the history does not show that it did."""
        data = codec.encode_unchecked(values)
        if data is not None and self._is_recorded(data):
            return data
        return codec.seal(values, limits)[0]

    def _is_recorded(self, data: bytes) -> bool:
        ahead = self._position + len(self._next)
        if ahead >= len(self._history):
            return False
        args: Any = getattr(self._history[ahead].event, "args", None)
        return args is not None and bytes(args) == data

    def replay(self, history: Sequence[Recorded], plan: Plan) -> None:
        """Feed input events to the code, and find its commands in the history.

        Raises:
            NondeterminismError: the code does something else.
        """
        execution, void, rewound, following = self._execution, plan.void, plan.rewound, self._next
        self._history, self._void = history, void
        apply, run, run_queue = execution.apply, execution.run, execution.queue
        for position, recorded in enumerate(history, 1):
            version, at, event = recorded
            if version in rewound:
                self._rewind(rewound[version])
            if version in void:
                continue
            execution.version = version
            if type(event) in COMMAND_EVENTS:
                if not following or not following[0].matches(event):
                    raise divergence(self._flow, recorded, following[0] if following else None)
                following.popleft().confirm(event, at)
                if not following:
                    self._given_up.clear()  # with what followed it
                continue
            self._position = position
            try:
                apply(event, at)  # pyright: ignore[reportArgumentType] - it is an input event
            except (LookupError, PayloadError) as error:
                raise divergence(self._flow, recorded, following[0] if following else None, error) from error
            if not run_queue.is_empty:
                run()
        if history:
            execution.version = history[-1].version

    def _rewind(self, rewound: Rewound) -> None:
        """Give what the code does from here on numbers that were never used."""
        self._execution.renumber(self._next, rewound)

    def record_rest(self, recorder: Recorder) -> None:
        """Have what the code did beyond the history recorded now; a signal may be given up once more."""
        recorder.decision.given_up += self._given_up
        self._given_up.clear()
        if self._next:
            # It has not come so far before: otherwise that would be recorded, too.
            for say in self._unsaid:
                say()
        while self._next:
            self._next.popleft().record(recorder)
