"""Steps that are coroutines: all on one asyncio loop, in one thread, started with the first of them.

asyncio is imported there and then: most systems never need it. When the thread or the loop cannot be
had, for want of memory or files, the steps wait until they can.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextvars import Context
from functools import partial
from os import getpid
from typing import TYPE_CHECKING, Any

from ..flows.errors import SystemClosed
from .futures import waiting
from .seam import Event, Lock, is_current_thread
from .steps_crew import LOST_PER_STEP
from .steps_forked import end_child
from .steps_shortage import SHORTAGES, Shortage
from .steps_task import StepCrashed, StepOutcome

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task

    from .seam import Seam, Thread
    from .steps_runs import Run, Runs

__all__ = ["Loop"]

logger = logging.getLogger("persistasaurus")

# What cancelled steps get for cleaning up when the loop is closed.
_UNWIND_S = 0.5
# A loop that has not come round for so long is blocked.
_BLOCKED_S = 10.0


class Loop:
    """The asyncio loop and its thread. Every public method may be called from any thread."""

    def __init__(self, name: str, seam: Seam, runs: Runs) -> None:
        self._name = name
        self._seam = seam
        self._runs = runs
        self._shortage = Shortage("start the thread and the loop of async steps")
        self._lock = Lock()
        self._waiting: list[Run] = []
        self._tasks: dict[Run, Task[StepOutcome]] = {}
        self._lost: set[Run] = set()
        self._loop: AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._is_starting = False
        self._is_watching = False
        self._rounds = 0
        self._is_closed = False
        self._stopping = Event()

    @property
    def queued(self) -> int:
        """How many runs wait for the loop."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """How many tasks still run a step that was given up."""
        return len(self._lost)

    def submit(self, run: Run) -> None:
        """Have `run` run soon. Does not wait."""
        with self._lock:
            if self._is_closed:
                raise SystemClosed("the executor takes no more steps")
            self._waiting.append(run)
            if self._thread is None and not self._is_starting:
                self._start()
            if not self._is_watching:
                self._watch()
            # Waking the loop costs a write to its pipe: one for all that arrive together.
            if len(self._waiting) == 1 and self._loop is not None:
                self._loop.call_soon_threadsafe(self._begin_waiting)

    def _watch(self) -> None:
        """Look in a while whether the loop has begun anything. The caller holds the lock."""
        self._is_watching = True
        rounds, at = self._rounds, self._seam.clock.elapsed() + _BLOCKED_S
        self._seam.alarms.call_at(at, lambda: self._look(rounds))

    def _look(self, rounds: int) -> None:
        with self._lock:
            self._is_watching = False
            if not self._waiting or self._loop is None or self._is_closed:
                return
            self._watch()
            if rounds != self._rounds:
                return
            queued, names = len(self._waiting), Counter(run.task.name for run in self._tasks)
        logger.warning(
            "%d async steps wait: the loop that they run on has been blocked for %g s. One of those that run"
            " (%s) computes or blocks without awaiting: make it `def`, or use asyncio.to_thread",
            queued,
            _BLOCKED_S,
            ", ".join(f"{number} x {name!r}" for name, number in names.most_common(3)),
        )

    def _start(self) -> None:
        """Start the thread, or set an alarm for the next try. The caller holds the lock."""
        try:
            self._thread = self._seam.start_thread(self._main, self._name, daemon=True)
            self._is_starting = False
        except SHORTAGES as error:
            self._is_starting = True
            at = self._seam.clock.elapsed() + self._shortage.strikes(error)
            self._seam.alarms.call_at(at, self._start_again)

    def _start_again(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._start()

    def give_up(self, run: Run) -> str:
        """Cancel the run. A step that swallows the cancellation goes on, and is counted as lost."""
        with self._lock:
            task = self._tasks.get(run)
            if task is not None and self._loop is not None:
                self._lost.add(run)
                self._loop.call_soon_threadsafe(task.cancel)
            lost = len(self._lost)
        if lost > LOST_PER_STEP:
            logger.warning(
                "%d async steps run longer than they may, and have not ended since they were cancelled; the"
                " last of them is %r. Either they do not let themselves be cancelled, or one blocks the loop",
                lost,
                run.task.name,
            )
        return "its task was cancelled, and its late result is discarded"

    def shut(self) -> None:
        """Start nothing any more."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()

    def join(self, deadline: float) -> None:
        """Stop the loop and wait until its thread has ended, or for `deadline`."""
        with self._lock:
            self._stopping.set()
            loop, thread = self._loop, self._thread
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        if thread is not None and not is_current_thread(thread):
            thread.join(max(0.0, deadline - self._seam.clock.elapsed()))

    def _main(self) -> None:
        waiting.is_on_step_loop = True
        loop = self._new_loop()
        if loop is None:
            return
        with self._lock:
            self._loop = loop
        loop.call_soon(self._begin_waiting)
        while not self._stopping.is_set():
            try:
                loop.run_forever()
            except BaseException:
                # asyncio lets SystemExit out of a task that a step has made; the others go on.
                logger.exception("A task has tried to stop the loop of the steps")
        with self._lock:
            self._loop = None
        _close(loop)

    def _new_loop(self) -> AbstractEventLoop | None:
        """Make a loop, as soon as the machine has what it takes; None: it is not wanted any more."""
        while not self._stopping.is_set():
            try:
                return self._seam.new_event_loop()
            except SHORTAGES as error:
                self._stopping.wait(self._shortage.strikes(error))
        return None

    def _begin_waiting(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._rounds += 1
            if self._loop is None:
                return
            for run in waiting:
                task = self._loop.create_task(_outcome_of(run), context=Context())
                task.add_done_callback(partial(self._ended, run), context=Context())
                self._tasks[run] = task
                self._runs.begin(run, self)

    def _ended(self, run: Run, task: Task[StepOutcome]) -> None:
        with self._lock:
            del self._tasks[run]
            self._lost.discard(run)
        if task.cancelled():
            cancelled = StepCrashed(f"step {run.task.name!r} was cancelled before it began")
            self._runs.finish(run, StepOutcome(error=cancelled))
        else:
            self._runs.finish(run, task.result())


def _close(loop: AbstractEventLoop) -> None:
    """Cancel what is left, see to its cleaning up for a moment, and close the loop."""
    from asyncio import all_tasks, wait, wait_for  # noqa: PLC0415 - has been imported by now

    try:
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
    process = getpid()
    try:
        value: Any = await run.task.call()
    except BaseException as error:  # noqa: BLE001 - a step's SystemExit must not stop the loop
        if getpid() != process:
            end_child(error)
        return StepOutcome(error=error)
    if getpid() != process:
        end_child(None)
    return StepOutcome(value=value)
