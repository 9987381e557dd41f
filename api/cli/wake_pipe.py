"""Waking the one thread that waits, from any thread and any signal handler."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress

__all__ = ["WakePipe"]


class WakePipe:
    """A pipe: unlike a lock, it may be used in a signal handler, whatever the thread is doing."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake(self) -> None:
        """Wake whoever waits, or will. Never blocks, and does nothing when the pipe is closed."""
        with suppress(BlockingIOError, OSError):  # full: it will wake anyway
            os.write(self._writer, b".")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait to be woken; False: nobody did within `timeout` seconds. Who was woken twice wakes once."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            is_woken = bool(selector.select(timeout))
        with suppress(BlockingIOError):
            os.read(self._reader, 65_536)
        return is_woken

    def close(self) -> None:
        """Give the pipe back."""
        reader, writer, self._reader, self._writer = self._reader, self._writer, -1, -1
        os.close(reader)
        os.close(writer)
