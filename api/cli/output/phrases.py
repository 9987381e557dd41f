"""Events in words, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ....flows import events
from .printable import cut, one_line, printable
from .times import local_time

if TYPE_CHECKING:
    import msgspec

__all__ = ["Phrase", "phrase_of"]

_SHORT = 60


class Phrase(NamedTuple):
    """An event in words, fit for a terminal."""

    what: str
    step: str
    detail: str

    def __str__(self) -> str:
        number = f" {self.step}" if self.step else ""
        return f"{self.what}{number}" + (f"  {self.detail}" if self.detail else "")


def phrase_of(event: events.AnyEvent, *, length: int = _SHORT) -> Phrase:
    """Put an event into words; payloads and messages are cut at `length`."""
    step = getattr(event, "step", None)
    return Phrase(events.kind(event).replace("_", " "), str(step) if step else "", _detail(event, length))


def _detail(event: events.AnyEvent, length: int) -> str:  # noqa: C901, PLR0911 - one line an event
    match event:
        case events.FlowStarted():
            return f"{printable(event.flow)} {_json(event.args, length)}"
        case events.StepStarted() | events.SignalReceived():
            return f"{printable(event.name)} {_json(event.args, length)}"
        case events.StepScheduled():
            name = printable(event.name)
            return f"{name} {_json(event.args, length)}, not before {local_time(event.due)}"
        case events.StepCompleted() | events.FlowCompleted():
            return f"→ {_json(event.result, length)}"
        case events.SignalAwaited():
            return printable(event.name)
        case events.StepAttempted():
            return f"attempt {event.attempt}"
        case events.StepFailed():
            again = f", again at {local_time(event.retry_at)}" if event.retry_at is not None else ""
            return f"attempt {event.attempt}: {_error(event.error, length)}{again}"
        case events.FlowFailed():
            return _error(event.error, length)
        case events.Parked():
            return f"{printable(event.reason)}: {cut(one_line(event.message), 2 * length)}"
        case events.TimerSet():
            return f"until {local_time(event.due)}"
        case events.Paused() | events.Resumed() | events.Repaired():
            return _person(event.by, event.why, length)
        case _:
            return ""


def _person(by: str, why: str, length: int) -> str:
    return ": ".join(
        part for part in (f"by {cut(one_line(by), length)}" if by else "", cut(one_line(why), length)) if part
    )


def _error(error: events.Failure, length: int) -> str:
    return f"{printable(error.type)}: {cut(one_line(error.message), 2 * length)}"


def _json(data: msgspec.Raw, length: int) -> str:
    return cut(bytes(data).decode(errors="replace"), length)
