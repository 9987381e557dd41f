"""The shapes of the commands' JSON, named like the SQL views. Fields are only ever added.

Instants are in UTC. Payloads, arguments and results are the recorded JSON, or `null`.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from ....actors.handle import from_microseconds
from ....flows.events import Failure

if TYPE_CHECKING:
    from ....flows.summary import StepSummary
    from ....store import Header, Record, Unreadable

_NOTHING = msgspec.Raw(b"null")


class FlowDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A flow's header. `version` counts its events; `wake_at` is when it next has something to do.

    `damage`: what of it cannot be read, if anything. `reason`: why it is parked. `blocking`: where its code
    holds a thread of the engine at this moment.
    """

    flow_id: str
    type: str
    status: str
    version: int
    created_at: datetime
    updated_at: datetime
    wake_at: datetime | None
    damage: str = ""
    reason: str = ""
    blocking: str = ""


class StepDocument(msgspec.Struct, frozen=True):
    """A step of a flow. `line` is where the flow called it."""

    step: int
    name: str
    status: str
    attempts: int
    called_at: datetime
    ended_at: datetime | None
    due_at: datetime | None
    line: str
    args: msgspec.Raw
    result: msgspec.Raw
    error: Failure | None


class EventDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event; `data` is what is recorded. `position` orders the events of all flows."""

    flow_id: str
    version: int
    at: datetime
    event: str
    data: msgspec.Raw
    position: int | None = None


class UnreadableDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """Takes the place of a damaged event, and says why it cannot be read."""

    flow_id: str | None
    version: int | None
    unreadable: str
    position: int | None = None


def flow_document(header: Header, reason: str = "", blocking: str = "") -> FlowDocument:
    return FlowDocument(
        header.stream,
        header.type,
        header.status,
        header.version,
        from_microseconds(header.created_at),
        from_microseconds(header.updated_at),
        None if header.wake_at is None else from_microseconds(header.wake_at),
        header.damage or "",
        reason,
        blocking,
    )


def step_document(step: StepSummary) -> StepDocument:
    return StepDocument(
        step=step.number,
        name=step.name,
        status=step.state,
        attempts=step.attempts,
        called_at=from_microseconds(step.begun_at),
        ended_at=None if step.ended_at is None else from_microseconds(step.ended_at),
        due_at=None if step.due is None else from_microseconds(step.due),
        line=step.line,
        args=payload(step.args),
        result=payload(step.result),
        error=step.error,
    )


def event_document(flow_id: str, record: Record, position: int | None = None) -> EventDocument:
    return EventDocument(
        flow_id, record.version, from_microseconds(record.at), record.kind, payload(record.data), position
    )


def unreadable_document(found: Unreadable) -> UnreadableDocument:
    return UnreadableDocument(found.stream, found.version, found.reason, found.position)


def payload(data: bytes | None) -> msgspec.Raw:
    """Return recorded data as it is if it is JSON, else as a JSON string."""
    if not data:
        return _NOTHING
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(data.decode(errors="replace")))
    return msgspec.Raw(data)
