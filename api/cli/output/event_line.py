"""An event in one line of words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .printable import cut, one_line, printable
from .times import local_time

if TYPE_CHECKING:
    from ....flows import events
    from ....flows.description import Description

SHORT, WHOLE = 60, 1_000_000
"""Where payloads and messages are cut: to fit a line, or only where they are absurdly long."""


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
    error = "" if words.error is None else _error(words.error, length)
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


def _error(error: events.Failure, length: int) -> str:
    return f"{printable(error.type)}: {cut(one_line(error.message), 2 * length)}"


def _json(data: bytes, length: int) -> str:
    return cut(bytes(data).decode(errors="replace"), length)
