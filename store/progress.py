"""Progress of long work, which its receiver can also stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], object]
"""Called with the amount done and the total, on the working thread, many times a second.

An exception from it ends the work cleanly and reaches the caller. A slow one delays the work.
"""


def unwatched(_done: int, _total: int) -> None:
    """Ignore progress."""
