"""The code's commands: recorded live, and expected in a replay."""

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
    from .history import Recorded
    from .messages import Timestamp
    from .pending import FlowEnding, PendingOperation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant(at: int, wait: timedelta | int) -> int:
    """Return the instant after another by a duration, or by microseconds."""
    return within_time(at + (wait if isinstance(wait, int) else wait // _MICROSECOND))


class Recorder:
    """Live: turns commands into events of the current decision."""

    def __init__(self, execution: Execution, decision: Decision, moment: Timestamp) -> None:
        self._execution = execution
        self.decision = decision
        self.moment = moment

    def step(self, run: StepRun) -> None:
        """Record that a step is started, or scheduled if it has a delay."""
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
        self._add(end.event)
        self._execution.end(end.event)
        if type(end.event) is events.FlowCompleted:  # after a repair, a failed one may take them
            unread = self._execution.signals.unread
            self.decision.given_up += [(key, "unread when the flow ended (completed)") for key in unread]

    def retry(self, run: StepRun) -> None:
        assert run.due is not None, "a step that is retried waits for its time"
        run.due.arm(self.moment)

    def log(self, say: Callable[[], None]) -> None:
        say()

    def warn(self, text: str) -> None:
        self.decision.effects.append(Warn(text))

    def give_up(self, key: str, reason: str) -> None:
        """Turn a signal into a dead letter, and warn of it."""
        self.decision.given_up.append((key, reason))
        self.warn(f"a signal is passed over; the flow waits on for one that fits: {reason}")

    def seal(self, codec: Codec, values: msgspec.Struct, limits: PayloadLimits) -> bytes:
        return codec.seal(values, limits)[0]

    def _armed(self, due: Due) -> Due:
        due.arm(self.moment)
        return due

    def _add(self, event: events.CommandEvent) -> None:
        self.decision.events.append(event)
        self._execution.version += 1


class ReplayChecker:
    """Replay: compares what the code does with what the history says next.

    The history may say it later: input recorded while the code stood still, for a shutdown, is followed by
    what the code made of it when it continued. It may even not say it yet.
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
        """Expect nothing: a retry is not a command of the code."""

    def log(self, say: Callable[[], None]) -> None:
        """Keep back what was logged before; what lies beyond the history may never have been."""
        if self._is_beyond():
            self._unsaid.append(say)

    def _is_beyond(self) -> bool:
        """Return whether the code has done everything in the history."""
        left = len(self._next)
        for version, _, event in islice(self._history, self._position, None):
            if type(event) in COMMAND_EVENTS and version not in self._void:
                left -= 1
                if left < 0:
                    return False
        return True

    def warn(self, text: str) -> None:
        """Stay silent: the warning was given when it happened."""

    def give_up(self, key: str, reason: str) -> None:
        """Remember it, as the history does not say whether it was done."""
        self._given_up.append((key, reason))

    def seal(self, codec: Codec, values: msgspec.Struct, limits: PayloadLimits) -> bytes:
        """Encode; check that the value comes back only where the history does not prove it."""
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
                # What the code does from here on gets numbers that were never used.
                execution.renumber(following, rewound[version])
            if version in void:
                continue
            execution.version = version
            if type(event) in COMMAND_EVENTS:
                if not following or not following[0].matches(event):
                    raise divergence(self._flow, recorded, following[0] if following else None)
                following.popleft().confirm(event, at)
                if not following:
                    self._given_up.clear()  # with its consequences
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

    def record_rest(self, recorder: Recorder) -> None:
        """Record what the code did beyond the history; it may give up a signal once more."""
        recorder.decision.given_up += self._given_up
        self._given_up.clear()
        if self._next:
            # The code has not come this far before: otherwise that would be recorded, too.
            for say in self._unsaid:
                say()
        while self._next:
            self._next.popleft().record(recorder)
