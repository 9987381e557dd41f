"""A pool of threads: few while the steps are short, many when they block.

Waking threads costs more than most steps do, and threads that are awake fight for the GIL. So a
burst of steps is left to whoever is awake, as long as they make progress; when nobody has taken a
step for a moment, more are spawned, twice as many each time. Who waits for work waits on a flag
of its own, and the one that fell idle last is called first, so that the others may end.

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
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import msgspec

from ...flows.errors import SystemClosed
from ..runtime.futures import waiting
from ..runtime.primitives import Event, Lock, is_current_thread
from .lost import LOST_PER_STEP, LostThreads
from .pace import StartRate
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
    """How many threads there may be, and when they come and go."""

    max_workers: int
    idle_s: float
    """A worker ends that has had nothing to do for so long."""
    patience_s: float
    """Nobody is called in while the last start of a step is not longer ago."""
    allowance_s: float = 0.0
    """What a run may take on top of its timeout until its runner says that it has set off."""


class Worker:
    """A thread of the pool. The pool's lock guards everything but `wake_flag`."""

    __slots__ = (
        "_waits",
        "has_ended",
        "has_waited",
        "is_new",
        "is_stalled",
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
        self.is_stalled = False
        self.has_ended = False
        self.has_waited = False
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
            self.pool.start_next()
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
    """Workers that run steps, at most `rules.max_workers` at once; the rest wait in order."""

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
        self._pending: deque[Worker] = deque()
        self._lost: LostThreads[Worker] = LostThreads()
        self._lent: set[Worker] = set()
        self._shortage = Shortage("start a thread for steps")
        self._spawned = 0
        self._stalled = 0
        self._pace = StartRate(environment.clock, rules.patience_s)
        self._is_looking = False
        self._is_watching = False
        self._is_closed = False
        self._closed = Event()
        self._left = Lock()
        self._left.acquire()

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
        if worker.has_waited and self._is_surplus(worker):
            return None
        while True:
            try:
                run = worker.run = self._waiting.popleft()
            except IndexError:
                if not self._wait(worker):
                    return None
                continue
            if self._lost and self._hold_back(run):
                continue
            self._pace.started(self.runs.begin(run, worker, self._rules.allowance_s))
            if self._is_closed and self.runs.claim(run):
                return None
            return run

    def _is_surplus(self, worker: Worker) -> bool:
        """Tell whether those who have replaced `worker` while its step waited are enough."""
        worker.has_waited = False
        with self._lock:
            return len(self._workers) > self._capacity() and self._dismiss(worker)

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
            successor = self._spawn() if self._waiting else None
        self._wake(successor)

    def take_back(self, worker: Worker) -> None:
        """Count `worker` again; there may be more than allowed then, until it comes for its next run."""
        with self._lock:
            if worker in self._lent:
                self._lent.discard(worker)
                self._workers.add(worker)
                worker.has_waited = True

    def abandon(self, worker: Worker, run: Run) -> None:
        """Count on `worker` no longer: its run was given up, and goes on. Another may take its place."""
        with self._lock:
            if worker.has_ended:
                return
            self._lent.discard(worker)
            self._dismiss(worker)
            of_step, of_all = self._lost.add(worker, run), len(self._lost)
            successor = self._spawn() if self._waiting else None
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
            was_lost = worker in self._lost
            if was_lost:
                self._waiting.extendleft(reversed([*self._lost.remove(worker)]))
            self._lent.discard(worker)
            was_counted_on = (self._dismiss(worker) and worker.runner is not None) or was_lost
            successor = self._spawn() if self._waiting and was_counted_on else None
        self._wake(successor)

    def _hold_back(self, run: Run) -> bool:
        """Keep a run from starting whose step hangs in too many threads already."""
        with self._lock:
            held = 0 if self._is_closed else self._lost.hold_back(run)
        if held == 1:
            logger.error(
                "Step %r is held back: %d of its runs hang past their timeout, and cannot be stopped. Flows"
                " wait at it until one of them ends, or the process is restarted",
                run.task.name,
                LOST_PER_STEP,
            )
        return held > 0

    def start_next(self) -> bool:
        """Start one of the threads that are wanted, which then starts the next; False: it is refused.

        Starting many takes many milliseconds, and the thread of the alarms has none to spare.
        """
        try:
            worker = self._pending.popleft()
        except IndexError:
            return True
        if self._wake(worker):
            return True
        with self._lock:
            self._forget_pending()
        return False

    def shut(self) -> tuple[Worker, ...]:
        """Start nothing any more, and send the idle home. Answers with whom to wait for."""
        with self._lock:
            self._is_closed = True
            self._closed.set()
            self._waiting.clear()
            self._lost.drop_held()
            self._forget_pending()
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

    def _gets_on(self) -> bool:
        return self._awake() > 0 and not self._pace.is_stalled()

    def _awake(self) -> int:
        return len(self._workers) - len(self._idle) - self._stalled

    def _see_to(self, run: Run) -> None:
        """Call somebody in for `run`, or see to it that it is not forgotten by those who are there."""
        worker: Worker | None = None
        with self._lock:
            if self._is_closed:
                return self._cancel(run)
            if not self._gets_on():
                self._mark_stalled()
                worker = self._spawn()
            if worker is None and not self._can_grow():
                self._watch()
            elif worker is None and not self._is_looking:
                self._is_looking = True
                self._pace.watch()
                self._look_in(self._rules.patience_s)
        self._wake(worker)
        return None

    def _watch(self) -> None:
        """Look for a standstill from now on: runs wait, and as many run as may."""
        if not self._is_watching:
            self._is_watching = True
            self._look_for_standstill()

    def _look_for_standstill(self) -> None:
        starts, at = self._pace.starts, self._clock.elapsed() + _STANDSTILL_S
        self._alarms.call_at(at, lambda: self._report_standstill(starts))

    def _report_standstill(self, starts: int) -> None:
        """Say that nothing has started for long: what runs may wait for what cannot start."""
        with self._lock:
            queued = len(self._waiting)
            self._is_watching = bool(queued) and not self._is_closed and not self._can_grow()
            if not self._is_watching:
                return
            self._look_for_standstill()
            names = Counter(worker.run.task.name for worker in self._workers if worker.run is not None)
        if self._pace.starts == starts:
            logger.warning(
                "%d steps wait: for %g s no step has ended, and as many run as may (%s). If those wait for"
                " others by a way that the engine cannot see, such as threads of their own or by asking again"
                " and again, raise the limit or make them `async def`",
                queued,
                _STANDSTILL_S,
                ", ".join(f"{number} x {name!r}" for name, number in names.most_common(3)),
            )

    def _cancel(self, run: Run) -> None:
        with suppress(ValueError):
            self._waiting.remove(run)
            raise SystemClosed("the executor takes no more steps")
        # It was taken before the pool was closed, or thrown away when it was: then it is as if it waited.

    def _wait(self, worker: Worker) -> bool:
        """Wait until there may be a run for `worker`; False: the worker shall end."""
        with self._lock:
            worker.run = None
            if self._is_closed or len(self._workers) > self._capacity():
                return False
            self._idle.append(worker)
            if self._waiting:
                self._idle.pop()
                return True
        return worker.wake_flag.acquire(timeout=self._rules.idle_s) or not self._retire(worker)

    def _mark_stalled(self) -> None:
        for worker in self._workers:
            if worker.run is not None and not worker.is_stalled:
                worker.is_stalled = True
                self._stalled += 1

    def _unstall(self, worker: Worker) -> None:
        if worker.is_stalled:
            worker.is_stalled = False
            self._stalled -= 1

    def _capacity(self) -> int:
        """Return how many may be at work: fewer, when more threads are lost than can be spared."""
        most = self._rules.max_workers
        return max(1, most - max(0, len(self._lost) - max(most, _LOST_MIN)))

    def _can_grow(self) -> bool:
        return bool(self._idle) or len(self._workers) < self._capacity()

    def _spawn(self) -> Worker | None:
        """Choose a worker, which must be woken when the lock is released."""
        if self._idle:
            worker = self._idle.pop()
        elif len(self._workers) < self._capacity() and not self._is_closed:
            self._spawned += 1
            worker = Worker(self, f"{self._name}-{self._spawned}")
            self._workers.add(worker)
        else:
            return None
        self._pace.expect()
        return worker

    def _wake(self, worker: Worker | None) -> bool:
        """Wake a worker, or start its thread; False: there is none to be had, and it is tried again later."""
        if worker is None:
            return True
        if not worker.is_new:
            worker.wake_flag.release()
            return True
        worker.is_new = False
        try:
            worker.thread = self._start_thread(worker.main, worker.name, daemon=True)
        except SHORTAGES as error:
            wait_s = self._shortage.strikes(error)
            with self._lock:
                self._dismiss(worker)
                if not self._is_looking and not self._is_closed:
                    self._is_looking = True
                    self._look_in(wait_s)
            return False
        self._shortage.is_over()
        return True

    def _look_in(self, seconds: float) -> None:
        self._alarms.call_at(self._clock.elapsed() + seconds, self._look)

    def _look(self) -> None:
        """Call in more workers if those who are awake do not get on; look again while runs wait."""
        with self._lock:
            called = [worker for _ in range(self._wanted()) if (worker := self._spawn()) is not None]
        self._pending.extend(worker for worker in called if worker.is_new)
        for worker in called:
            if not worker.is_new:
                worker.wake_flag.release()
        has_started = self.start_next()
        with self._lock:
            # In this order: who submits looks whether anybody looks, after the run was added.
            self._is_looking = False
            self._is_looking = goes_on = bool(self._waiting) and self._can_grow()
            if self._waiting and not goes_on:
                self._watch()
            self._pace.watch()
        if goes_on:
            self._look_in(self._rules.patience_s if has_started else self._shortage.wait_s)

    def _wanted(self) -> int:
        if self._pending:
            return 0  # Those who were called in last are still on their way.
        wanted = self._pace.growth(self._awake(), len(self._workers) - len(self._idle))
        if wanted:
            self._mark_stalled()
        return min(wanted, len(self._waiting))

    def _forget_pending(self) -> None:
        while self._pending:
            self._dismiss(self._pending.popleft())

    def _retire(self, worker: Worker) -> bool:
        """Let a worker go who has waited in vain; False: it was called in at the last moment."""
        with self._lock:
            if worker in self._idle:
                self._dismiss(worker)
                return True
        worker.wake_flag.acquire()
        return False

    def _dismiss(self, worker: Worker) -> bool:
        """Count on `worker` no longer; tells whether it was counted on."""
        if worker not in self._workers:
            return False
        self._unstall(worker)
        self._workers.discard(worker)
        if self._is_closed and not self._workers:
            set_flag(self._left)
        if worker in self._idle:
            self._idle.remove(worker)
        return True
