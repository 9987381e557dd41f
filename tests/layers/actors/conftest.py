"""Time for the looks at what blocks, of threads and of loops alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.primitives import ManualClock

LOOK_S = 0.25


@pytest.fixture
def pass_time(clock: ManualClock) -> Callable[[float], None]:
    """Have time go by, from one look to the next."""

    def pass_time(seconds: float) -> None:
        for _ in range(round(seconds / LOOK_S)):
            clock.advance(LOOK_S)

    return pass_time
