"""A crew of threads: few while the steps are short, many when they block.

Waking threads costs more than most steps do, and threads that are awake fight for the GIL. So a
burst of steps is left to whoever is awake, as long as they make progress; when nobody has taken a
step for a moment, more are called in, twice as many each time. Who waits for work waits on a bell
of its own, and the one that fell idle last is called first, so that the others may end.

Threads are daemons: a step that hangs must not keep the process alive.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from ..flows.errors import SystemClosed
from .seam import Lock, is_current_thread, start_thread
from .steps_pace import Pace
from .steps_runs import ring
from .steps_task import StepCrashed, StepOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from .seam import Seam, Thread
    from .steps_runs import Run, Runs

__all__ = ["Crew", "CrewRules", "Runner"]

logger = logging.getLogger("persistasaurus")

# After a thread could not be started, which is a matter of the machine's limits.
_RETRY_START_S = 0.05


class Runner(Protocol):
    """What a worker runs steps with. Made, used and closed on the worker's thread."""

    is_killable: bool
    """Whether a run can be stopped. If not, the thread is lost to a run that was given up."""

    def perform(self, run: Run) -> StepOutcome:
        """Run the step to its end. Raises nothing that the step raised."""
        ...

    def kill(self, run: Run) -> None:
        """Stop `run` if it still runs here. Called on another thread."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class CrewRules(msgspec.Struct, frozen=True):
    """How many threads there may be, and when they come and go."""

    max_workers: int
    idle_s: float
    """A worker ends that has had nothing to do for so long."""
    patience_s: float
    """Nobody is called in while the last start of a step is not longer ago."""
    allowance_s: float = 0.0
    """What a run may take on top of its timeout until its runner says that it has set off."""


class Worker:
    """A thread of the crew. The crew's lock guards everything but `bell`."""

    __slots__ = ("bell", "crew", "has_ended", "is_new", "is_stalled", "name", "run", "runner", "thread")

    def __init__(self, crew: Crew, name: str) -> None:
        self.crew = crew
        self.name = name
        self.bell = Lock()
        self.bell.acquire()
        self.run: Run | None = None
        self.runner: Runner | None = None
        self.thread: Thread | None = None
        self.is_new = True
        self.is_stalled = False
        self.has_ended = False

    def give_up(self, run: Run) -> str:
        """Stop the run if that is possible; otherwise leave the thread to it."""
        runner = self.runner
        if runner is not None and runner.is_killable:
            runner.kill(run)
            return "its process was killed"
        self.crew.lose(self)
        return "its thread goes on, and its late result is discarded"

    def main(self) -> None:
        """Run steps until there are none for a long time, or until a run was given up that goes on."""
        try:
            self.crew.start_next()
            runner = self.runner = self.crew.make_runner()
            while self._work(runner):
                pass
        finally:
            self._end()

    def _work(self, runner: Runner) -> bool:
        # A function of its own, so that an idle worker holds nothing of its last step.
        run = self.crew.take(self)
        if run is None:
            return False
        return self.crew.runs.finish(run, runner.perform(run)) or runner.is_killable

    def _end(self) -> None:
        run = self.run
        self.crew.leave(self)
        if run is not None:
            crashed = StepCrashed(f"the thread of step {run.task.name!r} was ended from outside")
            self.crew.runs.finish(run, StepOutcome(error=crashed))
        if self.runner is not None:
            self.runner.close()


class Crew:
    """Workers that run steps, at most `rules.max_workers` at once; the rest wait in order."""

    def __init__(
        self, name: str, seam: Seam, runs: Runs, make_runner: Callable[[], Runner], rules: CrewRules
    ) -> None:
        self.runs = runs
        self.make_runner = make_runner
        self._name = name
        self._clock = seam.clock
        self._alarms = seam.alarms
        self._rules = rules
        self._lock = Lock()
        self._waiting: deque[Run] = deque()
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._unborn: deque[Worker] = deque()
        self._lost: set[Worker] = set()
        self._hired = 0
        self._stalled = 0
        self._pace = Pace(seam.clock, rules.patience_s)
        self._is_looking = False
        self._is_closed = False
        self._left = Lock()
        self._left.acquire()

    @property
    def lost(self) -> int:
        """How many threads still run a step that was given up."""
        return len(self._lost)

    def submit(self, run: Run) -> None:
        """Have `run` run soon. From any thread; does not wait."""
        if self._is_closed:
            raise SystemClosed("the executor takes no more steps")
        self._waiting.append(run)
        # Without the lock, for which every step would otherwise be handed from thread to thread. Each side
        # first shows what it does, then looks what the others do: so one of them always sees to the run.
        if self._is_closed or not (self._is_looking and self._gets_on()):
            self._see_to(run)

    def take(self, worker: Worker) -> Run | None:
        """Wait for a run for `worker`; None: the worker shall end."""
        if worker.is_stalled:
            with self._lock:
                self._unstall(worker)
        while True:
            try:
                run = worker.run = self._waiting.popleft()
            except IndexError:
                if not self._wait(worker):
                    return None
                continue
            self._pace.started(self.runs.begin(run, worker, self._rules.allowance_s))
            if self._is_closed and self.runs.claim(run):
                return None
            return run

    def lose(self, worker: Worker) -> None:
        """Count on `worker` no longer: its run was given up, and goes on. Another may take its place."""
        with self._lock:
            if worker.has_ended:
                return
            self._dismiss(worker)
            self._lost.add(worker)
            successor = self._call_in() if self._waiting else None
        if successor is not None:
            self._rouse(successor)

    def leave(self, worker: Worker) -> None:
        """Note that the thread of `worker` ends, for whatever reason."""
        with self._lock:
            worker.has_ended = True
            worker.run = None
            self._lost.discard(worker)
            was_counted_on = self._dismiss(worker) and worker.runner is not None
            successor = self._call_in() if self._waiting and was_counted_on else None
        if successor is not None:
            self._rouse(successor)

    def start_next(self) -> bool:
        """Start one of the threads that are wanted, which then starts the next; False: it is refused.

        Starting many takes many milliseconds, and the thread of the alarms has none to spare.
        """
        try:
            worker = self._unborn.popleft()
        except IndexError:
            return True
        if self._rouse(worker):
            return True
        with self._lock:
            self._forget_unborn()
            if not self._is_looking:
                self._is_looking = True
                self._look_in(_RETRY_START_S)
        return False

    def shut(self) -> tuple[Worker, ...]:
        """Start nothing any more, and send the idle home. Answers with whom to wait for."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            self._forget_unborn()
            workers = tuple(self._workers)
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.bell.release()
        return workers

    def join(self, workers: tuple[Worker, ...], deadline: float) -> None:
        """Wait until the threads have ended, except those that are lost, or for `deadline`."""
        while self._has_others() and (left := deadline - self._clock.elapsed()) > 0:
            self._left.acquire(timeout=left)
        for worker in workers:
            thread = worker.thread
            if thread is not None and worker not in self._lost and not is_current_thread(thread):
                thread.join(max(0.0, deadline - self._clock.elapsed()))

    def _has_others(self) -> bool:
        with self._lock:
            return any(w.thread is None or not is_current_thread(w.thread) for w in self._workers)

    def _gets_on(self) -> bool:
        return self._awake() > 0 and not self._pace.is_stalled()

    def _awake(self) -> int:
        return len(self._workers) - len(self._idle) - self._stalled

    def _see_to(self, run: Run) -> None:
        """Call somebody in for `run`, or see to it that it is not forgotten by those who are there."""
        worker: Worker | None = None
        with self._lock:
            if self._is_closed:
                return self._withdraw(run)
            if not self._gets_on():
                self._mark_stalled()
                worker = self._call_in()
            if worker is None and not self._is_looking and self._can_grow():
                self._is_looking = True
                self._pace.watch()
                self._look_in(self._rules.patience_s)
        if worker is not None and not self._rouse(worker):
            self._make_do_without(run)
        return None

    def _withdraw(self, run: Run) -> None:
        with suppress(ValueError):
            self._waiting.remove(run)
            raise SystemClosed("the executor takes no more steps")
        # It was taken before the crew was closed, or thrown away when it was: then it is as if it waited.

    def _wait(self, worker: Worker) -> bool:
        """Wait until there may be a run for `worker`; False: the worker shall end."""
        with self._lock:
            worker.run = None
            if self._is_closed:
                return False
            self._idle.append(worker)
            if self._waiting:
                self._idle.pop()
                return True
        return worker.bell.acquire(timeout=self._rules.idle_s) or not self._retire(worker)

    def _mark_stalled(self) -> None:
        for worker in self._workers:
            if worker.run is not None and not worker.is_stalled:
                worker.is_stalled = True
                self._stalled += 1

    def _unstall(self, worker: Worker) -> None:
        if worker.is_stalled:
            worker.is_stalled = False
            self._stalled -= 1

    def _can_grow(self) -> bool:
        return bool(self._idle) or len(self._workers) < self._rules.max_workers

    def _call_in(self) -> Worker | None:
        """Choose a worker, who must be roused when the lock is released."""
        if self._idle:
            worker = self._idle.pop()
        elif len(self._workers) < self._rules.max_workers and not self._is_closed:
            self._hired += 1
            worker = Worker(self, f"{self._name}-{self._hired}")
            self._workers.add(worker)
        else:
            return None
        self._pace.expect()
        return worker

    def _rouse(self, worker: Worker) -> bool:
        if not worker.is_new:
            worker.bell.release()
            return True
        worker.is_new = False
        try:
            worker.thread = start_thread(worker.main, worker.name, daemon=True)
        except (RuntimeError, MemoryError):
            logger.exception("No thread can be started for steps")
            with self._lock:
                self._dismiss(worker)
            return False
        return True

    def _make_do_without(self, run: Run) -> None:
        """Leave `run` to those who are there, and try again later; refuse it when nobody is there."""
        with self._lock:
            if not self._workers:
                with suppress(ValueError):
                    self._waiting.remove(run)
                    raise RuntimeError(f"no thread can be started for step {run.task.name!r}")
            if not self._is_looking:
                self._is_looking = True
                self._look_in(_RETRY_START_S)

    def _look_in(self, seconds: float) -> None:
        self._alarms.call_at(self._clock.elapsed() + seconds, self._look)

    def _look(self) -> None:
        """Call in more workers if those who are awake do not get on; look again while runs wait."""
        with self._lock:
            called = [worker for _ in range(self._wanted()) if (worker := self._call_in()) is not None]
        self._unborn.extend(worker for worker in called if worker.is_new)
        for worker in called:
            if not worker.is_new:
                worker.bell.release()
        has_started = self.start_next()
        with self._lock:
            # In this order: who submits looks whether anybody looks, after the run was added.
            self._is_looking = False
            self._is_looking = goes_on = bool(self._waiting) and self._can_grow()
            self._pace.watch()
        if goes_on:
            self._look_in(self._rules.patience_s if has_started else _RETRY_START_S)

    def _wanted(self) -> int:
        if self._unborn:
            return 0  # Those who were called in last are still on their way.
        wanted = self._pace.growth(self._awake(), len(self._workers) - len(self._idle))
        if wanted:
            self._mark_stalled()
        return min(wanted, len(self._waiting))

    def _forget_unborn(self) -> None:
        while self._unborn:
            self._dismiss(self._unborn.popleft())

    def _retire(self, worker: Worker) -> bool:
        """Let a worker go who has waited in vain; False: it was called in at the last moment."""
        with self._lock:
            if worker in self._idle:
                self._dismiss(worker)
                return True
        worker.bell.acquire()
        return False

    def _dismiss(self, worker: Worker) -> bool:
        """Count on `worker` no longer; tells whether it was counted on."""
        if worker not in self._workers:
            return False
        self._unstall(worker)
        self._workers.discard(worker)
        if self._is_closed and not self._workers:
            ring(self._left)
        if worker in self._idle:
            self._idle.remove(worker)
        return True
