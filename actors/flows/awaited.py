"""What flows wait for by name just now: known without asking them, so that nobody waits for their code.

A flow at work is looked at from outside, and a passivated one has left word when it went. Of flows that have
not been at work in this process nothing is known, nor of those that have not yet looked at what came before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ...store import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...flows.values.codec import Codec
    from ...store import EventStore
    from ..persistence.single_actor_guard import SingleActorGuard

__all__ = ["Awaited"]

_PASSIVATED_MAX = 10_000
"""Of so many passivated flows it is known, at most."""


@runtime_checkable
class _KnowsAwaited(Protocol):
    def awaited_codec(self, name: str) -> Codec | None: ...


class Awaited:
    """The types that flows wait with. May be asked from any thread."""

    def __init__(self, guard: SingleActorGuard, store: EventStore) -> None:
        self._guard = guard
        self._store = store
        self._passivated: dict[str, Mapping[str, Codec]] = {}

    def passivate(self, flow_id: str, awaited: Mapping[str, Codec]) -> None:
        """Take note of what a flow waits for that is passivated."""
        if awaited:
            if len(self._passivated) >= _PASSIVATED_MAX:
                self._passivated.clear()
            self._passivated[flow_id] = awaited

    def begin(self, flow_id: str) -> None:
        """Take note that a flow is at work again."""
        self._passivated.pop(flow_id, None)

    def refusal(self, flow_id: str, name: str, data: bytes) -> str | None:
        """Return why a payload is not of the type that the flow waits with now; None: it is, or who knows.

        A signal of that name that the flow has not looked at yet may be the one that it waits for.
        """
        codec = self._codec(flow_id, name)
        reason = None if codec is None else codec.refusal(data)
        if reason is None:
            return None
        try:
            is_next = all(entry.name != name for entry in self._store.inbox(flow_id))
        except StoreError:
            return None
        # What is not in the inbox any more, the flow has taken: then it waits for something else now.
        return reason if is_next and self._codec(flow_id, name) is codec else None

    def _codec(self, flow_id: str, name: str) -> Codec | None:
        actor = self._guard.of(flow_id)
        if actor is None:
            return self._passivated.get(flow_id, {}).get(name)
        return actor.awaited_codec(name) if isinstance(actor, _KnowsAwaited) else None
