"""The command as people meet it: a process, with its output in a pipe or on a terminal of its own."""

from __future__ import annotations

import os
import pty
import selectors
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "persistasaurus.api.cli.main"]
PATIENCE_S = 30.0
CHATTER_MAX = 50_000


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, with nobody at the keyboard."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE_S,
        check=False,
    )


class Running:
    """The command at work, with its output arriving here; on a terminal of its own if asked for."""

    def __init__(self, *words: str | Path, on_terminal: bool) -> None:
        self.said = ""
        ours, theirs = pty.openpty() if on_terminal else os.pipe()
        self._fd = ours
        self._process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            stdin=theirs if on_terminal else subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.STDOUT,
            env=os.environ | {"TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, text: str) -> None:
        """Wait until it has said something."""
        while text not in self.said:
            assert self._hear(), f"it ended without saying {text!r}:\n{self.said}"
            assert len(self.said) < CHATTER_MAX, f"it does not say {text!r}:\n{self.said}"

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, in effect."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def end(self) -> int:
        """Wait for its end; return its exit code."""
        while self._hear():
            pass
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        os.close(self._fd)

    def _hear(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            assert selector.select(PATIENCE_S), f"it said nothing for {PATIENCE_S} s:\n{self.said}"
        try:
            heard = os.read(self._fd, 65_536)
        except OSError:  # how a terminal says that nobody is at its other end
            return False
        self.said += heard.decode(errors="replace")
        return bool(heard)
