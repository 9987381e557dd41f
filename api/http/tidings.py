"""Tidings: those who wait on an event loop hear that something was committed, and nobody polls."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ...actors import FlowSystem

__all__ = ["Tidings"]


class Tidings:
    """Commits of a system, as the followers of one application hear of them.

    It listens to the journal only while somebody follows. The journal's thread does no more than to wake
    an event loop, once for however many commits there are until the loop gets to it.
    """

    def __init__(self, system: FlowSystem) -> None:
        self._system = system
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}

    @contextmanager
    def heard(self) -> Generator[asyncio.Event]:
        """Give a flag that is set by each commit, for as long as somebody follows. On the loop's thread.

        Raises:
            SystemClosed: there will be no commit any more.
        """
        running = asyncio.get_running_loop()
        loop = self._loops.get(running)
        if loop is None:
            loop = self._loops[running] = _Loop(running)
            loop.end = self._system.on_commit(loop.wake_soon)
        flag = asyncio.Event()
        loop.flags.add(flag)
        try:
            yield flag
        finally:
            loop.flags.discard(flag)
            if not loop.flags:
                self._loops.pop(running, None)
                loop.end()


class _Loop:
    """The followers on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_awake = False
        self.flags: set[asyncio.Event] = set()
        self.end: Callable[[], None] = lambda: None

    def wake_soon(self) -> None:
        """Have the loop wake everybody; on the journal's thread."""
        if not self._is_awake:
            self._is_awake = True
            with suppress(RuntimeError):  # the loop is closed, and its followers with it
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        # Before the flags, so that a commit in between is told again.
        self._is_awake = False
        for flag in self.flags:
            flag.set()
