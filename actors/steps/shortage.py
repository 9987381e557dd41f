"""Shortages: a thread, a process or a file that the machine cannot give just now.

That is nobody's fault, and passes: whoever meets one tries again, less and less often, and says so.
"""

from __future__ import annotations

import logging

__all__ = ["SHORTAGES", "Shortage"]

logger = logging.getLogger("persistasaurus")

# A module that cannot be read for want of files is an ImportError, now and then.
SHORTAGES = (OSError, RuntimeError, MemoryError, ImportError)
"""What is raised when a thread, a process, a pipe or an event loop cannot be made."""

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 5.0


class Shortage:
    """Counts how often in a row something could not be had. From any thread; a miscount is no harm."""

    __slots__ = ("_what", "wait_s")

    def __init__(self, what: str) -> None:
        self._what = what
        self.wait_s = 0.0
        """How long to wait before the next try."""

    def strikes(self, error: BaseException) -> float:
        """Note, and log, that it could not be had; answers with `wait_s`."""
        self.wait_s = min(max(_FIRST_WAIT_S, 2 * self.wait_s), _LONGEST_WAIT_S)
        logger.warning(
            "The machine cannot %s (%s: %s). What needs it waits, and it is tried again in %.2g s",
            self._what,
            type(error).__name__,
            error,
            self.wait_s,
        )
        return self.wait_s

    def is_over(self) -> None:
        """Note that it could be had."""
        self.wait_s = 0.0
