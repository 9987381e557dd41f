"""Shows events, one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ....flows import events
from ....flows.description import describe
from .documents import event_document, unreadable_document
from .event_line import SHORT, WHOLE, EventLine, event_line
from .screen import StyledText
from .times import local_clock

if TYPE_CHECKING:
    from ....flows.description import Description
    from ....store import Record, Unreadable
    from .screen import Screen

_NAMES_MAX = 10_000
_COLOURS = {
    "flow_started": "bold",
    "flow_completed": "bold green",
    "flow_failed": "bold red",
    "parked": "bold red",
    "step_failed": "red",
    "step_completed": "green",
    "paused": "magenta",
    "resumed": "magenta",
    "repaired": "magenta",
    "signal_received": "yellow",
    "signal_awaited": "yellow",
}


class _Step(NamedTuple):
    flow_id: str
    number: int


class Narrator:
    """Shows events, to people or to programs. `full`: payloads and messages are not cut."""

    def __init__(self, screen: Screen, *, as_json: bool, now: int, full: bool = False) -> None:
        self._screen = screen
        self._as_json = as_json
        self._length = WHOLE if full else SHORT
        self._now = now
        self._names: dict[_Step, str] = {}

    def colour(self, record: Record) -> str:
        return _COLOURS.get(record.kind, "")

    def show(self, flow_id: str, record: Record, position: int | None = None) -> None:
        """Tell of one event."""
        if self._as_json:
            self._screen.json(event_document(flow_id, record, position))
            return
        what, step, detail = self.words(flow_id, record)
        self._screen.line(
            StyledText(f"{local_clock(record.at, self._now)}  ", "dim"),
            StyledText(f"{flow_id}  ", "cyan"),
            StyledText(what, self.colour(record)),
            f" {step}" if step else "",
            f"  {detail}" if detail else "",
        )

    def show_unreadable(self, found: Unreadable) -> None:
        if self._as_json:
            self._screen.json(unreadable_document(found))
            return
        number = "an event" if found.version is None else f"event {found.version}"
        self._screen.line(
            StyledText(f"{found.stream or '?'}  ", "cyan"),
            StyledText(f"{number} cannot be read", "bold red"),
            f"  {found.reason}",
        )

    def words(self, flow_id: str, record: Record) -> EventLine:
        """Put an event into words; a step gets its name if an earlier event gave it."""
        try:
            event = events.decode(record.data)
        except msgspec.MsgspecError:
            return EventLine(record.kind.replace("_", " "), "", "")
        words = describe(event)
        return self._name_step(flow_id, words, event_line(words, length=self._length))

    def _name_step(self, flow_id: str, words: Description, line: EventLine) -> EventLine:
        if not words.step:
            return line
        if words.name:
            self._learn(_Step(flow_id, words.step), words.name)
            return line
        name = self._names.get(_Step(flow_id, words.step), "")
        return line._replace(step=f"{line.step} {name}".strip())

    def _learn(self, step: _Step, name: str) -> None:
        if len(self._names) >= _NAMES_MAX:
            self._names.clear()
        self._names[step] = name
