"""The events that a diagram is drawn from, in one form."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ...actors.handle import from_microseconds, to_microseconds
from ...flows import events
from ...flows.machine.history import Recorded

if TYPE_CHECKING:
    from ...actors.handle import FlowEvent, FlowHandle


History: TypeAlias = "Sequence[FlowEvent] | Sequence[Recorded] | Sequence[events.AnyEvent]"
Drawable: TypeAlias = "FlowHandle[Any] | History"
"""An execution: a flow, of which the history is read, or a history."""


class Happened(NamedTuple):
    """An event with its number, and its instant if that is known."""

    version: int
    at: int | None
    event: events.AnyEvent

    @property
    def recorded(self) -> Recorded:
        return Recorded(self.version, self.at or 0, self.event)

    def until(self, due: int) -> int | None:
        """Return how long it is from here to an instant, in microseconds."""
        return None if self.at is None else due - self.at


def happened(run: Drawable) -> list[Happened]:
    """Return a history in one form. Events without a place are numbered from 1."""
    history = run if isinstance(run, Sequence) else run.events()
    return [_happened(number, one) for number, one in enumerate(history, 1)]


def _happened(number: int, one: FlowEvent | Recorded | events.AnyEvent) -> Happened:
    if isinstance(one, events.Event):
        return Happened(number, None, one)
    at = one.at
    return Happened(one.version, to_microseconds(at) if isinstance(at, datetime) else at, one.event)


def written(at: int) -> str:
    return from_microseconds(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
