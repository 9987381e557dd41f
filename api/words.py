"""What demos say, in words alone, and how they hear what steps print."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

from ..flows import events

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

__all__ = ["Lines", "Phrase", "phrase_of"]

_SHORT = 60


class Phrase(NamedTuple):
    """An event in words."""

    what: str
    step: str
    detail: str

    def __str__(self) -> str:
        number = f" {self.step}" if self.step else ""
        return f"{self.what}{number}" + (f"  {self.detail}" if self.detail else "")


def phrase_of(event: events.AnyEvent) -> Phrase:
    """Put an event into words."""
    step = getattr(event, "step", None)
    return Phrase(events.kind(event).replace("_", " "), str(step) if step else "", _detail(event))


def _detail(event: events.AnyEvent) -> str:  # noqa: PLR0911 - one line an event
    match event:
        case events.FlowStarted():
            return f"{event.flow} {_json(event.args)}"
        case events.StepStarted() | events.StepScheduled() | events.SignalReceived():
            return f"{event.name} {_json(event.args)}"
        case events.StepCompleted() | events.FlowCompleted():
            return f"→ {_json(event.result)}"
        case events.SignalAwaited():
            return event.name
        case events.StepAttempted():
            return f"attempt {event.attempt}"
        case events.StepFailed() | events.FlowFailed():
            return f"{event.error.type}: {event.error.message}"
        case events.Parked():
            return f"{event.reason}: {event.message}"
        case _:
            return ""


def _json(data: msgspec.Raw) -> str:
    text = bytes(data).decode(errors="replace")
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


class Lines(io.TextIOBase):
    """A place to print to that hands on whole lines, whoever prints them.

    Steps print into it, so that no step fails because nobody reads this process's output any more.
    """

    def __init__(self, take: Callable[[str], Any]) -> None:
        super().__init__()
        self._take = take
        self._begun = ""

    def writable(self) -> bool:
        """Say that it can be printed to."""
        return True

    def write(self, text: str, /) -> int:
        """Take text; a line is handed on with its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)
