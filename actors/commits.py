"""Commits: those who want to hear that there is something new in the store, such as a feed of events."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .seam import Lock

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Commits"]

logger = logging.getLogger("persistasaurus")


class Commits:
    """Counts durable commits, and tells of each. Whoever listens may come and go from any thread."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()
        self._listeners: tuple[Callable[[], None], ...] = ()

    def add(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call back after each commit, until what is returned is called."""

        # The same callback may listen twice, and end once.
        def listen() -> None:
            listener()

        def end() -> None:
            with self._lock:
                self._listeners = tuple(known for known in self._listeners if known is not listen)

        with self._lock:
            self._listeners = (*self._listeners, listen)
        return end

    def tell(self) -> None:
        """Tell of a commit. What a listener raises is logged, and keeps nobody from hearing."""
        self.count += 1
        for listener in self._listeners:
            try:
                listener()
            except BaseException:
                logger.exception("A listener for commits failed")
