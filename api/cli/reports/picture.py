"""How a flow stands, put together from its history: steps, sleeps, waits, and its last word.

What repairs have made void is left out, as a replay leaves it out.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ....flows import events
from ....flows.machine.history import Recorded, plan_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ....flows.events import Failure

__all__ = ["Picture", "Sleep", "State", "StepPicture", "WaitPicture", "picture_of"]

_FOUND_AT_A_START = frozenset(("poisoned", "in_doubt", "lethal"))
"""Reasons to be parked that are found when a process has died, and another one looks at the flow."""


class State(enum.StrEnum):
    """How a step stands."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    INTERRUPTED = "interrupted"
    IN_DOUBT = "in doubt"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass
class StepPicture:
    """A step. Instants are microseconds since the epoch, UTC; `attempts` counts those that are recorded.

    `unresolved` counts the attempts of which nobody knows how they ended.
    """

    number: int
    name: str
    args: bytes
    line: str
    begun_at: int
    state: State = State.RUNNING
    attempts: int = 0
    unresolved: int = 0
    attempted_at: int | None = None
    due: int | None = None
    ended_at: int | None = None
    result: bytes | None = None
    error: Failure | None = None

    @property
    def is_open(self) -> bool:
        """Whether the step has not ended."""
        return self.state not in (State.COMPLETED, State.FAILED)

    def attempt(self, number: int, at: int) -> None:
        """Note an attempt."""
        self.state, self.attempts, self.attempted_at, self.due = State.RUNNING, number, at, None
        self.unresolved += 1

    def fail(self, event: events.StepFailed, at: int) -> None:
        """Note a failure, for good or to be tried again."""
        self.error, self.unresolved, self.due = event.error, 0, event.retry_at
        self.state = State.FAILED if event.retry_at is None else State.RETRYING
        self.ended_at = at if event.retry_at is None else None


@dataclass
class Sleep:
    """A sleep that is not over."""

    number: int
    begun_at: int
    due: int
    line: str


@dataclass
class WaitPicture:
    """A signal that is waited for; `step` is the number of the step that it will be run as, if any."""

    name: str
    step: int
    since: int
    line: str


@dataclass
class Picture:
    """A flow, as far as its history tells. The last four say at which instant it came to that, if it has."""

    started_at: int = 0
    args: bytes = b""
    steps: dict[int, StepPicture] = field(default_factory=dict[int, StepPicture])
    sleeps: dict[int, Sleep] = field(default_factory=dict[int, Sleep])
    waits: list[WaitPicture] = field(default_factory=list[WaitPicture])
    paused: tuple[events.Paused, int] | None = None
    parked: tuple[events.Parked, int] | None = None
    completed: tuple[events.FlowCompleted, int] | None = None
    failed: tuple[events.FlowFailed, int] | None = None
    received: defaultdict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))
    """How many signals have come, by name, that nothing has waited for yet."""

    def step_name(self, number: int) -> str:
        """Return a step's name; nothing, when it is not known."""
        step = self.steps.get(number)
        return "" if step is None else step.name


def picture_of(history: Sequence[Recorded]) -> Picture:
    """Put together how a flow stands."""
    painter = _Painter()
    void = plan_of(history).void
    for version, at, event in history:
        if version not in void:
            painter.add(event, at)
    return painter.picture


class _Painter:
    """Takes events in, one after the other."""

    def __init__(self) -> None:
        self.picture = Picture()

    def add(self, event: events.AnyEvent, at: int) -> None:
        if isinstance(event, events.StepStarted | events.StepScheduled):
            self._begin_step(event, at)
        elif isinstance(
            event, events.StepCompleted | events.StepFailed | events.StepAttempted | events.StepInterrupted
        ):
            self._go_on_with_step(event, at)
        elif isinstance(event, events.SignalAwaited | events.SignalReceived):
            self._meet(event, at)
        elif isinstance(event, events.TimerSet):
            self.picture.sleeps[event.timer] = Sleep(event.timer, at, event.due, event.line)
        elif isinstance(event, events.TimerFired):
            self.picture.sleeps.pop(event.timer, None)
        else:
            self._note(event, at)

    def _begin_step(self, event: events.StepStarted | events.StepScheduled, at: int) -> None:
        step = StepPicture(event.step, event.name, bytes(event.args), event.line, at)
        self.picture.steps[event.step] = step
        if isinstance(event, events.StepScheduled):
            step.state, step.due = State.SCHEDULED, event.due
        else:
            step.attempt(1, at)

    def _go_on_with_step(
        self,
        event: events.StepCompleted | events.StepFailed | events.StepAttempted | events.StepInterrupted,
        at: int,
    ) -> None:
        step = self.picture.steps.get(event.step)
        if step is None:
            return  # a history that no flow has written; whoever replays it says so
        match event:
            case events.StepCompleted():
                step.state, step.ended_at, step.result = State.COMPLETED, at, bytes(event.result)
            case events.StepFailed():
                step.fail(event, at)
            case events.StepAttempted():
                step.attempt(event.attempt, at)
            case events.StepInterrupted():
                step.state, step.unresolved = State.INTERRUPTED, 0

    def _meet(self, event: events.SignalAwaited | events.SignalReceived, at: int) -> None:
        """Bring signals and waits together as the flow does: by name, oldest first."""
        picture = self.picture
        if isinstance(event, events.SignalAwaited):
            if picture.received[event.name]:
                picture.received[event.name] -= 1
            else:
                picture.waits.append(WaitPicture(event.name, event.step, at, event.line))
            return
        wait = next((wait for wait in picture.waits if wait.name == event.name), None)
        if wait is None:
            picture.received[event.name] += 1
        else:
            picture.waits.remove(wait)

    def _doubt_steps(self) -> None:
        """Take note that nothing of the flow runs: it was parked before anything was run again."""
        for step in self.picture.steps.values():
            if step.state is State.RUNNING:
                step.state = State.IN_DOUBT

    def _note(self, event: events.AnyEvent, at: int) -> None:
        picture = self.picture
        match event:
            case events.FlowStarted():
                picture.started_at, picture.args = at, bytes(event.args)
            case events.Paused():
                picture.paused = event, at
            case events.Resumed():
                picture.paused = None
            case events.Parked():
                picture.parked = event, at
                if event.reason in _FOUND_AT_A_START:
                    self._doubt_steps()
            case events.Repaired():
                self._repair()
            case events.FlowCompleted():
                picture.completed = event, at
            case events.FlowFailed():
                picture.failed = event, at
            case _:
                pass

    def _repair(self) -> None:
        self.picture.parked = self.picture.failed = None
        for step in self.picture.steps.values():
            step.unresolved = 0
