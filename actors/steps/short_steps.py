"""Short steps: they run where actors run, between the turns of two of them.

To hand a step of some microseconds to another thread, and its outcome back, costs many times as much as the
step. So it is a task in the queue of the actors, and a carrier runs it in its turn. It never runs in the turn
of an actor: its own flow hears messages, as all others do, when another carrier takes over since it blocks.

Nobody says of a step that it is short. It is taken to be, until long runs of it are no exception; then it has
the pool's threads, where its runs are measured, too, so that it may come back. A step of which some runs have
not returned is not waited for either: then its next ones, and those of all steps if there are many, go to the
pool at once. They count there, wherever they run.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from ...flows.errors import SystemClosed
from ..runtime.futures import waiting
from ..runtime.primitives import Lock
from .task import StepCrashed, StepOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable

    from ..runtime.futures import WaitStrategy
    from ..runtime.posts import Post
    from .runs import Run, Runs

__all__ = ["Habit", "ShortSteps"]

# What takes longer is not worth holding up others for.
_SHORT_S = 0.001
# A long run weighs as much as so many short ones: a step of which one in five is long counts as long.
_LONG = 4
_LIMIT = 3 * _LONG
# So many runs of one step, and of all, may be held where actors run, before others go to the pool.
_HELD_OF_STEP = 4
_HELD = 8


class Habit:
    """How long the runs of a step take. Measured wherever it runs; a miscount is no harm."""

    __slots__ = ("_score", "at_work", "is_short")

    def __init__(self) -> None:
        self._score = 0
        self.is_short = True
        self.at_work = 0
        """How many of its runs are on threads of the actors now."""

    def note(self, seconds: float) -> None:
        """Note how long a run has taken."""
        if seconds > _SHORT_S:
            self._score = min(self._score + _LONG, _LIMIT)
            self.is_short = self.is_short and self._score < _LIMIT
        elif self._score:
            self._score -= 1
            self.is_short = self.is_short or not self._score


class Pool(Protocol):
    """Where steps go that are not short, and where all of them are counted."""

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more."""
        ...

    def submit(self, run: Run) -> None:
        """Have a step run on another thread.

        Raises:
            SystemClosed: it takes no more.
        """
        ...

    def begin_elsewhere(self) -> bool:
        """Count a step that runs elsewhere; False: as many run as may."""
        ...

    def go_on_elsewhere(self) -> None:
        """Count a step again that has waited."""
        ...

    def end_elsewhere(self) -> None:
        """Count it no more: it is over, or waits."""
        ...


class ShortSteps:
    """Hands short steps to whoever runs actors. Every method may be called from any thread."""

    def __init__(
        self,
        runs: Runs,
        pool: Pool,
        perform: Callable[[Run], StepOutcome],
        ready: Callable[[Any], None],
    ) -> None:
        self.runs = runs
        self.pool = pool
        self.perform = perform
        self._ready = ready
        self._lock = Lock()
        self._habits: dict[Hashable, Habit] = {}
        self._queued: dict[_ShortRun, None] = {}
        self._at_work = 0
        self.lost: dict[_ShortRun, None] = {}
        """Runs that were given up, and go on."""
        self.waiting: dict[_ShortRun, None] = {}
        """Runs that wait for something of the engine."""

    @property
    def queued(self) -> int:
        """How many are to be run."""
        return len(self._queued)

    def submit(self, run: Run) -> bool:
        """Have a step run if it is one that is short; False: it is not."""
        task = run.task
        if task.timeout_s is not None or task.group is None:
            return False  # it cannot be timed out here, or is not one of many that are alike
        habit = self._habits.get(task.group)
        if habit is None:
            habit = self._habits.setdefault(task.group, Habit())
        run.note = habit.note
        if not habit.is_short:
            return False
        short = _ShortRun(self, run, habit)
        self._queued[short] = None
        self._ready(short)
        return True

    def begin(self, short: _ShortRun, habit: Habit) -> bool:
        """Tell whether a run may begin here and now."""
        self._queued.pop(short, None)
        with self._lock:
            if not habit.is_short or habit.at_work >= _HELD_OF_STEP or self._at_work >= _HELD:
                return False
            if not self.pool.begin_elsewhere():
                return False
            habit.at_work += 1
            self._at_work += 1
            return True

    def end(self, short: _ShortRun, habit: Habit) -> None:
        """Note that a run is through."""
        with self._lock:
            habit.at_work -= 1
            self._at_work -= 1
        self.lost.pop(short, None)
        self.pool.end_elsewhere()


class _ShortRun:
    """A run in the queue of the actors: it is a task there, the host of its run, and how the run waits."""

    __slots__ = ("_by", "_habit", "_post", "_run", "_steps", "_waits")

    may_block = True

    def __init__(self, steps: ShortSteps, run: Run, habit: Habit) -> None:
        self._steps = steps
        self._run = run
        self._habit = habit
        self._by: WaitStrategy | None = None
        self._post: Post | None = None
        self._waits = 0

    def described(self) -> str:
        """Say, for messages to people, what this is."""
        return f"Step {self._run.task.name!r}"

    def _run_slice(self) -> None:
        steps, run = self._steps, self._run
        if not steps.begin(self, self._habit):
            with suppress(SystemClosed):  # then it has not begun, and that is what will be recorded
                steps.pool.submit(run)
            return
        self._by, self._post = waiting.by, waiting.post
        waiting.by = self
        try:
            steps.runs.begin(run, self)
            # First begun, then looked: whoever closes does both the other way round.
            if not (steps.pool.is_closed and steps.runs.claim(run)):
                # Without a name: an error's traceback leads to this frame, and would keep itself alive.
                steps.runs.finish(run, steps.perform(run))
        finally:
            waiting.by = self._by
            run.host = None  # or each step would leave a circle behind
            steps.end(self, self._habit)

    def _run_failed(self) -> None:
        crashed = StepCrashed(f"the thread of step {self._run.task.name!r} was ended from outside")
        self._steps.runs.finish(self._run, StepOutcome(error=crashed))

    def give_up(self, run: Run) -> str:
        """Leave the thread to the run, and count on it no longer."""
        del run
        self._steps.lost[self] = None
        post = self._post
        if post is not None:
            post.host.relieve(post)
            post.host.lose(post)
        return "its thread continues, and its late result is discarded"

    def wait(self, wake: Lock, timeout: float) -> bool:
        """Wait, for the step, until `wake` can be taken; another step may run in its place."""
        with self._uncounted():
            return wake.acquire(timeout=timeout) if self._by is None else self._by.wait(wake, timeout)

    @contextmanager
    def blocking(self) -> Generator[None]:
        """Have another thread, and another step, take over for as long as the step waits in here."""
        with self._uncounted():
            if self._by is None:
                yield
                return
            with self._by.blocking():
                yield

    @contextmanager
    def _uncounted(self) -> Generator[None]:
        self._waits += 1
        if self._waits == 1:
            self._steps.waiting[self] = None
            self._steps.pool.end_elsewhere()
        try:
            yield
        finally:
            self._waits -= 1
            if not self._waits:
                self._steps.pool.go_on_elsewhere()
                self._steps.waiting.pop(self, None)
