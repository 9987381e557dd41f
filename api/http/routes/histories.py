"""Reads histories in parts that fit into memory, however large their events are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ....actors.flows.admission import outside_error
from ....store import Record, StoreError, Unreadable
from ..contract.parsing import handle_of

if TYPE_CHECKING:
    from ....actors import FlowSystem
    from ....store import Header

_AT_ONCE: Final = 64
_ENOUGH_BYTES: Final = 1 << 20


def header_of(system: FlowSystem, flow_id: str) -> Header:
    """Return a flow's header, with one read of the store. On any thread that may wait.

    Raises:
        FlowNotFound: there is no such flow.
        StoreUnavailable: it cannot be read.
    """
    return handle_of(system, flow_id).header()


class HistoryPart(NamedTuple):
    """Part of a flow's history. The header was read first, so it may be older than the records."""

    header: Header
    records: list[Record | Unreadable]


def read_events(system: FlowSystem, flow_id: str, after: int, limit: int) -> HistoryPart:
    """Read events after a version, until there are enough. On any thread that may wait.

    Damaged ones are reported in their places. Raises FlowNotFound: there is no such flow. Raises
    StoreUnavailable: it cannot be read.
    """
    header = header_of(system, flow_id)
    records: list[Record | Unreadable] = []
    size = 0
    try:
        while len(records) < limit and size < _ENOUGH_BYTES:
            wanted = min(_AT_ONCE, limit - len(records))
            read = system.store.scan(flow_id, after=after, limit=wanted)
            records += read
            size += sum(len(record.data) for record in read if isinstance(record, Record))
            if len(read) < wanted:
                break
            after = read[-1].version or after
    except StoreError as error:
        raise outside_error(flow_id, error) from error
    return HistoryPart(header, records)
