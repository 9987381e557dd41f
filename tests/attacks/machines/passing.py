"""Time that goes by for a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.primitives import ManualClock


def pass_time(clock: ManualClock, seconds: float, settle: Callable[[], object]) -> None:
    """Let time go by, from one thing that falls due to the next; everybody does what is to be done then."""
    until = clock.elapsed() + seconds
    while (instant := clock.next_instant()) is not None and instant <= until:
        clock.advance(max(0.0, instant - clock.elapsed()))
        settle()
    clock.advance(max(0.0, until - clock.elapsed()))
    settle()
