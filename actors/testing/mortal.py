"""A store that dies with its simulated process, at a chosen commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...store import StoreFenced, StoreHalted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...store import EventStore
    from ...store.contract import Outcome, Write
    from .schedule import Schedule

__all__ = ["Death", "MortalStore"]


class Death(NamedTuple):
    """When the process dies: at its k-th commit, counted from 1 over all lives, durable or not."""

    commit: int
    is_durable: bool


class MortalStore:
    """Passes everything through until death; afterwards it refuses everything.

    `on_commit` is called with what was written, on the simulation's thread, once that is durable, and before
    anyone else learns of it.
    """

    def __init__(
        self,
        inner: EventStore,
        schedule: Schedule,
        strike: Callable[[], Death | None],
        on_commit: Callable[[Sequence[Write], list[Outcome]], None],
    ) -> None:
        self._inner = inner
        self._schedule = schedule
        self._strike = strike
        self._on_commit = on_commit
        self._is_closed = False

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Commit, or die."""
        self._check()
        death = self._strike()
        if death is None or death.is_durable:
            outcomes = self._inner.commit(writes)
            self._check()  # a process that died meanwhile does not know the outcome
            self._on_commit(writes, outcomes)
            if death is None:
                return outcomes
        self._schedule.die()
        raise StoreFenced(_DEAD)

    def close(self) -> None:
        """Leave the store to the next owner."""
        self._is_closed = True

    def _check(self) -> None:
        if self._schedule.is_dead:
            raise StoreFenced(_DEAD)
        if self._is_closed:
            raise StoreHalted("the store is closed")

    def __getattr__(self, name: str) -> Any:
        self._check()
        return getattr(self._inner, name)


_DEAD = "the simulated process is dead"
