"""The jump-aware clock: what time it is on both clocks, and by how much the calendar has jumped in this run.

A passivated flow remembers nothing, so a timer of it begins anew from its log when it is woken. Without
knowing of a jump of the calendar, it would take the jump for time gone by.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ...flows.machine.messages import Timestamp
from ..runtime.primitives import MICROSECONDS, Lock

if TYPE_CHECKING:
    from ..runtime.primitives import Clock

__all__ = ["JumpAwareClock", "wall_without_jumps"]

logger = logging.getLogger("persistasaurus")

_JUMP = MICROSECONDS
"""What is less than that does no harm, or comes of the two clocks being read one after the other."""
_LOOKS = 3


class JumpAwareClock:
    """Reads both clocks, from any thread, and knows of the jumps of the calendar."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._jumps: tuple[tuple[int, int], ...] = ()
        wall, self._began = self._read()
        self._apart = _apart(wall, self._began)

    def now(self) -> Timestamp:
        """Tell what time it is."""
        # As `_read` and `_apart`, without calling them: this is asked at each step of each flow.
        wall, elapsed = self._clock.now(), self._clock.elapsed()
        if abs(wall - int(elapsed * MICROSECONDS) - self._apart) >= _JUMP:
            wall, elapsed = self._look_closely()
        return Timestamp(wall, elapsed, self._jumps, elapsed - self._began)

    def _read(self) -> tuple[int, float]:
        return self._clock.now(), self._clock.elapsed()

    def _look_closely(self) -> tuple[int, float]:
        """Take note of a jump, unless it only looks like one because this thread was kept waiting."""
        with self._lock:
            wall, elapsed = self._read()
            for _ in range(_LOOKS):
                before = elapsed
                wall, elapsed = self._read()
                if (elapsed - before) * MICROSECONDS < _JUMP // 10:
                    break
            by = _apart(wall, elapsed) - self._apart
            if abs(by) >= _JUMP:
                self._apart += by
                # Back in time some instants come twice. Which of them is meant cannot be told later; to
                # take the second is to wait too long, and the first would be too short.
                self._jumps = (*self._jumps, (wall - max(by, 0), by))
                logger.warning("The system's clock was set by %+.1f s.", by / MICROSECONDS)
            return wall, elapsed


def wall_without_jumps(moment: Timestamp) -> int:
    """Return what the calendar would show, had it not jumped in this run."""
    return moment.wall - sum(by for _, by in moment.jumps)


def _apart(wall: int, elapsed: float) -> int:
    return wall - int(elapsed * MICROSECONDS)
