"""The double-submit cache: two clicks on one button get the same answer.

Only what a person sees depends on it. The browser abandons the first click of a double click, and a person
who goes back finds the button as it was; either would read that the link is used.

The store cannot answer the second click: it has recorded the instant of the first, and all links for one
wait, whatever they ask, share its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from ...actors.runtime.futures import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ...actors.runtime.primitives import Clock

T = TypeVar("T")

_KEPT_S: Final = 600.0
_KEPT_MOST: Final = 1000


class _Visit(NamedTuple, Generic[T]):
    until: float
    answer: Reply[T | None]


class DoubleSubmitCache(Generic[T]):
    """The answers of the last ten minutes, by visit; a thousand at most. Used on one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._double_submits: dict[str, _Visit[T]] = {}

    def __len__(self) -> int:
        return len(self._double_submits)

    async def once(self, visit: str, act: Callable[[], Awaitable[T | None]]) -> T | None:
        """Act, unless this visit did or is doing so: then give the same answer. None is not remembered."""
        earlier = self._double_submits.get(visit)
        if earlier is not None and self._clock.elapsed() < earlier.until:
            answer = await earlier.answer
            if answer is not None:
                return answer
        return await self._act(visit, act)

    async def _act(self, visit: str, act: Callable[[], Awaitable[T | None]]) -> T | None:
        self._make_room()
        mine: _Visit[T] = _Visit(self._clock.elapsed() + _KEPT_S, Reply())
        self._double_submits[visit] = mine
        answer = None
        try:
            answer = await act()
        finally:
            if answer is None and self._double_submits.get(visit) is mine:
                del self._double_submits[visit]
            mine.answer.resolve(answer)
        return answer

    def _make_room(self) -> None:
        now = self._clock.elapsed()
        over = [visit for visit, known in self._double_submits.items() if known.until <= now]
        for visit in over or list(self._double_submits)[: max(0, len(self._double_submits) + 1 - _KEPT_MOST)]:
            del self._double_submits[visit]
