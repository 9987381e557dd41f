"""How long work tells how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], object]
"""Is called with what is done and with the total, on the thread that works, many times a second.

What it raises ends the work cleanly, and is raised to whoever asked for the work. One that takes its time
holds up the work.
"""


def unwatched(_done: int, _total: int) -> None:
    """Do nothing about it."""
