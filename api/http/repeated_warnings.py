"""Warnings of the server that strangers can cause: one of a kind a minute, with how many there were."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from ...actors.runtime.primitives import SystemClock, current_thread_id

if TYPE_CHECKING:
    from collections.abc import Generator

    from ...actors.runtime.primitives import Clock

__all__ = ["RepeatedWarnings", "few_warnings"]

_QUIET_SECONDS: Final = 60.0
_KINDS_MAX: Final = 100
_SERVER: Final = "uvicorn.error"


class RepeatedWarnings(logging.Filter):
    """Lets a warning of this thread pass, and then no more of its kind for a minute."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self._clock = SystemClock() if clock is None else clock
        self._thread = current_thread_id()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be logged; one that is says how many like it were not."""
        if record.levelno != logging.WARNING or record.thread != self._thread:
            return True
        now, kind = self._clock.elapsed(), str(record.msg)
        at, left_out = self._seen.get(kind, (now - _QUIET_SECONDS, 0))
        if now - at < _QUIET_SECONDS:
            self._seen[kind] = at, left_out + 1
            return False
        if len(self._seen) >= _KINDS_MAX:
            self._seen.clear()
        self._seen[kind] = now, 0
        if left_out:
            record.msg = f"{kind} ({left_out:,} more since this was last logged)"
        return True


@contextlib.contextmanager
def few_warnings() -> Generator[None]:
    """Limit what the server on this thread logs."""
    logger, limit = logging.getLogger(_SERVER), RepeatedWarnings()
    logger.addFilter(limit)
    try:
        yield
    finally:
        logger.removeFilter(limit)
