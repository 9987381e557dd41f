"""Reads all that a store knows about a flow, without disturbing the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ....actors.handle import to_microseconds
from ....actors.remote.client import RemoteClient
from ....flows import events
from ....flows.machine.history import Recorded
from ....flows.summary import summary_of
from ....store import QueryFailed, RecordCorrupt, StoreError, StoreUnusable, Unreadable
from ....store.files.black_box import Present, present_in
from ..options import header_of, open_reader
from .diagnosis import Case

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ....actors.remote.client import RefusedRequest
    from ....store import Header, InboxEntry, StoreReader


_PARKED = """
SELECT flow_id, error FROM flows WHERE status = 'parked' AND flow_id IN (SELECT value FROM json_each(?))
"""
_DEAD = "SELECT key, name, reason FROM dead_letters WHERE flow_id = ? ORDER BY id"


def case_of(store: Path, flow_id: str, now: int) -> Case:
    """Read what is known about a flow.

    Raises:
        FlowNotFound: there is no such flow.
        StoreError: the store cannot be read.
    """
    with open_reader(store) as reader:
        header = header_of(reader, flow_id)
        history, damage = _readable(reader, flow_id)
        inbox: list[InboxEntry] = []
        dead: dict[str, tuple[str, str]] = {}
        try:
            inbox = reader.inbox(flow_id)
            dead = {key: (name, reason) for key, name, reason in reader.query(_DEAD, (flow_id,))}
        except (RecordCorrupt, StoreUnusable, QueryFailed) as error:
            damage = damage or str(error)
        damage = damage or header.damage or ""
        summary = summary_of(history, dead)
        blocking = [one for one in blocking_now(reader, store).blocking if one.stream == flow_id]
        since = opened_at(reader)
        dead_letters, refused = [*dead.values()], _refused(store, flow_id)
        return Case(header, summary, inbox, since, now, str(store), dead_letters, damage, blocking, refused)


def _refused(store: Path, flow_id: str) -> list[RefusedRequest]:
    """Return the requests for a flow that were refused; none when they cannot be read: `doctor` says why."""
    try:
        with RemoteClient(store) as client:
            found = client.refused()
    except StoreError:
        return []
    return [one for one in found if one.request is not None and one.request.flow_id == flow_id]


def _readable(reader: StoreReader, flow_id: str) -> tuple[list[Recorded], str]:
    """Read a flow's history up to the first event that cannot be read; say what is wrong with that one."""
    found: list[Recorded] = []
    for record in reader.scan(flow_id):
        if isinstance(record, Unreadable):
            return found, f"event {record.version} cannot be read: {record.reason}"
        try:
            found.append(Recorded(record.version, record.at, events.decode(record.data)))
        except msgspec.MsgspecError as error:
            return found, f"event {record.version} cannot be read: {error}"
    return found, ""


def opened_at(reader: StoreReader) -> int | None:
    """Return when the current owner opened the store; 0: that is unknown; None: it has no owner."""
    owner = reader.owner()
    if owner is None:
        return None
    return 0 if owner.since is None else to_microseconds(owner.since)


def blocking_now(reader: StoreReader, store: Path) -> Present:
    """Return what blocks the process that owns the store; nothing when it has no owner."""
    return Present() if reader.owner() is None else present_in(store)


def reasons_of(reader: StoreReader, headers: Sequence[Header]) -> dict[str, str]:
    """Return why flows are parked, by flow id, as far as that can be read."""
    parked = [header.stream for header in headers if header.status == "parked"]
    if not parked:
        return {}
    try:
        found = reader.query(_PARKED, (msgspec.json.encode(parked).decode(),))
    except (StoreUnusable, QueryFailed):
        return {}
    return {flow_id: error.partition(":")[0] for flow_id, error in found if error}


def history_of(reader: StoreReader, flow_id: str) -> list[Recorded]:
    """Read a flow's history. Raises RecordCorrupt: it cannot be read whole."""
    found: list[Recorded] = []
    for record in reader.read(flow_id):
        try:
            found.append(Recorded(record.version, record.at, events.decode(record.data)))
        except msgspec.MsgspecError as error:
            raise RecordCorrupt(flow_id, record.version, f"it is not an event: {error}") from error
    return found
