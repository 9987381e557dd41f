"""The pure machine of one flow, by hand: one input, and what it makes of it. No threads, no store, no time.

kit = FlowTestKit(SignupFlow.sign_up, "ada", "ada@example.com")
kit.step_succeeds(1234)                     # what the step that runs has returned
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

    `kind` is one of run (a step's attempt), reconcile, ask_turn (of a step that may have killed the process)
    and warn.
    """

    kind: str
    step: int = 0
    name: str = ""
    attempt: int = 0
    args: dict[str, Any] = {}
    text: str = ""


class Decided(msgspec.Struct, frozen=True):
    """What the flow has decided about one input: events to be recorded, and effects to be had after that."""

    events: tuple[events.AnyEvent, ...]
    effects: tuple[Effect, ...]

    @property
    def kinds(self) -> list[str]:
        """The events' names."""
        return [events.kind(event) for event in self.events]

    def __repr__(self) -> str:
        lines = [f"  {events.kind(event)} {_body(event)}" for event in self.events]
        lines += [f"  → {_told(effect)}" for effect in self.effects]
        return "\n".join(["Decided:", *lines]) if lines else "Decided: nothing"


class FlowTestKit(Generic[R]):
    """Drives the machine of one flow. Every event goes through its bytes, as it does in a store.

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
        self.decided = self._tell(messages.StartRequested(call.data, seed))
        """What the last input has brought."""

    # --------------------------------------------------------------------------------- how it stands
    @property
    def status(self) -> str:
        """One of running, waiting, paused, parked, completed, failed."""
        return self._machine.status

    @property
    def now(self) -> datetime:
        """The time, UTC."""
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
        """The steps that run: an outcome of each is to be told."""
        return [_run(run, attempt) for run, attempt in self._running.values()]

    # ---------------------------------------------------------------------------------------- inputs
    def step_succeeds(self, result: Any = None, *, step: Any = None) -> Decided:
        """Tell that a step has returned; `step` says which when several run: as on its class, or its number.

        Raises:
            PayloadError: it is not what the step's annotation promises.
        """
        run, attempt = self._chosen(step)
        data, value = run.step.result.seal(result)
        del self._running[run.number]
        return self._tell(messages.StepSucceeded(run.number, attempt, data, value))

    def step_fails(self, error: Exception, *, step: Any = None) -> Decided:
        """Tell that a step has raised."""
        run, attempt = self._chosen(step)
        del self._running[run.number]
        return self._tell(messages.StepErrored(run.number, attempt, failure_of(error), error))

    def signal(self, signal: Callable[[Unpack[Ts]], SignalCall[Any]], /, *args: *Ts) -> Decided:
        """Have a signal arrive.

        Raises:
            SignalNotFound: the flow can never wait for one of this name.
        """
        call = signal(*args)
        return self._arrive(call.name, call.data)

    def signal_named(self, name: str, payload: Any = None) -> Decided:
        """Have a signal arrive that the flow waits for by its name; raises as `signal`."""
        return self._arrive(name, msgspec.json.encode(payload))

    def advance(self, by: timedelta | None = None, **parts: float) -> Decided:
        """Let time go by, `timedelta(days=3)` or `days=3`, from one thing that falls due to the next."""
        until = self._clock.elapsed() + ((by or timedelta()) + timedelta(**parts)).total_seconds()
        decided = Decided((), ())
        while (alarm := self._machine.alarm) is not None and alarm.instant(self._moment()) <= until:
            self._clock.advance(max(0.0, alarm.instant(self._moment()) - self._clock.elapsed()))
            decided = _joined(decided, self._tell(messages.Tick()))
        self._clock.advance(max(0.0, until - self._clock.elapsed()))
        self.decided = decided
        return decided

    def pause(self, *, by: str = "", why: str = "") -> Decided:
        """Have the flow start nothing more."""
        return self._tell(messages.PauseRequested(by, why))

    def resume(self, *, by: str = "", why: str = "") -> Decided:
        """Have it go on."""
        return self._tell(messages.ResumeRequested(by, why))

    def turn(self, step: int) -> Decided:
        """Let a step run that is suspected of killing the process."""
        return self._tell(messages.MayRunAlone(step))

    def reconciled(self, result: Any = None, *, happened: bool) -> Decided:
        """Tell what the `reconcile` function of the one step that asks for it has found out."""
        number, run = self._reconciling.popitem()
        data = run.step.result.seal(result)[0] if happened else None
        return self._tell(messages.Reconciled(number, data))

    def restart(self) -> Decided:
        """Rebuild the flow from its events, as another process does; steps that ran are in doubt.

        Raises:
            NondeterminismError: its code does not do the same again.
        """
        self._replace()
        self._machine.replay(self.history)
        return self._take(self._machine.recovered(self._moment()))

    def retry(self, *, by: str = "", why: str = "") -> Decided:
        """Let a failed or parked flow run on; raises as `FlowHandle.retry`."""
        self._replace()
        return self._take(self._machine.repair(self.history, by, why, self._moment()))

    def close(self) -> None:
        """Drop the flow's code where it waits."""
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
        return self._tell(messages.SignalArrived(self._entries, name, f"signal-{self._entries}", data))

    def _tell(self, message: messages.Message) -> Decided:
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


def _joined(one: Decided, other: Decided) -> Decided:
    return Decided(one.events + other.events, one.effects + other.effects)


def _body(event: events.AnyEvent) -> str:
    body = cast("dict[str, Any]", msgspec.json.decode(events.encode(event)))
    return " ".join(f"{name}={value!r}" for name, value in body.items() if name != "type")


def _told(effect: Effect) -> str:
    if effect.kind == "warn":
        return f"warn: {effect.text}"
    told = f"{effect.kind} step {effect.step} {effect.name!r}"
    values = ", ".join(f"{name}={value!r}" for name, value in effect.args.items())
    return f"{told}, attempt {effect.attempt}({values})" if effect.kind == "run" else told
