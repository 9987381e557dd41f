"""A pool of threads: as many as there are steps that run, up to a bound.

A run is taken by an idle worker, the one that fell idle last, so that the others may end; or by a new one.
One worker is called in at a time: when it has arrived and still sees runs that wait, it calls in the next.
So nobody has many threads to start, and a burst of short steps is over before many threads have come.

A step may wait for something of the engine, such as another flow's result, which may need a step
to run, too. While it waits it does not count, and another worker takes its place: there are as many
threads more as there are steps that wait (ForkJoinPool's managed blocking).

A thread cannot be stopped. One whose step has run past its timeout is lost, and replaced. When a
step has lost many, its further runs are held back until one of those ends; when all steps together
have lost too many, lost threads begin to count as workers.

No shortage of threads or processes is the fault of a step: runs wait until there are some again.

Threads are daemons: a step that hangs must not keep the process alive.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from ...flows.errors import SystemClosed
from ..runtime.futures import waiting
from ..runtime.primitives import Event, Lock, is_current_thread
from .lost import LOST_PER_STEP, LostThreads
from .runs import set_flag
from .shortage import SHORTAGES, Shortage
from .task import NotBegun, StepCrashed, StepOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..runtime.environment import Environment
    from ..runtime.primitives import Thread
    from .runs import Run, Runs

__all__ = ["Runner", "ThreadPool", "ThreadPoolRules"]

logger = logging.getLogger("persistasaurus")

# What is waited for so briefly, such as a commit, is not worth another thread.
_BRIEF_S = 0.02
# So many threads may all steps lose before those that are lost count as workers.
_LOST_MIN = 64
# When nothing has ended for so long while runs wait, somebody should know.
_STANDSTILL_S = 30.0


class Runner(Protocol):
    """What a worker runs steps with. Made, used and closed on the worker's thread."""

    is_killable: bool
    """Whether a run can be stopped. If not, the thread is lost to a run that was given up."""

    def perform(self, run: Run) -> StepOutcome:
        """Run the step to its end. Raises nothing that the step raised.

        Raises:
            NotBegun: there is nothing to run it with at the moment.
        """
        ...

    def kill(self, run: Run) -> None:
        """Stop `run` if it still runs here. Called on another thread."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class ThreadPoolRules(msgspec.Struct, frozen=True):
    """How many threads there may be, and when they end."""

    max_workers: int
    idle_s: float
    """A worker ends that has had nothing to do for so long."""
    allowance_s: float = 0.0
    """What a run may take on top of its timeout until its runner says that it has set off."""


class Worker:
    """A thread of the pool. The pool's lock guards everything but `wake_flag`."""

    __slots__ = (
        "_waits",
        "has_ended",
        "is_new",
        "name",
        "pool",
        "run",
        "runner",
        "thread",
        "wake_flag",
    )

    def __init__(self, pool: ThreadPool, name: str) -> None:
        self.pool = pool
        self.name = name
        self.wake_flag = Lock()
        self.wake_flag.acquire()
        self.run: Run | None = None
        self.runner: Runner | None = None
        self.thread: Thread | None = None
        self.is_new = True
        self.has_ended = False
        self._waits = 0

    def give_up(self, run: Run) -> str:
        """Stop the run if that is possible; otherwise leave the thread to it."""
        runner = self.runner
        if runner is not None and runner.is_killable:
            runner.kill(run)
            return "its process was killed"
        self.pool.abandon(self, run)
        return "its thread continues, and its late result is discarded"

    def wait(self, wake: Lock, timeout: float) -> bool:
        """Wait, for a step that runs here, until `wake` can be taken; other steps may run meanwhile."""
        brief = _BRIEF_S if timeout < 0 else min(timeout, _BRIEF_S)
        if wake.acquire(timeout=brief):
            return True
        if 0 <= timeout <= brief:
            return False
        with self.blocking():
            return wake.acquire(timeout=timeout if timeout < 0 else timeout - brief)

    @contextmanager
    def blocking(self) -> Generator[None]:
        """Have another worker take the place of this one for as long as its step waits in here."""
        self._waits += 1
        if self._waits == 1:
            self.pool.lend(self)
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                self.pool.take_back(self)

    def main(self) -> None:
        """Run steps until there are none for a long time, or until a run was given up that goes on."""
        waiting.by = self
        try:
            if self._has_runner():
                while self._work():
                    pass
        finally:
            self._end()

    def _has_runner(self) -> bool:
        shortage = Shortage("load what runs a step")
        while self.runner is None:
            try:
                self.runner = self.pool.make_runner()
            except SHORTAGES as error:
                if not self.pool.pause(shortage.strikes(error)):
                    return False
        return True

    def _work(self) -> bool:
        # A function of its own, so that an idle worker holds nothing of its last step.
        run, runner = self.pool.take(self), self.runner
        if run is None or runner is None:
            return False
        try:
            # The outcome has no name: an error's traceback leads to this frame, and would keep itself alive.
            return self.pool.runs.finish(run, runner.perform(run)) or runner.is_killable
        except NotBegun as error:
            return self.pool.put_back(run, error.wait_s)

    def _end(self) -> None:
        run = self.run
        self.pool.leave(self)
        if run is not None:
            crashed = StepCrashed(f"the thread of step {run.task.name!r} was ended from outside")
            self.pool.runs.finish(run, StepOutcome(error=crashed))
        if self.runner is not None:
            self.runner.close()


class ThreadPool:
    """Workers that run steps, at most `rules.max_workers` at once; the rest wait in order.

    Steps that run elsewhere, and are to be counted with those that run here, `begin_elsewhere`.
    """

    def __init__(
        self,
        name: str,
        environment: Environment,
        runs: Runs,
        make_runner: Callable[[], Runner],
        rules: ThreadPoolRules,
    ) -> None:
        self.runs = runs
        self.make_runner = make_runner
        self._name = name
        self._clock = environment.clock
        self._alarms = environment.alarms
        self._start_thread = environment.start_thread
        self._rules = rules
        self._lock = Lock()
        self._waiting: deque[Run] = deque()
        self._workers: set[Worker] = set()
        self._idle: list[Worker] = []
        self._called: Worker | None = None
        """Who has been called in, and has not arrived."""
        self._lost: LostThreads[Worker] = LostThreads()
        self._lent: set[Worker] = set()
        self._elsewhere = 0
        self._capacity = rules.max_workers
        """How many may be at work."""
        self._shortage = Shortage("start a thread for steps")
        self._spawned = 0
        self._starts = 0
        self._will_retry = False
        self._is_watching = False
        self._is_closed = False
        self._closed = Event()
        self._left = Lock()
        self._left.acquire()

    @property
    def is_closed(self) -> bool:
        """Whether the pool was shut."""
        return self._is_closed

    @property
    def lost(self) -> int:
        """How many threads still run a step that was given up."""
        return len(self._lost)

    @property
    def lent(self) -> int:
        """How many threads wait for something of the engine, and do not count meanwhile."""
        return len(self._lent)

    @property
    def queued(self) -> int:
        """How many runs wait to be started, those included that are held back."""
        with self._lock:
            return len(self._waiting) + self._lost.held

    def submit(self, run: Run) -> None:
        """Have `run` run soon. From any thread; does not wait for anything to run.

        Raises:
            SystemClosed: the pool was shut.
        """
        with self._lock:
            if self._is_closed:
                raise SystemClosed("the executor takes no more steps")
            self._waiting.append(run)
            worker = self._call_in()
        self._wake(worker)

    # ---------------------------------------------------------------------------- for its workers
    def take(self, worker: Worker) -> Run | None:
        """Wait for a run for `worker`; None: the worker shall end."""
        while True:
            with self._lock:
                worker.run = None
                self._arrived(worker)
                if self._is_closed or len(self._workers) > self._capacity:
                    self._dismiss(worker)
                    return None
                run = worker.run = self._next(worker)
                successor = self._call_in()
            self._wake(successor)
            if run is None:
                if worker.wake_flag.acquire(timeout=self._rules.idle_s) or not self._retire(worker):
                    continue
                return None
            self._starts += 1
            self.runs.begin(run, worker, self._rules.allowance_s)
            if self._is_closed and self.runs.claim(run):
                return None
            return run

    def put_back(self, run: Run, wait_s: float) -> bool:
        """Have `run` wait again, and the worker for a while; False: the worker shall end."""
        if self.runs.claim(run) and not self._is_closed:
            self._waiting.appendleft(run)
        return self.pause(wait_s)

    def pause(self, seconds: float) -> bool:
        """Have a worker wait for a while; False: it shall end."""
        return not self._closed.wait(seconds)

    def lend(self, worker: Worker) -> None:
        """Do not count `worker` while its step waits for something of the engine."""
        with self._lock:
            if not self._dismiss(worker):
                return
            self._lent.add(worker)
            successor = self._call_in()
        self._wake(successor)

    def take_back(self, worker: Worker) -> None:
        """Count `worker` again; there may be more than allowed then, until it comes for its next run."""
        with self._lock:
            if worker in self._lent:
                self._lent.discard(worker)
                self._workers.add(worker)

    def abandon(self, worker: Worker, run: Run) -> None:
        """Count on `worker` no longer: its run was given up, and goes on. Another may take its place."""
        with self._lock:
            if worker.has_ended:
                return
            self._lent.discard(worker)
            self._dismiss(worker)
            of_step, of_all = self._lost.add(worker, run), len(self._lost)
            self._note_lost()
            successor = self._call_in()
        logger.warning(
            "Step %r (%s) runs longer than its %s s, and cannot be stopped: %d threads are lost to it,"
            " %d to all steps. From %d on, its further runs wait until one of those ends",
            run.task.name,
            run.task.key,
            run.task.timeout_s,
            of_step,
            of_all,
            LOST_PER_STEP,
        )
        self._wake(successor)

    def leave(self, worker: Worker) -> None:
        """Note that the thread of `worker` ends, for whatever reason."""
        with self._lock:
            worker.has_ended = True
            worker.run = None
            if worker in self._lost:
                self._waiting.extendleft(reversed([*self._lost.remove(worker)]))
                self._note_lost()
            self._lent.discard(worker)
            self._dismiss(worker)
            successor = self._call_in()
        self._wake(successor)

    # ----------------------------------------------------------- for steps that run somewhere else
    def begin_elsewhere(self) -> bool:
        """Count a step that runs elsewhere; False: as many run as may."""
        with self._lock:
            if self._is_closed or not self._has_room():
                return False
            self._elsewhere += 1
            return True

    def go_on_elsewhere(self) -> None:
        """Count a step again that has waited; there may be more than allowed then."""
        with self._lock:
            self._elsewhere += 1

    def end_elsewhere(self) -> None:
        """Count it no more: it is over, or waits for something of the engine."""
        with self._lock:
            self._elsewhere -= 1
            successor = self._call_in() if self._waiting else None
        if successor is not None:
            self._wake(successor)

    # ------------------------------------------------------------------------------------ closing
    def shut(self) -> tuple[Worker, ...]:
        """Start nothing any more, and send the idle home. Answers with whom to wait for."""
        with self._lock:
            self._is_closed = True
            self._closed.set()
            self._waiting.clear()
            self._lost.drop_held()
            workers = (*self._workers, *self._lent)
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.wake_flag.release()
        return workers

    def join(self, workers: tuple[Worker, ...], deadline: float) -> None:
        """Wait until the threads have ended, except those that are lost, or for `deadline`."""
        while self._has_others() and (left := deadline - self._clock.elapsed()) > 0:
            self._left.acquire(timeout=left)
        for worker in workers:
            thread = worker.thread
            is_away = worker in self._lost or worker in self._lent
            if thread is not None and not is_away and not is_current_thread(thread):
                thread.join(max(0.0, deadline - self._clock.elapsed()))

    def _has_others(self) -> bool:
        with self._lock:
            return any(w.thread is None or not is_current_thread(w.thread) for w in self._workers)

    # -------------------------------------------------- who runs what; the caller holds the lock
    def _next(self, worker: Worker) -> Run | None:
        """Take the next run, unless as many run as may; without one, the worker is idle."""
        self._idle.append(worker)  # it does not count among those that run while it looks
        while self._waiting and self._has_room():
            run = self._waiting.popleft()
            if not self._hold_back(run):
                self._idle.pop()
                return run
        return None

    def _hold_back(self, run: Run) -> bool:
        """Keep a run from starting whose step hangs in too many threads already."""
        held = self._lost.hold_back(run) if self._lost else 0
        if held == 1:
            logger.error(
                "Step %r is held back: %d of its runs hang past their timeout, and cannot be stopped. Flows"
                " wait at it until one of them ends, or the process is restarted",
                run.task.name,
                LOST_PER_STEP,
            )
        return held > 0

    def _note_lost(self) -> None:
        """Have fewer at work, when more threads are lost than can be spared."""
        most = self._rules.max_workers
        self._capacity = max(1, most - max(0, len(self._lost) - max(most, _LOST_MIN)))

    def _has_room(self) -> bool:
        return len(self._workers) - len(self._idle) + self._elsewhere < self._capacity

    def _call_in(self) -> Worker | None:
        """Choose a worker for the runs that wait, which must be woken when the lock is released."""
        if not self._waiting or self._called is not None or self._is_closed:
            return None
        if not self._has_room():
            self._watch()
            return None
        if self._idle:
            worker = self._idle.pop()
        else:
            self._spawned += 1
            worker = Worker(self, f"{self._name}-{self._spawned}")
            self._workers.add(worker)
        self._called = worker
        return worker

    def _arrived(self, worker: Worker) -> None:
        if self._called is worker:
            self._called = None

    def _dismiss(self, worker: Worker) -> bool:
        """Count on `worker` no longer; tells whether it was counted on."""
        self._arrived(worker)
        if worker not in self._workers:
            return False
        self._workers.discard(worker)
        if self._is_closed and not self._workers:
            set_flag(self._left)
        if worker in self._idle:
            self._idle.remove(worker)
        return True

    # ------------------------------------------------------------------------------------ threads
    def _wake(self, worker: Worker | None) -> None:
        """Wake a worker, or start its thread; if there is none to be had, it is tried again later."""
        if worker is None:
            return
        if not worker.is_new:
            worker.wake_flag.release()
            return
        worker.is_new = False
        try:
            worker.thread = self._start_thread(worker.main, worker.name, daemon=True)
        except SHORTAGES as error:
            wait_s = self._shortage.strikes(error)
            with self._lock:
                self._dismiss(worker)
                is_first, self._will_retry = not self._will_retry, True
            if is_first:
                self._alarms.call_at(self._clock.elapsed() + wait_s, self._try_again)
        else:
            self._shortage.is_over()

    def _try_again(self) -> None:
        with self._lock:
            self._will_retry = False
            worker = self._call_in()
        self._wake(worker)

    def _retire(self, worker: Worker) -> bool:
        """Let a worker go who has waited in vain; False: it was called in at the last moment."""
        with self._lock:
            if worker in self._idle:
                self._dismiss(worker)
                return True
        worker.wake_flag.acquire()
        return False

    # --------------------------------------------------------------------------------- standstill
    def _watch(self) -> None:
        """Look for a standstill from now on: runs wait, and as many run as may."""
        if not self._is_watching:
            self._is_watching = True
            self._look_for_standstill()

    def _look_for_standstill(self) -> None:
        starts, at = self._starts, self._clock.elapsed() + _STANDSTILL_S
        self._alarms.call_at(at, lambda: self._report_standstill(starts))

    def _report_standstill(self, starts: int) -> None:
        """Say that nothing has started for long: what runs may wait for what cannot start."""
        with self._lock:
            queued = len(self._waiting)
            self._is_watching = bool(queued) and not self._is_closed and not self._has_room()
            if not self._is_watching:
                return
            self._look_for_standstill()
            names = Counter(worker.run.task.name for worker in self._workers if worker.run is not None)
        if self._starts == starts:
            logger.warning(
                "%d steps wait: for %g s no step has ended, and as many run as may (%s). If those wait for"
                " others by a way that the engine cannot see, such as threads of their own or by asking again"
                " and again, raise the limit or make them `async def`",
                queued,
                _STANDSTILL_S,
                ", ".join(f"{number} x {name!r}" for name, number in names.most_common(3)),
            )
