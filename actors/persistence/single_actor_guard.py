"""The single-actor guard: at most one live actor for each stream, asserted where actors begin.

Two would hardly be noticed otherwise: the version that each append expects makes the second one fail,
after it has run steps that were none of its business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runtime.primitives import Lock

if TYPE_CHECKING:
    from pykka import Actor

__all__ = ["SingleActorGuard"]


class SingleActorGuard:
    """Who lives in which stream. An actor leaves before it tells anybody that it is going to end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._actors: dict[str, Actor] = {}

    def enter(self, stream: str, actor: Actor) -> None:
        """Take note that an actor begins to act for a stream.

        Raises:
            AssertionError: another one does.
        """
        with self._lock:
            other = self._actors.setdefault(stream, actor)
            if other is actor or other.actor_stopped.is_set():
                self._actors[stream] = actor
                return
        raise AssertionError(f"two live actors of {stream!r}: {other} and {actor}")

    def __contains__(self, stream: object) -> bool:
        """Whether an actor acts for a stream now."""
        return stream in self._actors

    def of(self, stream: str) -> Actor | None:
        """Return who acts for a stream now."""
        return self._actors.get(stream)

    def leave(self, stream: str, actor: Actor) -> None:
        """Take note that an actor does nothing any more for a stream; also when it did not live there."""
        with self._lock:
            if self._actors.get(stream) is actor:
                del self._actors[stream]
