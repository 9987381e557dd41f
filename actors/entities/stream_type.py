"""Whether a stream is of the actor's class that wants to open it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...flows.errors import ActorTypeMismatch
from ..flows.parking import is_flow, type_of

if TYPE_CHECKING:
    from ...flows.entities.definition import ActorDefinition
    from ...store import EventStore, Header

__all__ = ["check_stream_type"]


def check_stream_type(store: EventStore, header: Header | None, definition: ActorDefinition) -> None:
    """Refuse to open what is something else.

    Raises:
        ActorTypeMismatch: it names both.
    """
    if header is None:
        return
    what = f"{header.stream!r} cannot be opened as the actor {definition.name!r}"
    if is_flow(store, header):
        raise ActorTypeMismatch(f"{what}: it is a flow, {type_of(store, header)!r}")
    if header.is_sound and header.type != definition.name:
        raise ActorTypeMismatch(f"{what}: it is an actor {header.type!r}")
