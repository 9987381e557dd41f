"""What a history says about its flow now: its status, its steps, and what it waits for.

The flow machine answers the same by replaying the flow's code. Here the events alone are enough, for callers
that have only those: commands, tests, diagrams. Events that a repair has voided do not count, as in a replay
(see `machine.history.plan_of`).
"""

from __future__ import annotations

import enum
from collections import Counter
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, assert_never

from . import events

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from .machine.history import Recorded

_FOUND_AT_A_START = frozenset(("poisoned", "in_doubt", "lethal"))
"""Reasons to park a flow that a new process finds after the death of the previous one."""


class StepState(enum.StrEnum):
    """The state of a step."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    RETRYING = "retrying"
    INTERRUPTED = "interrupted"
    IN_DOUBT = "in doubt"
    COMPLETED = "completed"
    FAILED = "failed"


_WAITING = (StepState.SCHEDULED, StepState.RETRYING)
_ENDED = (StepState.COMPLETED, StepState.FAILED)


@dataclass(slots=True)
class StepSummary:
    """A step. Instants are microseconds since the epoch, UTC; `attempts` counts the recorded ones.

    `version` is that of its first event. `unresolved` counts the attempts without a known outcome.
    """

    number: int
    name: str
    args: bytes
    line: str
    version: int
    begun_at: int
    state: StepState = StepState.RUNNING
    attempts: int = 0
    unresolved: int = 0
    attempted_at: int | None = None
    due: int | None = None
    ended_at: int | None = None
    result: bytes | None = None
    error: events.Failure | None = None
    before_failure: tuple[int, StepSummary] | None = field(default=None, repr=False)
    """The version of the last failure, and the step before it."""

    @property
    def is_open(self) -> bool:
        return self.state not in _ENDED

    @property
    def waits_for_time(self) -> bool:
        return self.state in _WAITING

    def attempt(self, number: int, at: int) -> None:
        self.state, self.attempts, self.attempted_at, self.due = StepState.RUNNING, number, at, None
        self.unresolved += 1

    def fail(self, event: events.StepFailed, version: int, at: int) -> None:
        self.before_failure = None
        self.before_failure = version, copy(self)
        self.error, self.unresolved, self.due = event.error, 0, event.retry_at
        self.state = StepState.FAILED if event.retry_at is None else StepState.RETRYING
        self.ended_at = at if event.retry_at is None else None


class OpenSleep(NamedTuple):
    """A sleep that is not over; `version` is that of its first event."""

    number: int
    version: int
    begun_at: int
    due: int
    line: str


class OpenWait(NamedTuple):
    """A wait for a signal; `step` is the number of the step that its payload will run as, if any."""

    version: int
    name: str
    step: int
    since: int
    line: str


class ReceivedSignal(NamedTuple):
    """A signal in a flow's history."""

    version: int
    at: int
    key: str
    args: bytes


class FlowSummary:
    """What a history says about its flow, as far as it was applied. Not thread-safe.

    `paused`, `parked`, `completed` and `failed` hold the event that brought the flow there, with its instant,
    if it still is there. `dead` are the keys of signals that were given up.
    """

    def __init__(self, dead: Container[str] = ()) -> None:
        self.args = b""
        self.steps: dict[int, StepSummary] = {}
        self.sleeps: dict[int, OpenSleep] = {}
        self.signals: dict[str, list[ReceivedSignal]] = {}
        self.paused: tuple[events.Paused, int] | None = None
        self.parked: tuple[events.Parked, int] | None = None
        self.completed: tuple[events.FlowCompleted, int] | None = None
        self.failed: tuple[events.FlowFailed, int] | None = None
        self._awaited: dict[str, list[OpenWait]] = {}
        self._names: dict[int, str] = {}
        self._dead = dead

    # ------------------------------------------------------------------------------- how it stands
    @property
    def status(self) -> str:
        """One of running, waiting, paused, parked, completed, failed."""
        if self.completed is not None:
            return "completed"
        if self.failed is not None:
            return "failed"
        if self.parked is not None:
            return "parked"
        if self.paused is not None:
            return "paused"
        runs = any(step.is_open and not step.waits_for_time for step in self.steps.values())
        return "running" if runs else "waiting"

    @property
    def last_word(self) -> events.FlowCompleted | events.FlowFailed | events.Parked | None:
        """The event that ended or parked the flow."""
        for word in (self.completed, self.failed, self.parked):
            if word is not None:
                return word[0]
        return None

    @property
    def open_steps(self) -> list[StepSummary]:
        return [step for step in self.steps.values() if step.is_open]

    @property
    def waits(self) -> list[OpenWait]:
        """The waits that no signal has come for, oldest first.

        Signals and waits of a name are matched as in the flow, oldest first.
        """
        return sorted(
            wait for name, waits in self._awaited.items() for wait in waits[len(self.signals.get(name, ())) :]
        )

    @property
    def unread(self) -> Counter[str]:
        """How many signals have come without a wait for them, by name."""
        counts = {
            name: len(signals) - len(self._awaited.get(name, ())) for name, signals in self.signals.items()
        }
        return +Counter(counts)

    def step_name(self, number: int) -> str:
        """Return a step's name, also of one that a repair has undone; "" if it is not known."""
        return self._names.get(number, "")

    # ------------------------------------------------------------------------------ what has happened
    def apply(self, recorded: Recorded) -> None:  # noqa: C901, PLR0912 - one line a kind
        """Apply the next event of the history."""
        version, at, event = recorded
        match event:
            case events.FlowStarted():
                self.args = bytes(event.args)
            case events.StepStarted() | events.StepScheduled():
                self._begin_step(event, version, at)
            case (
                events.StepCompleted()
                | events.StepFailed()
                | events.StepAttempted()
                | events.StepInterrupted()
            ):
                self._go_on_with_step(event, version, at)
            case events.TimerSet():
                self.sleeps[event.timer] = OpenSleep(event.timer, version, at, event.due, event.line)
            case events.TimerFired():
                self.sleeps.pop(event.timer, None)
            case events.SignalAwaited():
                wait = OpenWait(version, event.name, event.step, at, event.line)
                self._awaited.setdefault(event.name, []).append(wait)
                if event.step:
                    self._names[event.step] = event.name
            case events.SignalReceived():
                if event.key not in self._dead:
                    signal = ReceivedSignal(version, at, event.key, bytes(event.args))
                    self.signals.setdefault(event.name, []).append(signal)
            case events.Paused():
                self.paused = self.paused or (event, at)
            case events.Resumed():
                self.paused = None
            case events.Parked():
                self._park(event, at)
            case events.Repaired():
                self._repair(event)
            case events.FlowCompleted():
                self.completed = event, at
            case events.FlowFailed():
                self.failed = event, at
            case _:
                assert_never(event)

    def _begin_step(self, event: events.StepStarted | events.StepScheduled, version: int, at: int) -> None:
        step = StepSummary(event.step, event.name, bytes(event.args), event.line, version, at)
        self.steps[event.step] = step
        self._names[event.step] = event.name
        if isinstance(event, events.StepScheduled):
            step.state, step.due = StepState.SCHEDULED, event.due
        else:
            step.attempt(1, at)

    def _go_on_with_step(
        self,
        event: events.StepCompleted | events.StepFailed | events.StepAttempted | events.StepInterrupted,
        version: int,
        at: int,
    ) -> None:
        step = self.steps.get(event.step)
        if step is None:
            return  # a repair has undone the step; or no flow wrote this history
        match event:
            case events.StepCompleted():
                step.state, step.ended_at, step.result = StepState.COMPLETED, at, bytes(event.result)
            case events.StepFailed():
                step.fail(event, version, at)
            case events.StepAttempted():
                step.attempt(event.attempt, at)
            case events.StepInterrupted():
                step.state, step.unresolved = StepState.INTERRUPTED, 0

    def _park(self, event: events.Parked, at: int) -> None:
        self.parked = event, at
        if event.reason in _FOUND_AT_A_START:
            # It was parked before any step was run again.
            for step in self.steps.values():
                if step.state is StepState.RUNNING:
                    step.state = StepState.IN_DOUBT

    def _repair(self, event: events.Repaired) -> None:
        """Undo what the code did from a version on, with its consequences, and the failures to retry."""
        self.parked = self.failed = None
        since = event.since
        if since is not None:
            self.steps = {number: step for number, step in self.steps.items() if step.version < since}
            self.sleeps = {number: sleep for number, sleep in self.sleeps.items() if sleep.version < since}
            for name, waits in self._awaited.items():
                self._awaited[name] = [wait for wait in waits if wait.version < since]
        for number, step in self.steps.items():
            if step.before_failure is not None and step.before_failure[0] in event.retried:
                self.steps[number] = step.before_failure[1]
            self.steps[number].unresolved = 0


def summary_of(history: Iterable[Recorded], dead: Container[str] = ()) -> FlowSummary:
    """Return the summary of a history; `dead` are the keys of signals that were given up."""
    summary = FlowSummary(dead)
    for recorded in history:
        summary.apply(recorded)
    return summary
