"""The command `list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ....actors.flows.listing import STATUSES, flows_of
from ....actors.persistence.persistent_actor import ACTOR_STATUS
from ....actors.runtime.primitives import SystemClock
from ..options import command, header_of, limit_option, open_reader
from ..output.documents import flow_document
from ..output.exit_codes import DONE
from ..output.outcome import notify
from ..output.proposal import option
from ..output.quantities import ago
from ..output.screen import Column, Screen, StyledText, styled
from ..reports.case import blocking_now, reasons_of
from ..shell_completion import complete_flows, complete_types

if TYPE_CHECKING:
    from pathlib import Path

    from ....store import Header, StoreReader

_COLUMNS = (
    Column("flow"),
    Column("type", gives_way=True),
    Column("status"),
    Column("events", is_number=True),
    Column("started"),
    Column("last event"),
    Column("next"),
)


_NEWEST = """
SELECT CAST(s.name AS BLOB) FROM stream s JOIN word t ON t.id = s.type JOIN word w ON w.id = s.status
WHERE (?1 IS NULL OR t.word = ?1) AND (?2 IS NULL OR w.word = ?2) AND w.word <> ?5
  AND (?3 IS NULL OR s.id < (SELECT id FROM stream WHERE name = ?3))
ORDER BY s.id DESC LIMIT ?4
"""


@command("list", example="persistasaurus list --status parked --store orders.db")
@click.option("--type", "type_", help="Only flows of this type.", shell_complete=complete_types)
@click.option("--status", type=click.Choice(STATUSES), help="Only flows with this status.")
@limit_option
@click.option("--newest", is_flag=True, help="List newest first.")
@click.option("--after", metavar="FLOW", help="Only those after this one.", shell_complete=complete_flows)
def list_(  # noqa: PLR0913 - click gives them by name
    *,
    type_: str | None,
    status: str | None,
    limit: int,
    newest: bool,
    after: str | None,
    store: Path,
    as_json: bool,
) -> int:
    """List flows, oldest first by default.

    When there are more than --limit, pass the last id shown as --after to see the next ones.
    """
    screen = Screen()
    with open_reader(store) as reader:
        read = _newest if newest else flows_of
        found = read(reader, type=type_, status=status, after=after, limit=limit + 1)
        shown, has_more = found[:limit], len(found) > limit
        reasons = reasons_of(reader, shown)
        blocking = {one.stream: one.place for one in blocking_now(reader, store).blocking}
    if as_json:
        for header in shown:
            flow_id = header.stream
            screen.json(flow_document(header, reasons.get(flow_id, ""), blocking.get(flow_id, "")))
        return DONE
    if shown:
        now = SystemClock().now()
        screen.table(_COLUMNS, [_row(header, now, reasons.get(header.stream, "")) for header in shown])
    for header in shown:
        if header.damage is not None:
            screen.line(StyledText(f"{header.stream} is damaged: {header.damage}", "bold red"))
        if header.stream in blocking:
            screen.line(StyledText(f"{header.stream} blocks, at {blocking[header.stream]}", "bold red"))
    screen.flush()
    if not shown:
        notify("No flows.")
    elif has_more:
        notify(f"There are more: {option('--after', shown[-1].stream)}")
    return DONE


def _newest(
    reader: StoreReader,
    *,
    type: str | None,  # noqa: A002 - as `flows_of` calls it
    status: str | None,
    after: str | None,
    limit: int,
) -> list[Header]:
    """Read headers like `flows_of`, newest first."""
    if after is not None:
        header_of(reader, after)
    names = reader.query(_NEWEST, (type, status, after, limit, ACTOR_STATUS))
    found = [reader.header(name.decode(errors="replace")) for (name,) in names]
    return [header for header in found if header is not None]


def _row(header: Header, now: int, reason: str) -> list[str | StyledText]:
    return [
        StyledText(header.stream, "bold"),
        header.type,
        styled(header.status, reason),
        str(header.version),
        ago(header.created_at, now),
        ago(header.updated_at, now),
        _next(header, now),
    ]


def _next(header: Header, now: int) -> str:
    """Return when a waiting flow will continue."""
    if header.wake_at is None or header.status == "running":
        return ""
    return ago(header.wake_at, now) if header.wake_at > now else "due"
