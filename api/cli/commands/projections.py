"""The command `projections`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from ....actors.handle import from_microseconds, to_microseconds
from ....actors.runtime.primitives import SystemClock
from ..options import FILE, command, open_reader
from ..output.exit_codes import DONE
from ..output.outcome import notify
from ..output.quantities import local_clock, zone
from ..output.screen import Column, Screen, StyledText
from ..reports.projection_reports import UNREADABLE, projection_reports

if TYPE_CHECKING:
    from pathlib import Path

    from ..reports.projection_reports import ProjectionReport

_STYLES = {"following": "green", "parked": "bold red", UNREADABLE: "bold red"}


class ProjectionDocument(msgspec.Struct, frozen=True):
    """A projection, as its file shows it. `lag` is how many positions it is behind the store.

    `status`: following, rebuilding, retrying, parked; or unreadable, which has no position. `reason`: why.
    `origin`: why it was last built. `at`: when its file was last written.
    """

    name: str
    status: str
    position: int | None
    lag: int | None
    reason: str
    origin: str
    at: datetime | None
    file: str


@command("projections", example="persistasaurus projections --json | jq 'select(.status != \"following\")'")
@click.argument("files", nargs=-1, type=FILE)
def projections(*, files: tuple[Path, ...], store: Path, as_json: bool) -> int:
    """Show how far the projections of a store are, and which of them are parked.

    These are the projections whose files are beside the store, and those in FILES, for classes that keep
    theirs elsewhere. An engine may be running or not.
    """
    with open_reader(store) as reader:
        end = reader.position()
    found = [_document(one) for one in projection_reports(store, end, files)]
    screen = Screen()
    if as_json:
        for document in found:
            screen.json(document)
    elif not found:
        notify("No projections.")
    else:
        _show(screen, found)
    return DONE


def _document(report: ProjectionReport) -> ProjectionDocument:
    return ProjectionDocument(
        name=report.name,
        status=report.status,
        position=report.position,
        lag=report.lag,
        reason=report.reason,
        origin=report.origin,
        at=None if report.at is None else from_microseconds(report.at),
        file=str(report.file),
    )


def _show(screen: Screen, found: list[ProjectionDocument]) -> None:
    now = SystemClock().now()
    columns = (
        Column("projection"),
        Column("status"),
        Column("position", is_number=True),
        Column("lag", is_number=True),
        Column(f"written ({zone(now)})"),
        Column("reason", gives_way=True),
    )
    screen.table(columns, [_row(one, now) for one in found])


def _row(one: ProjectionDocument, now: int) -> list[str | StyledText]:
    return [
        StyledText(one.name, "bold"),
        StyledText(one.status, _STYLES.get(one.status, "yellow")),
        "" if one.position is None else str(one.position),
        "" if one.lag is None else str(one.lag),
        StyledText("" if one.at is None else local_clock(to_microseconds(one.at), now), "dim"),
        one.reason,
    ]
