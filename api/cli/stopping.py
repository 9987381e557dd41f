"""An orderly stop: what Ctrl-C and SIGTERM mean to a process that runs flows."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from .output.exit_codes import DONE, INTERRUPTED
from .wake_pipe import WakePipe

if TYPE_CHECKING:
    from types import FrameType
    from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Handles the signals: the first asks to stop, the second ends the process at once.

    Neither loses anything that is recorded: unfinished work continues at the next start.
    """

    def __init__(self) -> None:
        self._wake_pipe = WakePipe()
        self.by: int | None = None
        """The signal that asked to stop, if one has."""

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._wake_pipe.close()

    def wait(self, timeout: float) -> bool:
        """Wait on the main thread for a signal. False: none came within `timeout` seconds."""
        if self.by is None:
            self._wake_pipe.wait(timeout)
        return self.by is not None

    def ask(self) -> None:
        """Ask to stop, from any thread, as SIGTERM does. A later signal counts as the second."""
        self.by = self.by or signal.SIGTERM
        self._wake_pipe.wake()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.by is not None:
            os._exit(128 + number)
        self.by = number
        self._wake_pipe.wake()


def code_of(number: int | None) -> int:
    """Return the exit code of a process that a signal has stopped cleanly."""
    return INTERRUPTED if number == signal.SIGINT else DONE
