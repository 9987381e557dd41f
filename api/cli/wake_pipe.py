"""A bell that any thread and any signal handler may ring, for the one thread that waits for it."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress

__all__ = ["Bell"]


class Bell:
    """A pipe: unlike a lock, it may be used in a signal handler, whatever the thread is doing."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def ring(self) -> None:
        """Wake whoever waits, or will. Never blocks, and does nothing when the bell is closed."""
        with suppress(BlockingIOError, OSError):  # full: it will wake anyway
            os.write(self._writer, b".")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is rung; False: it was not within `timeout` seconds."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            has_rung = bool(selector.select(timeout))
        self.still()
        return has_rung

    def still(self) -> None:
        """Have it rung no more, however often it was."""
        with suppress(BlockingIOError):
            os.read(self._reader, 65_536)

    def fileno(self) -> int:
        """Return what to select on."""
        return self._reader

    def close(self) -> None:
        """Give the pipe back."""
        reader, writer, self._reader, self._writer = self._reader, self._writer, -1, -1
        os.close(reader)
        os.close(writer)
