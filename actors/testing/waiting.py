"""What a flow waits for, told from its history to whoever wonders why nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...flows import events
from ...flows.machine.history import plan_of
from ..flows.client import from_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...flows.machine.history import Recorded

__all__ = ["Awaited", "open_waits", "waits_in_words"]


class Awaited(NamedTuple):
    """A wait for a signal, by the version of its event. `line` is that of the flow."""

    version: int
    name: str
    line: str


def open_waits(history: Sequence[Recorded]) -> list[Awaited]:
    """Return the waits for signals that none has come for yet, oldest first."""
    void = plan_of(history).void
    waits: dict[str, list[Awaited]] = {}
    received: dict[str, int] = {}
    for version, _, event in history:
        if version in void:
            continue
        if isinstance(event, events.SignalAwaited):
            waits.setdefault(event.name, []).append(Awaited(version, event.name, event.line))
        elif isinstance(event, events.SignalReceived):
            received[event.name] = received.get(event.name, 0) + 1
    return sorted(wait for name, some in waits.items() for wait in some[received.get(name, 0) :])


def waits_in_words(history: Sequence[Recorded]) -> list[str]:
    """Say what a flow waits for, a line each: signals, sleeps, steps, and whoever has paused it."""
    told = [f"signal {wait.name!r}, awaited{_at(wait.line)}" for wait in open_waits(history)]
    pending: dict[str, str] = {}
    paused = ""
    for _, _, event in history:
        match event:
            case events.TimerSet():
                until = f"{from_microseconds(event.due):%Y-%m-%d %H:%M:%S} UTC"
                pending[f"timer {event.timer}"] = f"the end of a sleep, {until}{_at(event.line)}"
            case events.TimerFired():
                pending.pop(f"timer {event.timer}", None)
            case events.StepStarted() | events.StepScheduled():
                pending[f"step {event.step}"] = f"step {event.step} {event.name!r}{_at(event.line)}"
            case events.StepCompleted():
                pending.pop(f"step {event.step}", None)
            case events.StepFailed() if event.retry_at is None:
                pending.pop(f"step {event.step}", None)
            case events.Paused():
                paused = f"somebody to resume it: it was paused{_by(event)}"
            case events.Resumed():
                paused = ""
            case _:
                pass
    return [*([paused] if paused else []), *told, *pending.values()]


def _at(line: str) -> str:
    return f" at {line}" if line else ""


def _by(event: events.Paused) -> str:
    return (f" by {event.by}" if event.by else "") + (f" ({event.why})" if event.why else "")
