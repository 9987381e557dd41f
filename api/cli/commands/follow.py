"""The command `follow`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ....actors.runtime.primitives import Event, SystemClock
from ....flows.errors import PersistasaurusError
from ....store import Unreadable
from ..options import command, header_of, open_reader
from ..output.exit_codes import DONE, FAILED
from ..output.narration import Narrator
from ..output.screen import Screen
from ..shell_completion import complete_flows
from ..watch import NOTABLE, LogWatch

if TYPE_CHECKING:
    from pathlib import Path

    from ....store import StoreReader

_PAUSE_S = 0.05
_PAGE = 1_000


@command("follow", example="persistasaurus follow order-1 --after 12")
@click.argument("flow", required=False, shell_complete=complete_flows)
@click.option(
    "--after",
    metavar="N",
    type=click.IntRange(min=0),
    help="Continue after this event: its number, with FLOW; else its position, as shown by --json. By default"
    " shows all events of FLOW, or, without FLOW, only new events.",
)
@click.option("--brief", is_flag=True, help="Show only how flows begin and end, and failures.")
@click.option("--full", is_flag=True, help="Show whole payloads and messages.")
def follow(  # noqa: PLR0913 - click gives them by name
    *, flow: str | None, after: int | None, brief: bool, full: bool, store: Path, as_json: bool
) -> int:
    """Show the events of FLOW until it ends, or of all flows until Ctrl-C.

    You can start and stop engines meanwhile. With FLOW, the exit code is 0 if it completes, and 1 if it
    fails.
    """
    screen = Screen()
    narrator = Narrator(screen, as_json=as_json, now=SystemClock().now(), full=full)
    kinds = NOTABLE if brief else None
    with open_reader(store) as reader:
        newest = reader.position() if flow is None else header_of(reader, flow).version
        if after is not None and after > newest:
            raise PersistasaurusError(
                f"there is no event {after}: the newest is {newest}. The store was restored, or is a"
                " different one: omit --after, or give a number that exists"
            )
        if flow is None:
            watch = LogWatch(reader, narrator, after=newest if after is None else after, kinds=kinds)
        else:
            watch = FlowWatch(reader, narrator, flow, after or 0, kinds)
        return _follow(reader, watch, screen)


class FlowWatch:
    def __init__(
        self, reader: StoreReader, narrator: Narrator, flow_id: str, after: int, kinds: frozenset[str] | None
    ) -> None:
        self._reader = reader
        self._narrator = narrator
        self._flow_id = flow_id
        self._version = after
        self._kinds = kinds

    def show_news(self) -> str:
        """Show what is new. Return the flow's status once it has ended and everything is shown, else ""."""
        header = header_of(self._reader, self._flow_id)
        while page := self._reader.scan(self._flow_id, after=self._version, limit=_PAGE):
            for record in page:
                if isinstance(record, Unreadable):
                    self._narrator.show_unreadable(record)
                elif self._kinds is None or record.kind in self._kinds:
                    self._narrator.show(self._flow_id, record)
            self._version = page[-1].version or self._version + 1
        return header.status if header.state.is_over else ""


def _follow(reader: StoreReader, watch: LogWatch | FlowWatch, screen: Screen) -> int:
    """Show what is new now and after each change of the store, until the flow has ended."""
    never, seen = Event(), None
    while True:
        version = reader.data_version()
        if version == seen:
            never.wait(_PAUSE_S)
            continue
        seen = version
        status = watch.show_news()
        screen.flush()
        if status:
            return DONE if status == "completed" else FAILED
