"""The command `check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from ....actors.flows.replay import Compatible, Diverges, check_history, recorded
from ....actors.persistence.persistent_actor import ACTOR_STATUS
from ....flows import Registry
from ....store import RecordCorrupt
from ..flow_modules import flows_of
from ..options import FILE, command, open_reader
from ..output.exit_codes import DONE, FAILED
from ..output.quantities import counted
from ..output.screen import Screen, StyledText

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ....store import Header, StoreReader

_PAGE = 200


class CheckedFlow(msgspec.Struct, frozen=True):
    """The verdict on one flow. `version` is that of the event at fault; 0: no single event is."""

    flow_id: str
    type: str
    status: str
    is_compatible: bool
    events: int
    version: int | None
    recorded_at: str
    attempted_at: str
    message: str
    todo: str


@command("check", example="persistasaurus check orders.db --flows order.py")
@click.argument("path", required=False, type=FILE, metavar="[STORE]")
@click.option("--flows", required=True, multiple=True, metavar="MODULE[:NAME]", help="The code; repeatable.")
def check(*, path: Path | None, flows: tuple[str, ...], store: Path, as_json: bool) -> int:
    """Replay every unfinished flow with the current code, and report which ones are incompatible.

    This writes nothing and runs no steps; an engine may use the store meanwhile. The exit code is 1 when
    this code would park a flow.
    """
    registry = Registry(tuple(flows_of(flows)))
    screen = Screen()
    good = bad = 0
    with open_reader(path or store) as reader:
        for header in _open_flows(reader):
            found = _checked(reader, header, registry)
            good, bad = good + found.is_compatible, bad + (not found.is_compatible)
            _show(screen, found, as_json=as_json)
            screen.flush()
    if not as_json:
        what = (
            StyledText(f"{counted(bad, 'flow')} cannot continue", "bold red")
            if bad
            else StyledText("All can continue", "green")
        )
        screen.line(what, f"; {counted(good, 'open flow')} compatible.")
        screen.flush()
    return FAILED if bad else DONE


def _open_flows(reader: StoreReader) -> Iterator[Header]:
    after: str | None = None
    while page := reader.headers(after=after, limit=_PAGE):
        after = page[-1].stream
        for header in page:
            if not header.state.is_over and header.status != ACTOR_STATUS:
                yield header


def _checked(reader: StoreReader, header: Header, registry: Registry) -> CheckedFlow:
    found = _verdict(reader, header, registry)
    is_good = isinstance(found, Compatible)
    return CheckedFlow(
        flow_id=header.stream,
        type=header.type,
        status=header.status,
        is_compatible=is_good,
        events=header.version,
        version=None if is_good else found.version,
        recorded_at="" if is_good else found.recorded_at,
        attempted_at="" if is_good else found.attempted_at,
        message="" if is_good else found.message,
        todo="" if is_good else found.todo,
    )


def _verdict(reader: StoreReader, header: Header, registry: Registry) -> Compatible | Diverges:
    definition = registry.find(header.type)
    if definition is None:
        todo = (
            f"name its module with --flows, or give a renamed flow its old name: @flow(name={header.type!r})"
        )
        return Diverges(header.stream, 0, f"there is no flow named {header.type!r} in --flows", todo=todo)
    try:
        history = recorded(reader.read(header.stream))
    except (RecordCorrupt, msgspec.MsgspecError) as error:
        todo = "`persistasaurus verify` reports more"
        return Diverges(header.stream, 0, f"its history cannot be read: {error}", todo=todo)
    return check_history(definition, header.stream, history)


def _show(screen: Screen, found: CheckedFlow, *, as_json: bool) -> None:
    if as_json:
        screen.json(found)
    elif found.is_compatible:
        screen.line(StyledText("compatible", "green"), f"  {found.flow_id}  {counted(found.events, 'event')}")
    else:
        where = f"  at event {found.version}" if found.version else ""
        screen.line(StyledText("diverges", "bold red"), f"    {found.flow_id}{where}")
        for line in found.message.splitlines():
            screen.line(f"    {line}")
        screen.line(StyledText(f"    → {found.todo}", "dim"))
