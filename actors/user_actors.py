"""User actors: event-sourced actors that are no flows, one at a time for each stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .flows.admission import checked_id
from .flows.parking import is_flow, type_of
from .persistence.event_sourced import EventSourcedActor
from .runtime.primitives import Lock

if TYPE_CHECKING:
    from pykka import ActorRef

    from .persistence.persistent_actor import StreamAccess
    from .runtime.scheduler import Scheduler

__all__ = ["UserActors"]

A = TypeVar("A", bound=EventSourcedActor[Any])


class UserActors:
    """Starts the embedder's own actors on a scheduler, and knows those that live."""

    def __init__(self, access: StreamAccess, scheduler: Scheduler) -> None:
        self._access = access
        self._scheduler = scheduler
        self._lock = Lock()
        self._refs: dict[str, ActorRef[Any]] = {}

    @property
    def live(self) -> int:
        """How many there are."""
        return sum(ref.is_alive() for ref in list(self._refs.values()))

    def actor(self, kind: type[A], stream_id: str, args: tuple[Any, ...]) -> ActorRef[A]:
        """Return the live actor of a stream, started when there is none.

        Raises:
            ValueError: the stream belongs to something else.
        """
        with self._lock:
            ref = self._refs.get(checked_id(stream_id, "stream id"))
            if ref is None or not ref.is_alive():
                self._check_kind(kind, stream_id)
                ref = kind.start_on(self._scheduler, stream_id, self._access, *args)
                self._refs[stream_id] = ref
            if not issubclass(ref.actor_class, kind):
                raise ValueError(  # noqa: TRY004 - it is the id that does not fit
                    f"stream {stream_id!r} has a {ref.actor_class.__name__}, not a {kind.__name__}"
                )
            return ref

    def _check_kind(self, kind: type[EventSourcedActor[Any]], stream_id: str) -> None:
        header = self._access.store.header(stream_id)
        if header is not None and is_flow(self._access.store, header):
            raise ValueError(f"stream {stream_id!r} is a flow, {type_of(self._access.store, header)!r}")
        if header is not None and header.is_sound and header.type != kind.stream_type:
            raise ValueError(f"stream {stream_id!r} is a {header.type!r}, not a {kind.stream_type!r}")
