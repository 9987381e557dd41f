"""Drives the pure machine of one flow by hand: one input at a time. No threads, no store, no real time.

kit = FlowTestKit(SignupFlow.sign_up, "ada", "ada@example.com")
kit.step_succeeds(1234)                     # what the running step has returned
assert kit.advance(seconds=10).kinds == ["step_attempted"]
kit.step_succeeds(None)
kit.restart()                               # rebuilt from its events, as by another process
kit.signal(SignupFlow.confirm_email_address, datetime.now(UTC))
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, cast

import msgspec

from ...flows import FlowMachine, Limits, events
from ...flows.errors import SignalNotFound
from ...flows.machine import messages
from ...flows.machine.effects import Decision, Reconcile, RunAlone, RunStep, Warn
from ...flows.machine.failure import failure_of
from ...flows.machine.history import Recorded
from ..flows.client import from_microseconds
from ..runtime.primitives import ManualClock
from .doubles import step_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Unpack

    from ...flows import FlowCall, SignalCall
    from ...flows.machine.pending import StepRun

__all__ = ["Decided", "Effect", "FlowTestKit"]

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Effect(msgspec.Struct, frozen=True):
    """What is to be done once the events are durable.

    `kind` is one of run (an attempt of a step), reconcile, ask_turn (of a step that may have killed the
    process) and warn.
    """

    kind: str
    step: int = 0
    name: str = ""
    attempt: int = 0
    args: dict[str, Any] = {}
    text: str = ""


class Decided(msgspec.Struct, frozen=True):
    """The flow's decision about one input: the events to record, and the effects that follow."""

    events: tuple[events.AnyEvent, ...]
    effects: tuple[Effect, ...]

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events."""
        return [events.kind(event) for event in self.events]

    def __repr__(self) -> str:
        lines = [f"  {events.kind(event)} {_body(event)}" for event in self.events]
        lines += [f"  → {_in_words(effect)}" for effect in self.effects]
        return "\n".join(["Decided:", *lines]) if lines else "Decided: nothing"


class FlowTestKit(Generic[R]):
    """Drives the machine of one flow. Every event is encoded and decoded, as in a store.

    Raises:
        TypeError, PayloadError: the arguments do not fit the flow.
    """

    def __init__(self, flow: Callable[[Unpack[Ts]], FlowCall[R]], /, *args: *Ts, seed: int = 0) -> None:
        call = flow(*args)
        self.definition = call.definition
        self.flow_id = "flow"
        self.history: list[Recorded] = []
        """All events so far, with their versions and instants."""
        self._clock = ManualClock()
        self._entries = 0
        self._running: dict[int, tuple[StepRun, int]] = {}
        self._reconciling: dict[int, StepRun] = {}
        self._machine = self._new_machine()
        self.decided = self._handle(messages.StartRequested(call.data, seed))
        """What the last input has brought."""

    # --------------------------------------------------------------------------------- how it stands
    @property
    def status(self) -> str:
        """One of running, waiting, paused, parked, completed, failed."""
        return self._machine.status

    @property
    def now(self) -> datetime:
        """The virtual time, UTC."""
        return from_microseconds(self._clock.now())

    @property
    def result(self) -> R:
        """What the flow has returned.

        Raises:
            AssertionError: it has not.
        """
        ended = self._machine.ended
        assert isinstance(ended, events.FlowCompleted), f"the flow is {self.status}: {ended}"
        return self.definition.result.decode(ended.result)

    @property
    def running(self) -> list[Effect]:
        """The running steps; each needs an outcome."""
        return [_run(run, attempt) for run, attempt in self._running.values()]

    # ---------------------------------------------------------------------------------------- inputs
    def step_succeeds(self, result: Any = None, *, step: Any = None) -> Decided:
        """Let a step return; `step` says which one when several run: as on its class, or its number.

        Raises:
            PayloadError: the result does not fit the step's annotation.
        """
        run, attempt = self._chosen(step)
        data, value = run.step.result.seal(result)
        del self._running[run.number]
        return self._handle(messages.StepSucceeded(run.number, attempt, data, value))

    def step_fails(self, error: Exception, *, step: Any = None) -> Decided:
        """Let a step raise."""
        run, attempt = self._chosen(step)
        del self._running[run.number]
        return self._handle(messages.StepErrored(run.number, attempt, failure_of(error), error))

    def signal(self, signal: Callable[[Unpack[Ts]], SignalCall[Any]], /, *args: *Ts) -> Decided:
        """Deliver a signal.

        Raises:
            SignalNotFound: the flow can never wait for one of this name.
        """
        call = signal(*args)
        return self._arrive(call.name, call.data)

    def signal_named(self, name: str, payload: Any = None) -> Decided:
        """Deliver a signal that the flow awaits by its name; raises as `signal`."""
        return self._arrive(name, msgspec.json.encode(payload))

    def advance(self, by: timedelta | None = None, **parts: float) -> Decided:
        """Let time pass, `timedelta(days=3)` or `days=3`, from one due instant to the next."""
        until = self._clock.elapsed() + ((by or timedelta()) + timedelta(**parts)).total_seconds()
        decided = Decided((), ())
        while (alarm := self._machine.alarm) is not None and alarm.instant(self._moment()) <= until:
            self._clock.advance(max(0.0, alarm.instant(self._moment()) - self._clock.elapsed()))
            more = self._handle(messages.Tick())
            decided = Decided(decided.events + more.events, decided.effects + more.effects)
        self._clock.advance(max(0.0, until - self._clock.elapsed()))
        self.decided = decided
        return decided

    def pause(self, *, by: str = "", why: str = "") -> Decided:
        """Pause the flow: it starts no more steps."""
        return self._handle(messages.PauseRequested(by, why))

    def resume(self, *, by: str = "", why: str = "") -> Decided:
        """Resume the flow."""
        return self._handle(messages.ResumeRequested(by, why))

    def turn(self, step: int) -> Decided:
        """Let a step run that is suspected of killing the process."""
        return self._handle(messages.MayRunAlone(step))

    def reconciled(self, result: Any = None, *, happened: bool) -> Decided:
        """Deliver the finding of the `reconcile` function that one step waits for."""
        number, run = self._reconciling.popitem()
        data = run.step.result.seal(result)[0] if happened else None
        return self._handle(messages.Reconciled(number, data))

    def restart(self) -> Decided:
        """Rebuild the flow from its events, as another process does; running steps are then in doubt.

        Raises:
            NondeterminismError: its code does not repeat what is recorded.
        """
        self._replace()
        self._machine.replay(self.history)
        return self._take(self._machine.recovered(self._moment()))

    def retry(self, *, by: str = "", why: str = "") -> Decided:
        """Continue a failed or parked flow; raises as `FlowHandle.retry`."""
        self._replace()
        return self._take(self._machine.repair(self.history, by, why, self._moment()))

    def close(self) -> None:
        """End the flow's code where it waits."""
        self._machine.close()

    # ---------------------------------------------------------------------------------------- inside
    def _new_machine(self) -> FlowMachine:
        return FlowMachine(self.flow_id, self.definition, Limits())

    def _replace(self) -> None:
        self._machine.close()
        self._running, self._reconciling = {}, {}
        self._machine = self._new_machine()

    def _moment(self) -> messages.Timestamp:
        return messages.Timestamp(self._clock.now(), self._clock.elapsed())

    def _arrive(self, name: str, data: bytes) -> Decided:
        if not self.definition.takes_signal(name):
            raise SignalNotFound(self.flow_id, name, self.definition.signal_names)
        self._entries += 1
        return self._handle(messages.SignalArrived(self._entries, name, f"signal-{self._entries}", data))

    def _handle(self, message: messages.Message) -> Decided:
        return self._take(self._machine.handle(message, self._moment()))

    def _take(self, decision: Decision) -> Decided:
        stored = tuple(events.decode(events.encode(event)) for event in decision.events)
        for event in stored:
            self.history.append(Recorded(len(self.history) + 1, self._machine.at, event))
        self.decided = Decided(stored, tuple(self._effect(effect) for effect in decision.effects))
        return self.decided

    def _effect(self, effect: RunStep | RunAlone | Reconcile | Warn) -> Effect:
        match effect:
            case RunStep(run, attempt):
                self._running[run.number] = (run, attempt)
                return _run(run, attempt)
            case Reconcile(run):
                self._reconciling[run.number] = run
                return Effect("reconcile", run.number, run.step.name, run.attempt)
            case RunAlone(step):
                return Effect("ask_turn", step)
            case Warn(text):
                return Effect("warn", text=text)

    def _chosen(self, step: Any) -> tuple[StepRun, int]:
        chosen = list(self._running.values())
        if isinstance(step, int):
            chosen = [pair for pair in chosen if pair[0].number == step]
        elif step is not None:
            wanted = step_of(step)
            chosen = [pair for pair in chosen if pair[0].step is wanted]
        if len(chosen) != 1:
            running = ", ".join(f"{n} {run.step.name!r}" for n, (run, _) in self._running.items()) or "none"
            raise AssertionError(f"which step is meant? Those that run are: {running}")
        return chosen[0]

    def __repr__(self) -> str:
        return f"<FlowTestKit of {self.definition!r}, {self.status}, {len(self.history)} events>"


def _run(run: StepRun, attempt: int) -> Effect:
    return Effect("run", run.number, run.step.name, attempt, msgspec.structs.asdict(run.arguments()))


def _body(event: events.AnyEvent) -> str:
    body = cast("dict[str, Any]", msgspec.json.decode(events.encode(event)))
    return " ".join(f"{name}={value!r}" for name, value in body.items() if name != "type")


def _in_words(effect: Effect) -> str:
    if effect.kind == "warn":
        return f"warn: {effect.text}"
    text = f"{effect.kind} step {effect.step} {effect.name!r}"
    values = ", ".join(f"{name}={value!r}" for name, value in effect.args.items())
    return f"{text}, attempt {effect.attempt}({values})" if effect.kind == "run" else text
