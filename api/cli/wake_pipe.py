"""Waking a waiting thread, from any thread and any signal handler."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress


class WakePipe:
    """A pipe. Unlike a lock, it may be used in a signal handler, whatever its thread is doing."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake(self) -> None:
        """Wake the waiting thread, now or when it next waits. Never blocks; does nothing once closed."""
        with suppress(BlockingIOError, OSError):  # full: it will wake anyway
            os.write(self._writer, b".")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a wake-up. False: none came within `timeout` seconds. Several wake-ups count as one."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            is_woken = bool(selector.select(timeout))
        with suppress(BlockingIOError):
            os.read(self._reader, 65_536)
        return is_woken

    def close(self) -> None:
        reader, writer, self._reader, self._writer = self._reader, self._writer, -1, -1
        os.close(reader)
        os.close(writer)
