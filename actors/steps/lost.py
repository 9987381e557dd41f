"""What hangs: threads lost to steps, since they cannot be stopped, and runs that are held back for that."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from .runs import Run

__all__ = ["LOST_PER_STEP", "LostThreads"]

LOST_PER_STEP = 16
"""So many threads may a step lose to runs that hang, before its further runs are held back."""

T = TypeVar("T", bound="Hashable")


class LostThreads(Generic[T]):
    """Threads that are lost, each to a step, and runs that are held back. To be changed with a lock held."""

    def __init__(self) -> None:
        self._threads: dict[T, Hashable] = {}
        self._lost_by: Counter[Hashable] = Counter()
        self._held: dict[Hashable, deque[Run]] = {}

    def __len__(self) -> int:
        return len(self._threads)

    def __iter__(self) -> Iterator[T]:
        return iter(self._threads)

    def __contains__(self, thread: object) -> bool:
        return thread in self._threads

    @property
    def held(self) -> int:
        """How many runs are held back."""
        return sum(map(len, self._held.values()))

    def add(self, thread: T, run: Run | None) -> int:
        """Note that a thread is lost to a run; return how many are to the same step."""
        step = self._threads[thread] = None if run is None else _step_of(run)
        self._lost_by[step] += 1
        return self._lost_by[step]

    def remove(self, thread: T) -> Iterable[Run]:
        """Note that a lost thread has come to its end; return what was held back for it and may run now."""
        step = self._threads.pop(thread)
        self._lost_by[step] -= 1
        if not self._lost_by[step]:
            del self._lost_by[step]
        return self._held.pop(step, ()) if self._lost_by[step] < LOST_PER_STEP else ()

    def hold_back(self, run: Run) -> int:
        """Keep a run whose step has lost too many; return how many of it are kept, 0 if it may run."""
        step = _step_of(run)
        if self._lost_by[step] < LOST_PER_STEP:
            return 0
        held = self._held.setdefault(step, deque())
        held.append(run)
        return len(held)

    def drop_held(self) -> None:
        """Forget what is held back."""
        self._held.clear()


def _step_of(run: Run) -> Hashable:
    return run.task.group or run.task.name
