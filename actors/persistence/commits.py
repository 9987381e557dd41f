"""Commits: those who want to hear that there is something new in the store, such as a feed of events."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..runtime.actor import PooledActor, try_tell
from ..runtime.primitives import Lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pykka import ActorRef

    from ..runtime.scheduler import Scheduler

__all__ = ["Commits", "Committed"]

logger = logging.getLogger("persistasaurus")


class Committed(NamedTuple):
    """There is something new."""


class Told(Protocol):
    """An actor that hears of commits. It sets `is_told` back when it hears."""

    is_told: bool


class CommitListener(PooledActor):
    """One of those who listen. It is told while it hears, and hears once for all that has come meanwhile."""

    def __init__(self, callback: Callable[[], None]) -> None:
        super().__init__()
        self._callback = callback
        self.is_told = False
        self.is_over = False

    def described(self) -> str:
        """Say who this is."""
        return f"A listener for commits ({self._callback!r})"

    def on_receive(self, message: Any) -> None:
        """Call back. What the listener raises is logged."""
        del message
        self.is_told = False
        if self.is_over:
            return
        try:
            self._callback()
        except BaseException:
            logger.exception("A listener for commits failed")


class Commits:
    """Counts durable commits, and tells of them. Whoever listens may come and go from any thread.

    Listeners are called on threads of the scheduler, so that one that blocks holds up nobody who writes.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.count = 0
        self._scheduler = scheduler
        self._lock = Lock()
        self._listeners: tuple[tuple[Told, ActorRef[Any]], ...] = ()

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after commits, until what is returned is called."""
        listener = CommitListener(callback)  # the same callback may listen twice, and end once
        ref = listener.actor_ref
        listener.actor_inbox.attach(listener, self._scheduler)

        def end() -> None:
            listener.is_over = True
            with self._lock:
                self._listeners = tuple(known for known in self._listeners if known[0] is not listener)
            ref.stop(block=False)

        self.enlist(listener, ref)
        return end

    def enlist(self, listener: Told, ref: ActorRef[Any]) -> None:
        """Tell an actor of commits by `Committed`, unless it has been told, and has not heard yet."""
        with self._lock:
            self._listeners = (*self._listeners, (listener, ref))

    def tell(self) -> None:
        """Tell of a commit."""
        self.count += 1
        for listener, ref in self._listeners:
            if not listener.is_told:
                listener.is_told = True
                try_tell(ref, Committed())
