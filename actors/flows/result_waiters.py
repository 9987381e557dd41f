"""Watchers: those who wait for the end of a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ...flows import events
from ...flows.errors import FlowFailed, FlowNotFound, FlowParked, StoreUnavailable
from ...store import StoreError
from ..persistence.event_sourced import ACTOR_STATUS
from .parking import last_word

if TYPE_CHECKING:
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

    def __init__(self, store: EventStore) -> None:
        self._store = store
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

    def add(
        self, flow_id: str, reply: Reply[Any], *, is_at_work: bool, trouble: Exception | None = None
    ) -> None:
        """Reply at once when the flow has ended, otherwise when it does; or with the trouble that it has.

        A flow that `is_at_work`, and has not announced its end, will do so.
        """
        if is_at_work:
            self._replies.setdefault(flow_id, []).append(reply)
        else:
            self._add_or_tell(flow_id, reply, trouble)

    def look_again(self, flow_id: str, trouble: Exception | None = None) -> None:
        """Tell those who wait for a flow that has ended, or is in trouble, without saying so to anybody."""
        self.release(flow_id)
        for reply in self._replies.pop(flow_id, ()):
            self._add_or_tell(flow_id, reply, trouble)

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

    def _add_or_tell(self, flow_id: str, reply: Reply[Any], trouble: Exception | None) -> None:
        if tell_if_over(self._store, flow_id, reply):
            return
        if trouble is not None:
            reply.fail(trouble)
        else:
            self._replies.setdefault(flow_id, []).append(reply)


def tell_if_over(store: EventStore, flow_id: str, reply: Reply[Any], *, parked: bool = True) -> bool:
    """Tell how a flow has ended, or that it is parked, if the store says so; say whether anything was told.

    Whoever asks for a flow that does not exist, or whose end cannot be read, is told that.
    """
    try:
        header = store.header(flow_id)
        if header is None or header.status == ACTOR_STATUS:
            reply.fail(FlowNotFound(flow_id))
        elif header.state.is_over or (parked and header.status == "parked"):
            _tell(reply, flow_id, last_word(store, header))
        else:
            return False
    except (StoreError, ValueError, msgspec.MsgspecError) as error:
        reply.fail(StoreUnavailable(f"the end of flow {flow_id!r} cannot be read: {error}"))
    return True


def _tell(reply: Reply[Any], flow_id: str, event: LastWord) -> None:
    match event:
        case events.FlowCompleted():
            reply.resolve(event)
        case events.FlowFailed():
            reply.fail(FlowFailed(flow_id, event.error))
        case events.Parked():
            reply.fail(FlowParked(flow_id, event.reason, event.message))
