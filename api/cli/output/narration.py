"""Shows events, one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ....flows import events
from ....flows.description import describe
from .documents import event_document, unreadable_document
from .printable import cut, one_line, printable
from .quantities import local_clock, local_time
from .screen import StyledText

if TYPE_CHECKING:
    from ....flows.description import Description
    from ....store import Record, Unreadable
    from .screen import Screen

SHORT, WHOLE = 60, 1_000_000
"""Where payloads and messages are cut: to fit a line, or only where they are absurdly long."""
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


class EventLine(NamedTuple):
    what: str
    step: str
    detail: str

    def __str__(self) -> str:
        number = f" {self.step}" if self.step else ""
        return f"{self.what}{number}" + (f"  {self.detail}" if self.detail else "")


def event_line(words: Description, *, length: int = SHORT) -> EventLine:
    """Return an event's description as a line; payloads and messages are cut at `length`."""
    return EventLine(words.what, str(words.step) if words.step else "", _detail(words, length))


def _detail(words: Description, length: int) -> str:
    args = "" if words.args is None else _json(words.args, length)
    about = " ".join(part for part in (printable(words.name), args) if part)
    error = ""
    if words.error is not None:
        error = f"{printable(words.error.type)}: {cut(one_line(words.error.message), 2 * length)}"
    attempt = f"attempt {words.attempt}" if words.attempt else ""
    said = [
        about,
        ": ".join(part for part in (attempt, error) if part),
        "" if words.result is None else f"→ {_json(words.result, length)}",
        "" if words.due is None else f"{words.due.what} {local_time(words.due.at)}",
        _person(words.by, words.why, length),
    ]
    return ", ".join(part for part in said if part)


def _person(by: str, why: str, length: int) -> str:
    return ": ".join(
        part for part in (f"by {cut(one_line(by), length)}" if by else "", cut(one_line(why), length)) if part
    )


def _json(data: bytes, length: int) -> str:
    return cut(bytes(data).decode(errors="replace"), length)


class Narrator:
    """Shows events, to people or to programs. `full`: payloads and messages are not cut."""

    def __init__(self, screen: Screen, *, as_json: bool, now: int, full: bool = False) -> None:
        self._screen = screen
        self._as_json = as_json
        self._length = WHOLE if full else SHORT
        self._now = now
        self._names: dict[tuple[str, int], str] = {}

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
        step = flow_id, words.step
        if not words.name:
            return line._replace(step=f"{line.step} {self._names.get(step, '')}".strip())
        if len(self._names) >= _NAMES_MAX:
            self._names.clear()
        self._names[step] = words.name
        return line
