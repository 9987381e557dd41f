"""What a flow waits for, told from its history to whoever wonders why nothing happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..flows.client import from_microseconds

if TYPE_CHECKING:
    from ...flows import events
    from ...flows.summary import FlowSummary

__all__ = ["waits_in_words"]


def waits_in_words(summary: FlowSummary) -> list[str]:
    """Say what a flow waits for, a line each: whoever has paused it, signals, sleeps, and steps."""
    told: list[str] = []
    if summary.paused is not None:
        told.append(f"a resume: it was paused{_by(summary.paused[0])}")
    told += [f"signal {wait.name!r}, awaited{_at(wait.line)}" for wait in summary.waits]
    for sleep in summary.sleeps.values():
        until = f"{from_microseconds(sleep.due):%Y-%m-%d %H:%M:%S} UTC"
        told.append(f"the end of a sleep, {until}{_at(sleep.line)}")
    told += [f"step {step.number} {step.name!r}{_at(step.line)}" for step in summary.open_steps]
    return told


def _at(line: str) -> str:
    return f" at {line}" if line else ""


def _by(event: events.Paused) -> str:
    return (f" by {event.by}" if event.by else "") + (f" ({event.why})" if event.why else "")
