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
    from collections.abc import Iterator
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
    *,
    flow: str | None,
    after: int | None,
    brief: bool,
    full: bool,
    store: Path,
    as_json: bool,
) -> int:
    """Show the events of FLOW until it ends, or of all flows until Ctrl-C.

    You can start and stop engines meanwhile. With FLOW, the exit code is 0 if it completes, and 1 if it
    fails.
    """
    screen = Screen()
    narrator = Narrator(screen, as_json=as_json, now=SystemClock().now(), full=full)
    kinds = NOTABLE if brief else None
    with open_reader(store) as reader:
        if flow is None:
            newest = reader.position()
            _check_after(after, newest)
            start = newest if after is None else after
            return _follow_all(reader, LogWatch(reader, narrator, after=start, kinds=kinds), screen)
        return _follow_one(FlowWatch(reader, narrator, flow, after or 0, kinds), screen)


class FlowWatch:
    def __init__(
        self, reader: StoreReader, narrator: Narrator, flow_id: str, after: int, kinds: frozenset[str] | None
    ) -> None:
        _check_after(after, header_of(reader, flow_id).version)
        self.reader = reader
        self._narrator = narrator
        self._flow_id = flow_id
        self._version = after
        self._kinds = kinds

    def show_news(self) -> str:
        """Show what is new. Return the flow's status once it has ended and everything is shown, else ""."""
        header = header_of(self.reader, self._flow_id)
        while page := self.reader.scan(self._flow_id, after=self._version, limit=_PAGE):
            for record in page:
                if isinstance(record, Unreadable):
                    self._narrator.show_unreadable(record)
                elif self._kinds is None or record.kind in self._kinds:
                    self._narrator.show(self._flow_id, record)
            self._version = page[-1].version or self._version + 1
        return header.status if header.state.is_over else ""


def _check_after(after: int | None, newest: int) -> None:
    """Refuse to wait for events that can never come.

    Raises:
        PersistasaurusError: no event has this number: the store was restored, or is a different one.
    """
    if after is not None and after > newest:
        raise PersistasaurusError(
            f"there is no event {after}: the newest is {newest}. The store was restored, or is a"
            " different one: omit --after, or give a number that exists"
        )


def _follow_one(watch: FlowWatch, screen: Screen) -> int:
    for _ in _changes(watch.reader):
        status = watch.show_news()
        screen.flush()
        if status:
            return DONE if status == "completed" else FAILED
    return DONE


def _follow_all(reader: StoreReader, watch: LogWatch, screen: Screen) -> int:
    for _ in _changes(reader):
        watch.show_news()
        screen.flush()
    return DONE


def _changes(reader: StoreReader) -> Iterator[None]:
    """Yield at once, then after each change of the store, forever."""
    never = Event()
    seen = None
    while True:
        version = reader.data_version()
        if version != seen:
            seen = version
            yield
        else:
            never.wait(_PAUSE_S)
