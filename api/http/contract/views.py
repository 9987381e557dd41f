"""Answers: shapes as JSON, and what callers get to see of a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from litestar import Response
from litestar.enums import MediaType

from ....actors.flows.parking import last_word
from ....actors.handle import from_microseconds
from ....flows import events
from ....flows.machine.history import Recorded
from ....flows.summary import summary_of
from ....store import StoreError
from .models import (
    ApiModel,
    EventView,
    FlowDetails,
    FlowError,
    FlowOutcome,
    FlowView,
    Parking,
    UnreadableEvent,
)

if TYPE_CHECKING:
    from ....actors import FlowSystem
    from ....store import Header, Record, Unreadable

S = TypeVar("S", bound=ApiModel)

_encode = msgspec.json.Encoder().encode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_failed = msgspec.json.Decoder(events.Failure).decode

ENDED: Final = ("completed", "failed", "parked")
"""The statuses that have an outcome."""
_SIGNALS: Final = ("signal_awaited", "signal_received", "repaired")
_MOST: Final = 10_000


def json_response(
    shape: ApiModel, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    return Response(_encode(shape), status_code=status, media_type=MediaType.JSON, headers=headers or {})


def flow_view(header: Header) -> FlowView:
    return FlowView(**_standing(header))


def flow_details(system: FlowSystem, header: Header) -> FlowDetails:
    """Return a flow's state and outcome. Reads the store."""
    return FlowDetails(**_standing(header), **_ending(system, header), **_unread(system, header))


def flow_outcome(system: FlowSystem, header: Header) -> FlowOutcome:
    """Return a flow's outcome. Reads the store."""
    return FlowOutcome(flow_id=header.stream, status=header.status, **_ending(system, header))  # pyright: ignore[reportArgumentType] - one of them


def _standing(header: Header) -> dict[str, Any]:
    wake_at = None if header.wake_at is None else from_microseconds(header.wake_at)
    return {
        "flow_id": header.stream,
        "type": header.type,
        "status": header.status,
        "version": header.version,
        "started_at": from_microseconds(header.created_at),
        "updated_at": from_microseconds(header.updated_at),
        "wake_at": wake_at,
    }


def _ending(system: FlowSystem, header: Header) -> dict[str, Any]:
    if header.status not in ENDED:
        return {}
    match last_word(system.store, header):
        case events.FlowCompleted() as event:
            return {"result": event.result}
        case events.FlowFailed() as event:
            return {"error": FlowError(type=event.error.type, message=event.error.message)}
        case events.Parked() as event:
            return {"parked": Parking(reason=event.reason, message=event.message)}


def _unread(system: FlowSystem, header: Header) -> dict[str, Any]:
    """Count the signals that a flow has not taken; nothing, if that cannot be read."""
    if header.status == "completed":
        return {}
    store, flow_id = system.store, header.stream
    try:
        records = [record for record in store.read(flow_id) if record.kind in _SIGNALS]
        history = [Recorded(record.version, record.at, events.decode(record.data)) for record in records]
        dead = {letter.key for letter in store.dead_letters(stream=flow_id, limit=_MOST)}
        found = summary_of(history, dead).unread
        found.update(entry.name for entry in store.inbox(flow_id, limit=_MOST))
    except (StoreError, msgspec.MsgspecError):
        return {}
    return {"unread_signals": dict(found)} if found else {}


def event_fields(record: Record) -> dict[str, Any]:
    """Return an event without what stays on the server: stack traces, and the seed of random numbers."""
    fields = _decode_object(record.data)
    fields.pop("seed", None)
    fields.pop("traceback", None)
    if "error" in fields:
        error = _decode_failed(fields["error"])
        fields["error"] = msgspec.Raw(_encode(events.Failure(error.type, error.message)))
    return {
        "version": record.version,
        "at": from_microseconds(record.at),
        "event": msgspec.Raw(_encode(fields)),
    }


def unreadable_event(found: Unreadable) -> UnreadableEvent:
    detail = f"It cannot be read: {found.reason}"
    return UnreadableEvent(found.stream, found.version, detail, position=found.position)


def event_view(record: Record) -> EventView:
    return EventView(**event_fields(record))
