"""Where a process can die: right before and right after each of its commits is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...flows import events
from ...store import Append
from .mortal import Death

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...store.contract import Outcome, Write

__all__ = ["CommitLog", "CrashPoint"]


class CrashPoint(NamedTuple):
    """A crash that can be selected by its number, from 1; `events` are the events at stake."""

    number: int
    death: Death
    events: tuple[str, ...]

    def describe(self) -> str:
        """Say when the process dies, with a line for each event."""
        when = "right after this was durable" if self.death.is_durable else "right before this was durable"
        return "\n".join([f"the process died {when}:", *(f"  {event}" for event in self.events)])


class CommitLog:
    """Records the commits of a run, to list afterwards where it could have died."""

    def __init__(self) -> None:
        self._commits: list[Sequence[Write]] = []

    def note(self, writes: Sequence[Write], outcomes: list[Outcome]) -> None:
        """Record a durable commit."""
        del outcomes
        self._commits.append(writes)

    def points(self) -> list[CrashPoint]:
        """Return all crash points in order: two for each commit."""
        lines: dict[tuple[str, int], str] = {}
        found: list[CrashPoint] = []
        for commit, writes in enumerate(self._commits, 1):
            texts = tuple(text for write in writes for text in _events(write, lines))
            for is_durable in (False, True):
                found.append(CrashPoint(len(found) + 1, Death(commit, is_durable), texts))
        return found


def _events(write: Write, lines: dict[tuple[str, int], str]) -> list[str]:
    """Describe what a write has recorded; `lines` are those on which steps were called so far."""
    if not isinstance(write, Append):
        return [f"signal {getattr(write, 'name', '')!r} in the inbox of flow {write.stream!r}"]
    texts = [
        f"event {version} of flow {write.stream!r}: {_event(write.stream, record, lines)}"
        for version, record in enumerate(write.records, write.expected + 1)
    ]
    return texts or [f"the state of flow {write.stream!r}"]


def _event(flow_id: str, record: Any, lines: dict[tuple[str, int], str]) -> str:
    try:
        event = events.decode(record.data)
    except Exception:  # noqa: BLE001 - it is an actor's own
        return record.kind
    number: int = getattr(event, "step", None) or 0
    line = getattr(event, "line", "")
    if line and number:
        lines[flow_id, number] = f"{getattr(event, 'name', '')!r} at {line}"
    where = lines.get((flow_id, number), f"at {line}" if line else "")
    what = f" {number}" if number else ""
    return f"{record.kind}{what} {where}".rstrip()
