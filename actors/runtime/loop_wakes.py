"""Waking event loops: what is to be woken on a loop before it gets to run is woken all at once.

To wake a loop is a system call, and a switch to its thread and back. Many callers of one loop often wait for
what one commit brings; the first whose reply is there wakes the loop, and it finds the others when it comes.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from asyncio import Future as AsyncioFuture

__all__ = ["LoopWakes", "wakes_of"]


class LoopWakes:
    """The futures of one loop that are to be woken. `wake` is for every thread."""

    __slots__ = ("_is_called", "_waiters")

    def __init__(self) -> None:
        self._waiters: deque[AsyncioFuture[None]] = deque()
        self._is_called = False

    def wake(self, waiter: AsyncioFuture[None]) -> None:
        """Have the loop complete a future of its own, unless it is done by then."""
        loop = waiter.get_loop()
        if loop.is_closed():
            return  # nobody is left who waits
        try:
            # First shown, then looked; the loop does both the other way round.
            self._waiters.append(waiter)
            if not self._is_called:
                self._is_called = True
                loop.call_soon_threadsafe(self._wake_all)
        except BaseException:
            # Ctrl-C, most likely; nobody can tell how far this came. Or the loop was closed just now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake_all)
            raise

    def _wake_all(self) -> None:
        self._is_called = False
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)


_wakes: WeakKeyDictionary[AbstractEventLoop, LoopWakes] = WeakKeyDictionary()


def wakes_of(loop: AbstractEventLoop) -> LoopWakes:
    """Return what wakes the futures of a loop. To be called on its thread."""
    found = _wakes.get(loop)
    if found is None:
        found = _wakes[loop] = LoopWakes()
    return found
