"""The runs under way, and the fence around each: the first to claim a run ends it, for good.

Whoever has a result, whoever finds a run overdue, and whoever shuts down all claim first. What
comes later finds the claim taken and is discarded.
"""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Protocol

from ..runtime.primitives import Lock
from .task import RunningStep, StepOutcome, StepTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtime.primitives import AlarmHandle, AlarmService, Clock
    from .task import StepDone, StepTask

__all__ = ["Run", "RunHost", "Runs", "set_flag"]

logger = logging.getLogger("persistasaurus")

# Many runs that expire one after the other are looked through together.
_LOOK_APART_S = 0.01


class RunHost(Protocol):
    """Whatever a run runs on."""

    def give_up(self, run: Run) -> str:
        """Stop the run if that is possible; tell, for a message to people, what becomes of it."""
        ...


class Run:
    """A task on its way. `started` and `deadline` are instants of `Clock.elapsed`."""

    __slots__ = ("deadline", "done", "host", "note", "started", "task")

    def __init__(self, task: StepTask, done: StepDone) -> None:
        self.task = task
        self.done = done
        self.host: RunHost | None = None
        self.note: Callable[[float], None] | None = None
        """Told how many seconds the run has taken."""
        self.started = 0.0
        self.deadline = inf


class Runs:
    """All runs under way. Every method may be called from any thread."""

    def __init__(self, clock: Clock, alarms: AlarmService) -> None:
        self._clock = clock
        self._alarms = alarms
        # Keyed by the run itself: popping it is atomic, and that is the claim.
        self._under_way: dict[Run, Run] = {}
        self._lock = Lock()
        self._expiring = Lock()
        self._next_look = inf
        self._alarm: AlarmHandle | None = None
        self._is_closing = False
        self._ended = Lock()
        self._ended.acquire()

    def begin(self, run: Run, host: RunHost, allowance_s: float = 0.0) -> float:
        """Note that the run starts now, which is returned. `allowance_s` prolongs its timeout."""
        run.host = host
        now = run.started = self._clock.elapsed()
        self._under_way[run] = run
        if run.task.timeout_s is not None:
            self._expect(run, now + run.task.timeout_s + allowance_s)
        return now

    def set_off(self, run: Run) -> None:
        """Note that what was allowed for is over: the timeout counts from now."""
        if run.task.timeout_s is not None:
            self._expect(run, self._clock.elapsed() + run.task.timeout_s)

    def claim(self, run: Run) -> bool:
        """Take the right to end the run. Only one caller ever gets it."""
        return self._under_way.pop(run, None) is not None

    def is_under_way(self, run: Run) -> bool:
        """Tell whether the run is still to be ended."""
        return run in self._under_way

    def finish(self, run: Run, outcome: StepOutcome) -> bool:
        """Report the outcome, unless the run was given up meanwhile, which is what False means."""
        if run.note is not None:
            run.note(self._clock.elapsed() - run.started)
        if self._under_way.pop(run, None) is None:
            return False
        self._report(run, outcome)
        return True

    def running(self) -> tuple[RunningStep, ...]:
        """Tell what runs now, the longest running first."""
        runs = sorted(self._under_way, key=lambda run: run.started)
        return tuple(RunningStep(run.task.key, run.task.name, run.started) for run in runs)

    def wait_until_none(self, deadline: float) -> None:
        """Wait until nothing is under way, or for `deadline`."""
        self._is_closing = True
        while self._under_way and (left := deadline - self._clock.elapsed()) > 0:
            self._ended.acquire(timeout=left)

    def abandon(self) -> tuple[Run, ...]:
        """Give up whatever is under way, without reporting it."""
        abandoned = tuple(run for run in list(self._under_way) if self.claim(run))
        for run in abandoned:
            self._give_up(run)
        with self._lock:
            alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()
        # A timeout that is being reported right now shall have been reported before this returns.
        if self._expiring.acquire(timeout=1.0):
            self._expiring.release()
        return abandoned

    def _expect(self, run: Run, deadline: float) -> None:
        run.deadline = deadline
        if deadline < self._next_look:
            self._look_at(deadline)

    def _look_at(self, instant: float) -> None:
        with self._lock:
            if instant >= self._next_look:
                return
            self._next_look = instant
            former, self._alarm = self._alarm, self._alarms.call_at(instant, self._expire)
        if former is not None:
            former.cancel()

    def _expire(self) -> None:
        # From here on, whoever begins a run sets an alarm for it, though this look may see it, too.
        with self._lock:
            self._next_look = inf
        now = self._clock.elapsed()
        nearest: Run | None = None
        for run in list(self._under_way):
            if run.deadline <= now:
                self._time_out(run)
            elif nearest is None or run.deadline < nearest.deadline:
                nearest = run
        if nearest is not None and nearest.deadline < inf:
            self._look_at(max(nearest.deadline, now + _LOOK_APART_S))

    def _time_out(self, run: Run) -> None:
        with self._expiring:
            if not self.claim(run):
                return
            fate = self._give_up(run)
            message = f"step {run.task.name!r} ran longer than {run.task.timeout_s} s; {fate}"
            self._report(run, StepOutcome(error=StepTimeout(message)))

    def _give_up(self, run: Run) -> str:
        host = run.host
        try:
            return "" if host is None else host.give_up(run)
        except Exception:
            logger.exception("Step %r could not be given up", run.task.name)
            return "it could not be stopped, its late result is discarded"

    def _report(self, run: Run, outcome: StepOutcome) -> None:
        try:
            run.done(run.task, outcome)
        except BaseException:
            logger.exception("The outcome of step %r could not be reported", run.task.name)
        if self._is_closing and not self._under_way:
            set_flag(self._ended)


def set_flag(wake_flag: Lock) -> None:
    """Wake the one that waits to acquire the flag, now or next time it waits."""
    try:
        wake_flag.release()
    except RuntimeError:
        return  # It has been set, and nobody has come yet.
