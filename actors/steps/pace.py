"""How a pool gets on: whether steps start, how long they take, and what keeps them from it."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..runtime.primitives import Clock

__all__ = ["PATIENCE_S", "StartRate"]

# The time without a start of a step after which those that run are taken to block.
PATIENCE_S = 0.001
# While a processor is busy, those who do not get on may just be waiting for the GIL, 5 ms a turn.
_BUSY_PATIENCE = 10
# Below this share of one processor, it is not the GIL that the steps are waiting for.
_IDLE_SHARE = 0.5
# Who looks so much later than planned was kept from it, by the GIL or by other programs; so were the steps.
_LATE = 4
# Steps shorter than this are done sooner by those who are awake than by others who must be woken.
_SHORT_S = 0.0002


class StartRate:
    """Counts the starts of steps, and judges. Takes no lock: a start missed in the count is no harm."""

    __slots__ = ("_clock", "_patience_s", "_since", "_started", "_started_at", "_started_before", "_used")

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._started = 0
        self._started_at = 0.0
        self.watch()

    @property
    def starts(self) -> int:
        """How many steps have started, about."""
        return self._started

    def started(self, instant: float) -> None:
        """Note that a step has started."""
        self._started += 1
        self._started_at = instant

    def expect(self) -> None:
        """Note that somebody was called in, and give the time to arrive."""
        self._started_at = self._clock.elapsed()

    def is_stalled(self) -> bool:
        """Tell whether nothing has started for so long that it cannot be for want of the GIL."""
        return self._has_stood_for(_BUSY_PATIENCE)

    def watch(self) -> None:
        """Begin to watch, for `growth`."""
        self._used = _used_s()
        self._since = self._clock.elapsed()
        self._started_before = self._started

    def growth(self, awake: int, at_work: int) -> int:
        """Tell how many more workers would be of use, by what was seen since `watch`.

        `at_work` are the workers that have a step, `awake` those among them that are not known to block.
        """
        watched_s = self._clock.elapsed() - self._since
        is_late = watched_s > _LATE * self._patience_s
        is_idle = not is_late and _used_s() - self._used < _IDLE_SHARE * watched_s
        if self._has_stood_for(1 if is_idle else _BUSY_PATIENCE):
            return max(1, at_work) if is_idle else 1
        are_short = (self._started - self._started_before) * _SHORT_S > watched_s * awake
        return 1 if is_idle and not are_short else 0

    def _has_stood_for(self, times: int) -> bool:
        return self._clock.elapsed() - self._started_at >= self._patience_s * times


def _used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
