"""What a history shows of restarts. A restart leaves no event: only steps in doubt tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ...flows import events

if TYPE_CHECKING:
    from collections.abc import Sequence

Cause: TypeAlias = Literal["died", "closed"]

_OF_DOUBT = ("poisoned", "in_doubt")


class Restarts(NamedTuple):
    """By position in a history: before which events there was a restart, and which ones are due to it."""

    before: dict[int, Cause]
    due: frozenset[int]


def restarts_of(history: Sequence[events.AnyEvent]) -> Restarts:
    """Return the restarts that a history shows.

    A step is attempted again, and no outcome of its last attempt is on record: then the process has
    died meanwhile, once for all steps that ran. A restart while no step ran shows nowhere.
    """
    evidence = _Evidence()
    for position, event in enumerate(history):
        evidence.look(position, event)
    return Restarts(evidence.before, frozenset(evidence.due))


class _Evidence:
    """Reads a history. `_running` has each step that has no outcome, and whether its doubt is explained."""

    def __init__(self) -> None:
        self.before: dict[int, Cause] = {}
        self.due: set[int] = set()
        self._running: dict[int, bool] = {}
        self._interrupted: set[int] = set()
        self._is_closing = False

    def look(self, position: int, event: events.AnyEvent) -> None:
        if self._is_closing and not isinstance(event, events.StepInterrupted):
            self._is_closing = False
            self._restarted(position, "closed")
        match event:
            case events.StepStarted():
                self._running[event.step] = False
            case events.StepAttempted():
                self._attempted(position, event.step)
            case events.StepCompleted() | events.StepFailed():
                self._running.pop(event.step, None)
            case events.StepInterrupted():
                self._running.pop(event.step, None)
                self._interrupted.add(event.step)
                self.due.add(position)
                self._is_closing = True
            case events.Parked():
                if event.reason in _OF_DOUBT and self._running and not any(self._running.values()):
                    self._restarted(position, "died")
            case events.Repaired():
                self._explain_all()  # whatever was to run when the flow was parked did not run
            case events.FlowCompleted():
                self._running.clear()
            case _:
                pass

    def _attempted(self, position: int, step: int) -> None:
        is_explained = self._running.get(step)
        if is_explained is False:
            self._restarted(position, "died")
        if is_explained is not None or step in self._interrupted:
            self.due.add(position)
        self._interrupted.discard(step)
        self._running[step] = False

    def _restarted(self, position: int, cause: Cause) -> None:
        self.before[position] = cause
        self._explain_all()

    def _explain_all(self) -> None:
        self._running = dict.fromkeys(self._running, True)
