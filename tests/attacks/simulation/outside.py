"""The world that steps act upon. It outlives every simulated process, and remembers what was done to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from persistasaurus import StepContext, current_step

if TYPE_CHECKING:
    from collections.abc import Callable


class Outside:
    """What has been done, by idempotency key; what was booked; what does not work until somebody mends it."""

    def __init__(self, watch: Callable[[StepContext], None] | None = None) -> None:
        self.effects: Counter[str] = Counter()
        self.mended: set[str] = set()
        self.booked: set[str] = set()
        self._watch = watch

    def touch(self) -> int:
        """Have an effect, as the step that runs now; tell how often it has had it."""
        context = current_step()
        self.effects[context.idempotency_key] += 1
        if self._watch is not None:
            self._watch(context)
        return self.effects[context.idempotency_key]


_current = [Outside()]


def world() -> Outside:
    """Return the world as it is now."""
    return _current[0]


def renew(watch: Callable[[StepContext], None] | None = None) -> Outside:
    """Begin with a world in which nothing has happened yet. `watch` sees every effect."""
    _current[0] = Outside(watch)
    return _current[0]
