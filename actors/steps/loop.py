"""Steps that are coroutines: all on one asyncio loop, in one thread, started with the first of them.

asyncio is imported there and then: most systems never need it. When the thread or the loop cannot be
had, for want of memory or files, the steps wait until they can.

A coroutine that computes or blocks without awaiting holds up all others on its loop. It is named in the log
after a second. At last that loop is given up, with its thread, which cannot be stopped: there is a new loop
in a new thread for whatever comes or waits. What had begun there beside it is lost, and whoever submitted it
hears that; the one that blocks may still come to an end, as one on a thread may. When a step has lost many
loops, its further runs are held back until one of those ends.

A step may fork. The child has a copy of the loop, which is its parent's: nothing goes on there but the very
piece of code that has forked, and that ends the child when it awaits.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from ...flows.errors import SystemClosed
from ..runtime.futures import waiting
from ..runtime.primitives import MICROSECONDS, Event, Lock, ThreadLocal, current_thread_id, is_current_thread
from ..runtime.stacks import held_at, is_debugged, split, stack_of
from ..runtime.watchdog import AGAIN, LATE_S, LOOK_S, WatchdogRules
from .forked_child import StepProcess, end_child
from .lost import LOST_PER_STEP, LostThreads
from .shortage import SHORTAGES, Shortage
from .task import BlockingStep, StepCrashed, StepLost, StepOutcome

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Generator
    from types import FrameType

    from ..runtime.environment import Environment
    from ..runtime.primitives import Thread
    from .runs import Run, Runs

__all__ = ["Loop"]

logger = logging.getLogger("persistasaurus")

# What cancelled steps get for cleaning up when the loop is closed.
_UNWIND_S = 0.5
# So many loops may all steps lose together before the last one is waited for.
_LOST_MAX = 64

_of_run: ContextVar[Run | None] = ContextVar("persistasaurus_run", default=None)
"""Of which run a task is a part; what a task starts inherits it."""


class _Here(ThreadLocal):
    """The loop that the calling thread runs."""

    thread: LoopThread | None = None


_here = _Here()


class LoopThread:
    """A thread with a loop. What is not private is guarded by the lock of `Loop`, whose part it is."""

    def __init__(self, owner: Loop) -> None:
        self._owner = owner
        self.loop: AbstractEventLoop | None = None
        self.thread: Thread | None = None
        self.id = 0
        self.tasks: dict[Run, Task[StepOutcome]] = {}
        self.stopping = Event()
        self.is_lost = False
        self.is_copy = False
        """It is that of another process, of which this one is a forked child."""
        self.is_over = False
        """It is lost, or a copy: not everything may go on there."""
        self.is_asked = False
        """It was asked to show that it comes round, and has not yet."""
        self.held_s = self.blamed_s = self.reported_at_s = 0.0
        self.blocking: BlockingStep | None = None
        """What was reported since it was asked."""

    def ask(self) -> None:
        """Have it show that it comes round."""
        assert self.loop is not None
        self.is_asked = True
        self.held_s = self.blamed_s = self.reported_at_s = 0.0
        self.blocking = None
        self.loop.call_soon_threadsafe(self._owner.came_round, self)

    def give_up(self, run: Run) -> str:
        """Cancel the run. A step that swallows the cancellation goes on, and is counted as lost."""
        return self._owner.give_up(self, run)

    def is_in_vain(self, run: Run) -> bool:
        """Tell whether nobody waits for a run any more."""
        return not self._owner.runs.is_under_way(run)

    def current(self) -> Run | None:
        """Tell which run the code belongs to that the loop is in; None: to none, or it cannot be told."""
        from asyncio import current_task  # noqa: PLC0415 - has been imported by now

        task = None if self.loop is None else current_task(self.loop)
        coroutine = None if task is None else task.get_coro()
        return coroutine.run if isinstance(coroutine, _Fenced) else None


class Loop:
    """The asyncio loop and its thread. Every public method may be called from any thread."""

    def __init__(
        self, name: str, environment: Environment, runs: Runs, patience: WatchdogRules | None = None
    ) -> None:
        self._name = name
        self._environment = environment
        self.runs = runs
        self._patience = patience or WatchdogRules()
        self._shortage = Shortage("start the thread and the loop of async steps")
        self._lock = Lock()
        self._waiting: list[Run] = []
        self._lost: set[Run] = set()
        self._current: LoopThread | None = None
        self._lost_threads: LostThreads[LoopThread] = LostThreads()
        self._is_starting = False
        self._is_watching = False
        self._looked_at = 0.0
        self._is_closed = False

    @property
    def queued(self) -> int:
        """How many runs wait for the loop, those included that are held back."""
        with self._lock:
            return len(self._waiting) + self._lost_threads.held

    @property
    def lost(self) -> int:
        """How many tasks still run a step that was given up."""
        return len(self._lost)

    @property
    def lost_threads(self) -> int:
        """How many threads are held by a loop that was given up."""
        return len(self._lost_threads)

    @property
    def blocking(self) -> BlockingStep | None:
        """What blocks the loop, if that has been reported and goes on."""
        thread = self._current
        return thread.blocking if thread is not None and thread.is_asked else None

    def submit(self, run: Run) -> None:
        """Have `run` run soon. Does not wait."""
        with self._lock:
            if self._is_closed:
                raise SystemClosed("the executor takes no more steps")
            if not self._hold_back(run):
                self._take_in(run)

    def _hold_back(self, run: Run) -> bool:
        """Keep a run from starting whose step blocks too many loops already. The caller holds the lock."""
        held = self._lost_threads.hold_back(run)
        if held == 1:
            logger.warning(
                "Async step %r is held back: %d of its runs block a thread each, and cannot be stopped."
                " Further runs wait until one of those ends",
                run.task.name,
                LOST_PER_STEP,
            )
        return held > 0

    def _take_in(self, run: Run) -> None:
        self._waiting.append(run)
        thread = self._current
        if thread is None and not self._is_starting:
            self._start()
        if not self._is_watching:
            self._looked_at = self._environment.clock.elapsed()
            self._look_later()
        # Waking the loop costs a write to its pipe: one for all that arrive together.
        if len(self._waiting) == 1 and thread is not None and thread.loop is not None:
            thread.loop.call_soon_threadsafe(self._begin_waiting, thread)

    def _start(self) -> None:
        """Start a thread, or set an alarm for the next try. The caller holds the lock."""
        thread = LoopThread(self)
        try:
            thread.thread = self._environment.start_thread(
                partial(self._main, thread), self._name, daemon=True
            )
        except SHORTAGES as error:
            self._is_starting = True
            at = self._environment.clock.elapsed() + self._shortage.strikes(error)
            self._environment.alarms.call_at(at, self._start_again)
        else:
            self._is_starting = False
            self._current = thread

    def _start_again(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._start()

    # ------------------------------------------------------------------------------------- watching
    def _look_later(self) -> None:
        """Look in a while whether the loop comes round. The caller holds the lock."""
        self._is_watching = True
        self._environment.alarms.call_at(self._environment.clock.elapsed() + LOOK_S, self._look)

    def _look(self) -> None:
        now = self._environment.clock.elapsed()
        passed, self._looked_at = now - self._looked_at, now
        with self._lock:
            self._is_watching = False
            thread = self._current
            is_needed = bool(self._waiting) or (thread is not None and bool(thread.tasks))
            if self._is_closed or not is_needed:
                return
            self._look_later()
            if thread is None or thread.loop is None:
                return
            inward = split(stack_of(thread.id))[1]
            if not thread.is_asked:
                # One that only waits is not woken for this.
                if inward or self._waiting:
                    thread.ask()
                return
            thread.held_s += min(passed, 2 * LOOK_S)
            thread.blamed_s += passed if passed <= LATE_S else 0.0
            culprit = thread.current()
        self._judge(thread, culprit, inward)

    def came_round(self, thread: LoopThread) -> None:
        """Note that a loop comes round. In its thread."""
        with self._lock:
            thread.is_asked = False

    def _judge(self, thread: LoopThread, culprit: Run | None, inward: list[FrameType]) -> None:
        """Report, or give up, a loop that does not come round."""
        first = self._patience.report_s
        if thread.held_s >= (max(first, thread.reported_at_s) * AGAIN if thread.reported_at_s else first):
            thread.reported_at_s = thread.held_s
            self._report(thread, culprit, inward)
        # Whoever waits for a step whose time is up waits for the loop alone.
        is_overdue = bool(thread.reported_at_s) and culprit in self._lost
        is_due = thread.blamed_s >= self._patience.give_up_s or is_overdue
        if is_due and not is_debugged(inward):
            self._give_up_loop(thread, culprit)

    def _report(self, thread: LoopThread, culprit: Run | None, inward: list[FrameType]) -> None:
        with self._lock:
            beside = len(thread.tasks) + len(self._waiting) - (culprit is not None)
        place = held_at(inward) if inward else None
        since = self._environment.clock.now() - int(thread.held_s * MICROSECONDS)
        key, name = (None, "") if culprit is None else (culprit.task.key, culprit.task.name)
        thread.blocking = BlockingStep(key, name, place, since)
        logger.warning(
            "%s has blocked the loop of all async steps for %.1f s%s. %d others wait for it. A step that"
            " computes, or waits without awaiting, has to be `def`, or call asyncio.to_thread\n%s",
            "A callback" if culprit is None else f"Step {culprit.task.name!r} ({culprit.task.key})",
            thread.held_s,
            "" if place is None else f", at {place.line} in {place.function}()",
            beside,
            "" if place is None else place.stack,
        )

    def _give_up_loop(self, thread: LoopThread, culprit: Run | None) -> None:
        """Leave a loop to what blocks it. What else has begun there is lost; the rest begins elsewhere."""
        with self._lock:
            is_held = thread is self._current and thread.is_asked and thread.loop is not None
            if not is_held or len(self._lost_threads) >= _LOST_MAX or self._is_closed:
                return
            self._current = None
            thread.is_lost = thread.is_over = True
            self._lost_threads.add(thread, culprit)
            lost = [run for run in thread.tasks if run is not culprit]
            self._lost.update(lost)
            assert thread.loop is not None
            thread.loop.call_soon_threadsafe(self._wind_up, thread, lost)
            of_all = len(self._lost_threads)
            if self._waiting:
                self._start()
        logger.warning(
            "A blocked loop of async steps was abandoned and replaced by a new one. Threads lost that way:"
            " %d. Steps that had begun on it, whose effect is unknown: %d",
            of_all,
            len(lost),
        )
        error = StepLost("the loop that the step ran on is blocked, and was given up")
        for run in lost:
            self.runs.finish(run, StepOutcome(error=error))

    def _wind_up(self, thread: LoopThread, lost: list[Run]) -> None:
        """Bring a loop to its end that was given up and has come round after all. In its thread."""
        for run in lost:
            task = thread.tasks.get(run)
            coroutine = None if task is None else task.get_coro()
            if task is not None and isinstance(coroutine, _Fenced) and not coroutine.is_cancelled:
                task.cancel()
        self._end_if_over(thread)

    def give_up(self, thread: LoopThread, run: Run) -> str:
        """Cancel a run, and count it as lost until it has ended."""
        with self._lock:
            task = thread.tasks.get(run)
            if task is not None and thread.loop is not None:
                self._lost.add(run)
                thread.loop.call_soon_threadsafe(task.cancel)
            lost = len(self._lost)
        if lost > LOST_PER_STEP:
            logger.warning(
                "%d async steps run longer than they may, and have not ended since they were cancelled; the"
                " last of them is %r. Either they do not let themselves be cancelled, or one blocks the loop",
                lost,
                run.task.name,
            )
        return "its task was cancelled, and its late result is discarded"

    # -------------------------------------------------------------------------------------- closing
    def shut(self) -> None:
        """Start nothing any more."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            self._lost_threads.drop_held()

    def join(self, deadline: float) -> None:
        """Stop the loop and wait until its thread has ended, or for `deadline`; for no lost one, though."""
        with self._lock:
            threads = [*self._lost_threads, *([self._current] if self._current else [])]
            for thread in threads:
                thread.stopping.set()
                if thread.loop is not None:
                    thread.loop.call_soon_threadsafe(thread.loop.stop)
            last = self._current and self._current.thread
        if last is not None and not is_current_thread(last):
            last.join(max(0.0, deadline - self._environment.clock.elapsed()))

    # ---------------------------------------------------------------------------- in the loop's thread
    def _main(self, thread: LoopThread) -> None:
        waiting.is_on_step_loop = True
        _here.thread = thread
        loop = self._new_loop(thread)
        if loop is None:
            return
        loop.set_task_factory(partial(_task, thread))
        with self._lock:
            thread.id = current_thread_id()
            thread.loop = loop
        loop.call_soon(self._begin_waiting, thread)
        while not thread.stopping.is_set():
            try:
                loop.run_forever()
            except BaseException:
                # asyncio lets SystemExit out of a task that a step has made; the others go on.
                logger.exception("A task has tried to stop the loop of the steps")
            if thread.is_copy:
                end_child(None)
        with self._lock:
            thread.loop = None
        _close(loop)
        self._ended_thread(thread)

    def _new_loop(self, thread: LoopThread) -> AbstractEventLoop | None:
        """Make a loop, as soon as the machine has what it takes; None: it is not wanted any more."""
        while not thread.stopping.is_set():
            try:
                return self._environment.new_event_loop()
            except SHORTAGES as error:
                thread.stopping.wait(self._shortage.strikes(error))
        return None

    def _begin_waiting(self, thread: LoopThread) -> None:
        with self._lock:
            loop = thread.loop
            if loop is None or thread is not self._current:
                return
            begun, self._waiting = self._waiting, []
            for run in begun:
                context = Context()
                context.run(_of_run.set, run)
                task = loop.create_task(_Fenced(_outcome_of(run), run, thread), context=context)
                task.add_done_callback(partial(self._ended, thread, run), context=Context())
                thread.tasks[run] = task
                self.runs.begin(run, thread)

    def _ended(self, thread: LoopThread, run: Run, task: Task[StepOutcome]) -> None:
        with self._lock:
            del thread.tasks[run]
            self._lost.discard(run)
        if task.cancelled():
            cancelled = StepCrashed(f"step {run.task.name!r} was cancelled before it began")
            self.runs.finish(run, StepOutcome(error=cancelled))
        else:
            self.runs.finish(run, task.result())
        self._end_if_over(thread)

    def _end_if_over(self, thread: LoopThread) -> None:
        if thread.is_lost and not thread.tasks and thread.loop is not None:
            thread.stopping.set()
            thread.loop.stop()

    def _ended_thread(self, thread: LoopThread) -> None:
        with self._lock:
            if thread in self._lost_threads:
                for run in self._lost_threads.remove(thread):
                    self._take_in(run)


class _Fenced(Coroutine[Any, Any, Any]):
    """A coroutine of a step, which says whose it is and goes on only where it may.

    Not in a forked child, whose loop it is not; and not on a loop that was given up when nobody waits for the
    step any more: it is cancelled as soon as it would go on.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], run: Run | None, thread: LoopThread) -> None:
        self._coroutine = coroutine
        self._send = coroutine.send
        self._thread = thread
        self.is_cancelled = False
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # what debuggers and libraries ask a coroutine for

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        if self._thread.is_over and self._is_in_vain():
            from asyncio import CancelledError  # noqa: PLC0415 - has been imported by now

            return self.throw(CancelledError())
        try:
            awaited = self._send(value)
        except BaseException as error:
            if self._thread.is_copy:
                end_child(error)
            raise
        if self._thread.is_copy:
            end_child(RuntimeError(_AWAITS))
        return awaited

    def throw(self, *error: Any) -> Any:
        self.is_cancelled = True
        if self._thread.is_copy:
            end_child(None)
        try:
            awaited = self._coroutine.throw(*error)
        except BaseException as raised:
            if self._thread.is_copy:
                end_child(raised)
            raise
        if self._thread.is_copy:
            end_child(RuntimeError(_AWAITS))
        return awaited

    def close(self) -> None:
        self._coroutine.close()

    def _is_in_vain(self) -> bool:
        if self._thread.is_copy:
            end_child(None)
        return self.run is not None and not self.is_cancelled and self._thread.is_in_vain(self.run)


_AWAITS = (
    "a process that an async step has forked awaits something; but the loop is its parent's. End such a child"
    " with os._exit, or start a program by asyncio.create_subprocess_exec"
)


def _task(thread: LoopThread, loop: AbstractEventLoop, coroutine: Any, **options: Any) -> Task[Any]:
    """Make a task: of what a step starts, or of the step itself, which is fenced already."""
    from asyncio import Task  # noqa: PLC0415 - has been imported by now

    fenced = coroutine if isinstance(coroutine, _Fenced) else _Fenced(coroutine, _of_run.get(), thread)
    return Task(fenced, loop=loop, **options)


def _stop_in_child() -> None:
    """Leave the copy of a loop, whose thread has forked, as soon as it has control."""
    thread = _here.thread
    if thread is not None and thread.loop is not None:
        thread.is_copy = thread.is_over = True
        thread.loop.stop()


os.register_at_fork(after_in_child=_stop_in_child)


def _close(loop: AbstractEventLoop) -> None:
    """Cancel what is left, see to its cleaning up for a moment, and close the loop."""
    from asyncio import all_tasks, wait, wait_for  # noqa: PLC0415 - has been imported by now

    try:
        # It may have been stopped twice, and the second stop would break off what follows.
        loop.call_soon(loop.stop)
        loop.run_forever()
        tasks = all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(wait(tasks, timeout=_UNWIND_S))
        loop.run_until_complete(wait_for(loop.shutdown_asyncgens(), _UNWIND_S))
    except BaseException:
        logger.exception("The loop of the steps was not left in order")
    finally:
        loop.close()


async def _outcome_of(run: Run) -> StepOutcome:
    try:
        with StepProcess():
            value: Any = await run.task.call()
    except BaseException as error:  # noqa: BLE001 - a step's SystemExit must not stop the loop
        return StepOutcome(error=error)
    return StepOutcome(value=value)
