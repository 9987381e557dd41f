"""The restarts that a history shows. A restart leaves no event; only steps in doubt reveal it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ...flows import events
from ...flows.summary import FlowSummary, StepState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .timeline import Happened

Cause: TypeAlias = Literal["died", "closed"]

_OF_DOUBT = ("poisoned", "in_doubt")


class RestartMarks(NamedTuple):
    """By position in a history: before which events a restart happened, and which events it caused."""

    before: dict[int, Cause]
    due: frozenset[int]


def restart_marks_of(history: Sequence[Happened]) -> RestartMarks:
    """Return the restarts that a history shows.

    If a step is attempted again and its last attempt has no recorded outcome, the process died in between,
    once for all steps that were running. A restart while no step was running is not visible.
    """
    evidence = _Evidence()
    for position, one in enumerate(history):
        evidence.look(position, one)
    return RestartMarks(evidence.before, frozenset(evidence.due))


class _Evidence:
    """Reads a history.

    `_explained` are the steps that were running before a known restart; `_retried` are failed steps that run
    once more because the flow was retried.
    """

    def __init__(self) -> None:
        self.before: dict[int, Cause] = {}
        self.due: set[int] = set()
        self._summary = FlowSummary()
        self._explained: set[int] = set()
        self._retried: set[int] = set()
        self._is_closing = False

    def look(self, position: int, one: Happened) -> None:
        event = one.event
        running = self._running()
        if self._is_closing and not isinstance(event, events.StepInterrupted):
            self._is_closing = False
            self._restarted(position, "closed")
        match event:
            case events.StepAttempted():
                self._attempted(position, event.step)
            case events.StepInterrupted():
                self.due.add(position)
                self._is_closing = True
            case events.Parked():
                if event.reason in _OF_DOUBT and running and not running & self._explained:
                    self._restarted(position, "died")
            case events.Repaired():
                self._explained |= running  # whatever was to run when it was parked did not run
            case _:
                pass
        self._summary.apply(one.recorded)
        if isinstance(event, events.Repaired):
            self._retried |= self._running() - running

    def _attempted(self, position: int, step: int) -> None:
        if step in self._retried:
            self._retried.discard(step)
            return
        known = self._summary.steps.get(step)
        state = None if known is None else known.state
        if state in _RUNNING and step not in self._explained:
            self._restarted(position, "died")
        if state in _RUNNING or state is StepState.INTERRUPTED:
            self.due.add(position)
        self._explained.discard(step)

    def _running(self) -> set[int]:
        """Return the steps that have no outcome, including those found in doubt."""
        found = {step.number for step in self._summary.steps.values() if step.state in _RUNNING}
        return found - self._retried

    def _restarted(self, position: int, cause: Cause) -> None:
        self.before[position] = cause
        self._explained |= self._running()


_RUNNING = (StepState.RUNNING, StepState.IN_DOUBT)
