"""The step executor: runs the steps of all flows, outside the actors.

A step that is short runs where actors run, any other on a thread of a pool, as a coroutine on one asyncio
loop, or in a worker process. None of these exists before the first step that needs it. Whatever a step does -
raise SystemExit, hang, take its process down - ends that run of it and nothing else.

    executor = StepExecutor(environment)
    executor.submit(StepTask(key=(flow_id, 1, 1), mode="thread", name="charge", call=charge), done)
    unfinished = executor.close(environment.clock.elapsed() + 10)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...flows.errors import SystemClosed
from .loop import Loop
from .runs import Run, Runs
from .short_steps import ShortSteps
from .shortage import Shortage
from .task import (
    RemoteStepError,
    RunningStep,
    StepCrashed,
    StepDone,
    StepLost,
    StepOutcome,
    StepTask,
    StepTimeout,
)
from .thread_pool import ThreadPool, ThreadPoolRules
from .threads import ThreadRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

    from ..runtime.environment import Environment
    from ..runtime.watchdog import WatchdogRules
    from .task import BlockingStep
    from .thread_pool import Runner

__all__ = [
    "RemoteStepError",
    "RunningStep",
    "StepCrashed",
    "StepDone",
    "StepExecutor",
    "StepLost",
    "StepOutcome",
    "StepTask",
    "StepTimeout",
]

# What `close` may take on top of its deadline to kill, to cancel and to see the threads end.
_GRACE_S = 2.0
# A worker process is dear to start, and cheap to keep for a while.
_IDLE_PROCESS_S = 300.0
# Importing the user's program in a new process is not the step's time, but must end.
_START_PROCESS_S = 60.0


class StepExecutor:
    """Runs steps. Every method may be called from any thread.

    `ready` has something run where actors run: there `def` steps run that are short and have no timeout, all
    others on threads of a pool. No more than `max_threads` of them run at once, and `max_processes` isolated
    steps (None: as many as processors); the rest wait, and start in order. The loop takes all. Threads that
    are lost to a step that hangs do not count, up to a bound, nor do those that wait for a future of ours. A
    thread ends when idle for `idle_s`. What the machine cannot give just now is waited for. `patience` says
    when something is done about a step that blocks the loop.
    """

    def __init__(  # noqa: PLR0913 - settings, all by name but the first, all with defaults
        self,
        environment: Environment,
        *,
        max_threads: int = 64,
        max_processes: int | None = None,
        idle_s: float = 30.0,
        patience: WatchdogRules | None = None,
        ready: Callable[[Any], None] | None = None,
    ) -> None:
        self._clock = environment.clock
        self._runs = Runs(environment.clock, environment.alarms)
        self._is_closed = False
        name = "persistasaurus-step"
        rules = ThreadPoolRules(max_threads, idle_s)
        self._threads = ThreadPool(f"{name}-thread", environment, self._runs, ThreadRunner, rules)
        self._short: ShortSteps | None = None
        if ready is not None:
            self._short = ShortSteps(self._runs, self._threads, ThreadRunner().perform, ready)
        processes = max_processes or os.cpu_count() or 1
        rules = ThreadPoolRules(processes, _IDLE_PROCESS_S, _START_PROCESS_S)
        self._processes = ThreadPool(f"{name}-process", environment, self._runs, self._process_runner, rules)
        self._loop = Loop(f"{name}-loop", environment, self._runs, patience)
        self._start_process = environment.start_process
        self._no_process = Shortage("start a process for isolated steps")

    @property
    def queued(self) -> int:
        """How many steps wait to be started: for a thread or a process, or for an earlier run that hangs."""
        short = 0 if self._short is None else self._short.queued
        return short + self._threads.queued + self._processes.queued + self._loop.queued

    @property
    def blocked(self) -> int:
        """How many steps wait, on a thread, for something of the engine."""
        short = 0 if self._short is None else len(self._short.waiting)
        return short + self._threads.lent

    @property
    def leaked(self) -> int:
        """How many steps were given up and still run: threads cannot be stopped, tasks may refuse."""
        return self._lost + self._loop.lost

    @property
    def lost_threads(self) -> int:
        """How many threads are held by steps that were given up, or by one that blocks all async steps."""
        return self._lost + self._loop.lost_threads

    @property
    def _lost(self) -> int:
        return self._threads.lost + (0 if self._short is None else len(self._short.lost))

    @property
    def blocking(self) -> BlockingStep | None:
        """What has blocked the loop of async steps for so long that it was reported, and still does."""
        return self._loop.blocking

    def submit(self, task: StepTask, done: StepDone) -> None:
        """Run `task` and report its outcome to `done`, once. Never waits for anything to run.

        `done` is called where the step runs, or on the thread of the alarms when the step has timed
        out; it must be short, and may submit. It is not called for steps that `close` gave up.

        Raises:
            SystemClosed: the executor is closed, or closing.
        """
        if self._is_closed:
            raise SystemClosed("the executor takes no more steps")
        run = Run(task, done)
        if task.mode == "thread":
            if self._short is None or not self._short.submit(run):
                self._threads.submit(run)
        elif task.mode == "loop":
            self._loop.submit(run)
        else:
            self._processes.submit(run)

    def running(self) -> tuple[RunningStep, ...]:
        """Tell which steps run now, the longest running first. What waits or was given up is not named."""
        return self._runs.running()

    def close(self, deadline: float) -> tuple[Hashable, ...]:
        """Take no more, wait until nothing runs or for `deadline` (`Clock.elapsed`), then give up.

        Processes are killed, tasks cancelled, threads left to themselves. Returns the keys of the steps
        that were given up, and within a few seconds after the deadline in any case. A task that is
        neither among them nor was reported to its `done` has never been started.
        """
        self._is_closed = True
        self._loop.shut()
        threads, processes = self._threads.shut(), self._processes.shut()
        self._runs.wait_until_none(deadline)
        abandoned = self._runs.abandon()
        last = max(deadline, self._clock.elapsed()) + _GRACE_S
        self._loop.join(last)
        self._threads.join(threads, last)
        self._processes.join(processes, last)
        return tuple(run.task.key for run in abandoned)

    def _process_runner(self) -> Runner:
        # Imported on the thread that needs it: multiprocessing costs more than all the rest.
        from .processes import ProcessRunner  # noqa: PLC0415

        return ProcessRunner(self._runs, self._start_process, self._no_process)
