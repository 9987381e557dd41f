"""What the views should say of a history, worked out without SQL: from its events, and from a replay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from persistasaurus.flows import FlowMachine, events
from persistasaurus.flows.errors import NondeterminismError
from persistasaurus.flows.machine.history import plan_of
from persistasaurus.flows.machine.pending import StepPhase
from store.histories import Anything, Chance

BEGINNINGS = (events.SignalAwaited, events.StepScheduled, events.StepStarted)


class Expected(NamedTuple):
    """Rows as the views should have them, by their keys."""

    void: set[int]
    steps: dict[int, tuple]
    timers: dict[int, tuple]
    awaited: list[tuple]


def iso(at):
    """Say an instant as the views do."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at // 1000 % 1000:03d}Z"


def expected(log, *, ended):
    """Work out what is to be seen of a history."""
    void = set(plan_of(log).void)
    return Expected(
        void, steps_of(log, void, ended), timers_of(log, void, ended), awaited_of(log, void, ended)
    )


def steps_of(log, void, ended):
    found = {}
    for recorded in log:
        number = (
            None if isinstance(recorded.event, events.FlowFailed) else getattr(recorded.event, "step", None)
        )
        if number:
            found.setdefault(number, []).append(recorded)
    return {number: step_row(history, void, ended) for number, history in found.items()}


def step_row(history, void, ended):
    beginnings = [r for r in history if isinstance(r.event, BEGINNINGS)]
    begun = beginnings[-1].event
    attempts = [r for r in history if isinstance(r.event, events.StepStarted | events.StepAttempted)]
    is_void = beginnings[-1].version in void
    live = [r for r in history if r.version not in void]
    last = None if is_void else live[-1]
    status, due, error, result, is_over = standing(last)
    if ended and status not in ("void", "completed", "failed"):
        status, due = "abandoned", None
    return (
        begun.name,
        status,
        len(attempts),
        iso(history[0].at),
        iso(attempts[0].at) if attempts else None,
        iso(due),
        iso(last.at) if is_over else None,
        value(getattr(begun, "args", None)),
        value(result),
        None if error is None else f"{error.type}: {error.message}",
        begun.line,
    )


class Standing(NamedTuple):
    """What the last event that counts makes of a step."""

    status: str
    due: int | None = None
    error: events.Failure | None = None
    result: msgspec.Raw | None = None
    is_over: bool = False


def standing(last):
    """Say how a step stands; `last` is the last event of it that counts."""
    match None if last is None else last.event:
        case None:
            return Standing("void")
        case events.StepCompleted() as event:
            return Standing("completed", result=event.result, is_over=True)
        case events.StepFailed(error=error, retry_at=None):
            return Standing("failed", error=error, is_over=True)
        case events.StepFailed(error=error, retry_at=at):
            return Standing("retrying", at, error)
        case events.StepScheduled(due=due):
            return Standing("scheduled", due)
        case event:
            words = {events.SignalAwaited: "waiting", events.StepInterrupted: "interrupted"}
            return Standing(words.get(type(event), "started"))


def value(raw):
    return None if raw is None else msgspec.json.decode(bytes(raw))


def timers_of(log, void, ended):
    fired = {r.event.timer: r.at for r in log if isinstance(r.event, events.TimerFired)}
    found = {}
    for version, at, event in log:
        if isinstance(event, events.TimerSet):
            status = "fired" if event.timer in fired else "abandoned" if ended else "set"
            status = "void" if version in void else status
            found[event.timer] = (status, iso(at), iso(event.due), iso(fired.get(event.timer)), event.line)
    return found


def awaited_of(log, void, ended):
    """Let the signals of a name meet the waits for it, in their order."""
    waits = {}
    for version, at, event in log:
        if isinstance(event, events.SignalAwaited) and version not in void:
            waits.setdefault(event.name, []).append((event.name, iso(at), event.step or None))
    for _, _, event in log:
        if isinstance(event, events.SignalReceived) and waits.get(event.name):
            waits[event.name].pop(0)
    return [] if ended else sorted(wait for left in waits.values() for wait in left)


def replay(log):
    """Replay a history with the code that wrote it; None when the code has failed by chance in between."""
    for Chance.code_fails in (False, True):
        machine = FlowMachine("replay", Anything.follow)
        try:
            machine.replay(log)
        except NondeterminismError:
            machine.close()
        else:
            return machine
    return None


def pending(machine):
    """Tell what a replayed flow is at: steps that run, steps that wait, sleeps, and waits for signals."""
    execution = machine._execution
    runs = execution.steps.values()
    mailboxes = execution.signals
    waits = [
        (name, wait.number or None)
        for name, waiting in mailboxes._waits.items()
        for wait in list(waiting)[len(mailboxes._early.get(name, ())) :]
    ]
    return (
        {run.number for run in runs if run.phase is StepPhase.RUNNING},
        {run.number for run in runs if run.phase is StepPhase.SCHEDULED},
        set(execution.timers),
        sorted(waits, key=str),
    )
