"""The command `events`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from ....actors.runtime.primitives import SystemClock
from ....flows import events as vocabulary
from ....store import Unreadable
from ..options import command, flow_argument, header_of, open_reader
from ..output.documents import event_document, unreadable_document
from ..output.exit_codes import DONE, FAILED
from ..output.narration import Narrator
from ..output.outcome import notify
from ..output.quantities import local_clock, zone
from ..output.screen import Column, Screen, StyledText

if TYPE_CHECKING:
    from pathlib import Path

    from ....store import Record


@command("events", example="persistasaurus events order-1 --json | jq -c .data")
@flow_argument
@click.option(
    "--after", metavar="N", type=click.IntRange(min=0), default=0, help="Only events after this number."
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=None, help="The maximum number to show."
)
@click.option("--full", is_flag=True, help="Show whole payloads, messages and tracebacks.")
def events(  # noqa: PLR0913 - click gives them by name
    *, flow: str, after: int, limit: int | None, full: bool, store: Path, as_json: bool
) -> int:
    """Show the recorded events of a flow, with their numbers.

    The exit code is 1 when an event is damaged; all other events are still shown.
    """
    screen = Screen()
    with open_reader(store) as reader:
        header_of(reader, flow)
        records = reader.scan(flow, after=after, limit=limit)
    if as_json:
        for record in records:
            is_damaged = isinstance(record, Unreadable)
            screen.json(unreadable_document(record) if is_damaged else event_document(flow, record))
    else:
        _show(screen, flow, records, full=full)
    return FAILED if any(isinstance(record, Unreadable) for record in records) else DONE


def _show(screen: Screen, flow: str, records: list[Record | Unreadable], *, full: bool) -> None:
    if not records:
        notify("No events.")
        return
    now = SystemClock().now()
    narrator = Narrator(screen, as_json=False, now=now, full=full)
    columns = (
        Column("", is_number=True),
        Column(f"time ({zone(now)})"),
        Column("event"),
        Column("step"),
        Column("", gives_way=not full),
    )
    screen.table(columns, [_row(flow, record, narrator, now) for record in records])
    if full:
        _show_tracebacks(screen, records)


def _row(flow: str, record: Record | Unreadable, narrator: Narrator, now: int) -> list[str | StyledText]:
    if isinstance(record, Unreadable):
        return [str(record.version), "", StyledText("cannot be read", "bold red"), "", record.reason]
    what, step, detail = narrator.words(flow, record)
    return [
        str(record.version),
        StyledText(local_clock(record.at, now), "dim"),
        StyledText(what, narrator.colour(record)),
        step,
        detail,
    ]


def _show_tracebacks(screen: Screen, records: list[Record | Unreadable]) -> None:
    for record in records:
        trace = "" if isinstance(record, Unreadable) else _traceback(record)
        if trace:
            screen.line()
            screen.line(StyledText(f"Traceback of event {record.version}:", "dim"))
            for line in trace.rstrip().split("\n"):
                screen.line(line)


def _traceback(record: Record) -> str:
    try:
        event = vocabulary.decode(record.data)
    except msgspec.MsgspecError:
        return ""
    if isinstance(event, vocabulary.StepFailed | vocabulary.FlowFailed):
        return event.error.traceback
    return event.traceback if isinstance(event, vocabulary.Parked) else ""
