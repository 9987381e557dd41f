"""What everyone who is measured can do, and how much of it is asked of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

T = TypeVar("T")
THREADS = 16


class CannotStart(Exception):
    """A contender is left out; the text says why."""


class Sizes(NamedTuple):
    """How much is done in one measurement. Rates are compared: those who are slow do less."""

    alone: int
    """Flows of five steps, one after the other."""
    long: int
    """Steps of one flow."""
    many: int
    """Flows of five steps."""
    wide: int
    """Flows of 50 steps."""
    start: int
    signal: int
    burst: int

    def quick(self) -> Sizes:
        """Return what a quick look does."""
        return Sizes(*(max(2, size // 3) for size in self))


class Contender:
    """Runs flows of trivial steps, and flows that wait for one signal and return its value."""

    sizes: Sizes

    def __enter__(self) -> Self:
        """Start, on an empty store."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        """Stop."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Return the versions of what the figures depend on."""
        raise NotImplementedError

    def start(self, steps: int) -> Any:
        """Start a flow; return its handle."""
        raise NotImplementedError

    def start_waiting(self) -> Any:
        """Start a flow that waits for a signal; return its handle as soon as the start is durable."""
        raise NotImplementedError

    def until_waiting(self) -> None:
        """Wait until all flows that were started wait, and are passivated where that exists."""
        raise NotImplementedError

    def signal(self, handle: Any, value: int) -> None:
        """Send a signal; return as soon as it is durable."""
        raise NotImplementedError

    def result(self, handle: Any) -> int:
        """Wait for a flow's result."""
        raise NotImplementedError

    def run(self, steps: int) -> int:
        """Run a flow to its result."""
        return self.result(self.start(steps))

    # How many of them are done at once: by threads, unless there is something better.
    def start_all(self, flows: int, steps: int) -> list[Any]:
        """Start flows of so many steps."""
        return spread(flows, lambda _: self.start(steps))

    def start_all_waiting(self, flows: int) -> list[Any]:
        """Start flows that wait."""
        return spread(flows, lambda _: self.start_waiting())

    def signal_all(self, handles: list[Any]) -> None:
        """Send each flow its number."""
        spread(len(handles), lambda number: self.signal(handles[number], number))

    # What else is known of the work, for those who know.
    def mark(self) -> None:
        """Begin to count: what came before was to warm up."""

    def commits(self) -> int | None:
        """Return how many commits there were since the mark."""
        return None

    def bare_s(self) -> float | None:
        """Return how long bare SQLite takes for the rows since the mark, in as many commits. Call it last."""
        return None


def spread(count: int, work: Callable[[int], T]) -> list[T]:
    """Do numbered pieces of work from 16 threads; return what each returned."""
    done: list[Any] = [None] * count

    def share(first: int) -> None:
        for number in range(first, count, THREADS):
            done[number] = work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(share, first) for first in range(THREADS)]:
            future.result()
    return done
