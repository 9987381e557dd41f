"""Starts that are under way: those of flows that most probably are new, which no store is asked about first.

The first append of such a flow expects an empty stream, so the commit finds out whether the flow is new.
Until then its actor has a machine in memory that may come to nothing. So only so many starts are under way
at a time; the rest wait here, as requests, and count towards `Overloaded`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import requests
    from .wake_flag import WakeFlag

__all__ = ["Starts"]

_UNDER_WAY_MAX = 1000
"""Enough for a commit that is worth its sync; few enough to be held in memory at once."""


class Starts:
    """Which starts are under way, and which wait. The supervisor's, but for `settle` and `waiting`.

    An actor that has settled its start reports `StartsSettled` only when starts wait for that. Each side
    shows first what it has, and then looks, so that neither misses the other.
    """

    def __init__(self, maximum: int = _UNDER_WAY_MAX) -> None:
        self._maximum = maximum
        self._under_way: list[WakeFlag] = []
        self._waiting: deque[requests.StartFlow] = deque()
        self._is_awaited = False

    @property
    def waiting(self) -> int:
        """How many wait. For any thread."""
        return len(self._waiting)

    def begin(self, flag: WakeFlag) -> None:
        """Note that a start is under way."""
        flag.is_starting = True
        self._under_way.append(flag)

    def settle(self, flag: WakeFlag) -> bool:
        """Note that a start is recorded, or came to nothing; tell whether to report that. For any thread."""
        flag.is_starting = False
        if not self._is_awaited:
            return False
        self._is_awaited = False  # only ever by somebody who reports it
        return True

    def has_room(self) -> bool:
        """Tell whether one more may begin now. If not, the next one that settles reports it."""
        if len(self._under_way) < self._maximum:
            return True
        self._is_awaited = True
        self._under_way = [flag for flag in self._under_way if flag.is_starting]
        return len(self._under_way) < self._maximum

    def wait(self, start: requests.StartFlow) -> None:
        """Keep a start until there is room."""
        self._waiting.append(start)

    def admitted(self) -> Iterator[requests.StartFlow]:
        """Return those that may begin now, one after the other, the oldest first."""
        while self._waiting and self.has_room():
            yield self._waiting.popleft()

    def refuse(self, why: Exception) -> None:
        """Refuse those that wait."""
        while self._waiting:
            self._waiting.popleft().reply.fail(why)
