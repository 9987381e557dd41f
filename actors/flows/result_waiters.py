"""Watchers: those who wait for the end of a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...flows import events
from ...flows.errors import FlowFailed, FlowNotFound, FlowParked, StoreUnavailable
from ...store import StoreError
from ..persistence.persistent_actor import ACTOR_STATUS
from .parking import last_word

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store import EventStore
    from ..runtime.futures import Reply
    from .parking import LastWord
    from .requests import StartFlow

__all__ = ["Watchers", "tell_if_over"]


class Watchers:
    """Replies that are due when a flow ends, or is parked.

    Starts bring a reply along, for whoever asks for the result next. It is told of a completed flow only,
    and of nothing when the flow's actor leaves: then the asker looks for itself.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[EventStore], Any], Callable[[Any], None]], None],
        is_at_work: Callable[[str], bool],
    ) -> None:
        self._ask = ask
        self._is_at_work = is_at_work
        self._replies: dict[str, list[Reply[Any]]] = {}
        self._with_starts: dict[str, list[Reply[events.FlowCompleted | None]]] = {}

    def add_start(self, start: StartFlow) -> None:
        """Take the reply that has come along with a start of a flow that is at work."""
        self._with_starts.setdefault(start.flow_id, []).append(start.end)

    def release(self, flow_id: str, event: LastWord | None = None) -> None:
        """Have those look for themselves who started a flow, unless it has completed."""
        completed = event if isinstance(event, events.FlowCompleted) else None
        for end in self._with_starts.pop(flow_id, ()):
            end.resolve(completed)

    def add(self, flow_id: str, reply: Reply[Any], trouble: Exception | None = None) -> None:
        """Reply as soon as it is known that the flow has ended; or with the trouble that it has.

        A flow that is at work, and has not announced its end, will do so.
        """
        self._replies.setdefault(flow_id, []).append(reply)
        if not self._is_at_work(flow_id):
            self._look(flow_id, reply, trouble)

    def look_again(self, flow_id: str, trouble: Exception | None = None) -> None:
        """Tell those who wait for a flow that has ended, or is in trouble, without saying so to anybody."""
        self.release(flow_id)
        for reply in self._replies.get(flow_id, ()):
            self._look(flow_id, reply, trouble)

    def remove(self, flow_id: str, reply: Reply[Any]) -> None:
        """Forget a reply that nobody waits for any more."""
        replies = self._replies.get(flow_id, [])
        if reply in replies:
            replies.remove(reply)
        if not replies:
            self._replies.pop(flow_id, None)

    def tell(self, flow_id: str, event: LastWord) -> None:
        """Tell how a flow has ended."""
        self.release(flow_id, event)
        for reply in self._replies.pop(flow_id, ()):
            _tell(reply, flow_id, event)

    def fail(self, error: Exception) -> None:
        """Tell everybody that they will not hear."""
        for replies in (*self._replies.values(), *self._with_starts.values()):
            for reply in replies:
                reply.fail(error)
        self._replies.clear()
        self._with_starts.clear()

    def __len__(self) -> int:
        return sum(map(len, self._replies.values()))

    def _look(self, flow_id: str, reply: Reply[Any], trouble: Exception | None) -> None:
        """Look into the store. Whoever waits may hear of the end meanwhile, or the flow be at work again."""

        def then(found: LastWord | Exception | None) -> None:
            word = trouble if found is None else found
            if word is None or reply not in self._replies.get(flow_id, ()) or self._is_at_work(flow_id):
                return
            self.remove(flow_id, reply)
            _tell(reply, flow_id, word)

        self._ask(lambda store: _end(store, flow_id), then)


def tell_if_over(store: EventStore, flow_id: str, reply: Reply[Any], *, parked: bool = True) -> bool:
    """Tell how a flow has ended, or that it is parked, if the store says so; say whether anything was told.

    Whoever asks for a flow that does not exist, or whose end cannot be read, is told that.
    """
    found = _end(store, flow_id, parked=parked)
    if found is not None:
        _tell(reply, flow_id, found)
    return found is not None


def _end(store: EventStore, flow_id: str, *, parked: bool = True) -> LastWord | Exception | None:
    """Return how a flow has ended, or what there is to be said instead; None: it goes on."""
    try:
        header = store.header(flow_id)
        if header is None or header.status == ACTOR_STATUS:
            return FlowNotFound(flow_id)
        if header.state.is_over or (parked and header.status == "parked"):
            return last_word(store, header)
    except (StoreError, ValueError, msgspec.MsgspecError) as error:
        return StoreUnavailable(f"the end of flow {flow_id!r} cannot be read: {error}")
    return None


def _tell(reply: Reply[Any], flow_id: str, word: LastWord | Exception) -> None:
    match word:
        case events.FlowCompleted():
            reply.resolve(word)
        case events.FlowFailed():
            reply.fail(FlowFailed(flow_id, word.error))
        case events.Parked():
            reply.fail(FlowParked(flow_id, word.reason, word.message))
        case Exception():
            reply.fail(word)
