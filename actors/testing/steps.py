"""The steps of a simulated process: each is a turn of its own, and takes as long as it sleeps."""

from __future__ import annotations

import asyncio
import selectors
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Any

from ...flows.errors import SystemClosed
from ..steps.runs import Run, Runs
from ..steps.short_steps import ShortSteps
from ..steps.task import RunningStep, StepOutcome, StepTimeout
from ..steps.worker import find, remote_error
from .schedule import ProcessDied

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from ...flows import Step
    from ..runtime.environment import Environment
    from ..steps.task import StepDone, StepTask
    from .schedule import Schedule

__all__ = ["SimulatedExecutor", "VirtualLoop"]


class SimulatedExecutor:
    """Runs steps as the step executor does, on the one thread there is.

    A `def` step is taken to be short, and run by the code of the real executor. It takes no time, unless a
    double says how much. An `async def` step runs on a loop of virtual time: it takes what it sleeps.
    Isolated steps run in this process, but their exceptions are reported as from another. `perform` does a
    task's work; doubles replace it.
    """

    leaked = queued = blocked = lost_threads = 0
    blocking = None

    def __init__(self, schedule: Schedule, environment: Environment) -> None:
        self._schedule = schedule
        self._environment = environment
        self._open: dict[_Run, float] = {}
        self._runs = _SimulatedRuns(schedule, environment)
        self._short = ShortSteps(self._runs, _Pool(self), self._perform, schedule.add)
        self.is_closed = False
        self.perform: Callable[[StepTask], Any] = perform
        self.shortage: Callable[[], float] = float
        """For how many seconds the next step waits for a thread or process."""

    def submit(self, task: StepTask, done: StepDone) -> None:
        """Have the task run in a later turn. Raises SystemClosed: no more steps are taken."""
        if self.is_closed:
            raise SystemClosed("the executor takes no more steps")
        wait_s = self.shortage()
        if wait_s or task.mode != "thread" or not self._short.submit(Run(task, done)):
            self.submit_slow(task, done, wait_s)

    def submit_slow(self, task: StepTask, done: StepDone, wait_s: float = 0.0) -> None:
        """Have a step run that is not short, after `wait_s`."""
        run = _Run(self, task, done)
        self._open[run] = now = self._environment.clock.elapsed()
        if wait_s:
            self._environment.alarms.call_at(now + wait_s, lambda: self._schedule.add(run))
        else:
            self._schedule.add(run)

    def running(self) -> tuple[RunningStep, ...]:
        """Return the steps that have begun; of those that are not short, also those about to."""
        slow = (RunningStep(run.task.key, run.task.name, since) for run, since in self._open.items())
        return (*self._runs.running(), *slow)

    def close(self, deadline: float) -> tuple[Hashable, ...]:
        """Take no more, and run until none is open, or nothing can run by `deadline`."""
        self.is_closed = True
        while (self._open or self._runs.running()) and (
            self._schedule.run_one() or self._pass_time(deadline)
        ):
            pass
        return tuple(run.task.key for run in (*self._open, *self._runs.abandon()))

    def _pass_time(self, deadline: float) -> bool:
        clock = self._schedule.time
        instant = clock.next_instant()
        if instant is None or instant > deadline:
            return False
        clock.advance(max(0.0, instant - clock.elapsed()))
        return True

    def _perform(self, run: Run) -> StepOutcome:
        """Do the work of a short step."""
        outcome, self._runs.took[run] = self._outcome(run.task)
        self._schedule.look_alive()
        return outcome

    def run(self, run: _Run) -> None:
        """Do the work, and report it when its time is over."""
        outcome, took = self._outcome(run.task)
        limit = inf if run.task.timeout_s is None else run.task.timeout_s
        if took > limit:
            timeout = StepTimeout(f"step {run.task.name!r} ran longer than the {limit:g} s that it may")
            outcome, took = StepOutcome(error=timeout), limit
        if took:
            at = self._environment.clock.elapsed() + took
            self._environment.alarms.call_at(at, lambda: self._end(run, outcome))
        else:
            self._end(run, outcome)

    def _let_others(self) -> bool:
        """Let something else run, for a coroutine that waits for it; False: nothing can."""
        return self._schedule.run_one() or self._pass_time(inf)

    def _end(self, run: _Run, outcome: StepOutcome) -> None:
        if self._open.pop(run, None) is not None and not self._schedule.is_dead:
            run.done(run.task, outcome)

    def _outcome(self, task: StepTask) -> tuple[StepOutcome, float]:
        took = 0.0
        try:
            # As in the real one, steps leave nothing behind for each other or the test.
            context = Context()
            value = context.run(self.perform, task)
            if asyncio.iscoroutine(value):
                loop = VirtualLoop(self._let_others)
                try:
                    value = context.run(loop.run, value)
                finally:
                    took = loop.time()
                    loop.close()
            return StepOutcome(value=value), took
        except ProcessDied:
            raise
        except BaseException as error:  # noqa: BLE001 - as in the real one: a step's SystemExit is its error
            return StepOutcome(error=_reported(task, error)), took


def perform(task: StepTask) -> Any:
    """Do a task's work: return its outcome, or what is to be awaited for it."""
    if task.mode != "process":
        return task.call()
    return _step(task).call_encoded(task.payload, find)


def _step(task: StepTask) -> Step[..., Any]:
    call: Any = task.call
    return call.step_run.step


class _SimulatedRuns(Runs):
    """Runs of short steps, which are over when their time is."""

    def __init__(self, schedule: Schedule, environment: Environment) -> None:
        super().__init__(environment.clock, environment.alarms)
        self._schedule = schedule
        self.took: dict[Run, float] = {}

    def finish(self, run: Run, outcome: StepOutcome) -> bool:
        took = self.took.pop(run, 0.0)
        if took:

            def later() -> None:
                self.finish(run, outcome)

            self._alarms.call_at(run.started + took, later)
            return True
        return not self._schedule.is_dead and super().finish(run, outcome)


class _Pool:
    """Stands for the threads that steps have which are not short."""

    def __init__(self, executor: SimulatedExecutor) -> None:
        self._executor = executor

    @property
    def is_closed(self) -> bool:
        return self._executor.is_closed

    def submit(self, run: Run) -> None:
        if self.is_closed:
            raise SystemClosed("the executor takes no more steps")
        self._executor.submit_slow(run.task, run.done)

    def begin_elsewhere(self) -> bool:
        return not self.is_closed

    def go_on_elsewhere(self) -> None:
        """Do nothing: any number may run."""

    def end_elsewhere(self) -> None:
        """Do nothing, as above."""


class _Run:
    __slots__ = ("_executor", "done", "task")

    may_block = True

    def __init__(self, executor: SimulatedExecutor, task: StepTask, done: StepDone) -> None:
        self._executor = executor
        self.task = task
        self.done = done

    def _run_slice(self) -> None:
        self._executor.run(self)


def _reported(task: StepTask, error: BaseException) -> BaseException:
    if task.mode != "process":
        return error
    return remote_error(error, is_final=_step(task).is_final(error))


class _Impatient(selectors.SelectSelector):
    """A selector that does not wait, but counts how long it would have.

    Where there is no timeout, others run in the meantime, even flows in their own time.
    """

    def __init__(self, let_others: Callable[[], bool]) -> None:
        super().__init__()
        self.waited = 0.0
        self._let_others = let_others

    def select(self, timeout: float | None = None) -> list[Any]:
        """Look once; if nothing is ready, the timeout counts as waited."""
        ready = super().select(0)
        if not ready and timeout is None:
            # For a flow, or for something real: a thread, or a socket.
            return super().select(0 if self._let_others() else _REAL_S)
        if not ready and timeout and timeout > 0:
            self.waited += timeout
        return ready


_REAL_S = 5.0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which a sleep ends at once, and still takes its virtual time."""

    def __init__(self, let_others: Callable[[], bool]) -> None:
        self._impatient = _Impatient(let_others)
        super().__init__(self._impatient)

    def time(self) -> float:
        """Return the seconds that have been slept."""
        return self._impatient.waited

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, even where another loop is running."""
        outer = asyncio._get_running_loop()  # noqa: SLF001
        asyncio._set_running_loop(None)  # noqa: SLF001
        try:
            return self.run_until_complete(work)
        finally:
            asyncio._set_running_loop(outer)  # noqa: SLF001
