"""The simulated world in which a test of flows runs."""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, TypeVarTuple, cast, overload

from ...flows import FlowCall, events
from ...flows.authoring.signal import SignalType
from ...flows.description import describe
from ...flows.errors import NondeterminismError
from ...flows.summary import summary_of
from ...store import Append
from ..flows.client import from_microseconds
from ..flows.replay import Diverges, rebuild, recorded
from ..persistence.persistent_actor import ACTOR_STATUS
from .doubles import StepDouble, step_of
from .handle import SimulatedHandle
from .schedule import PROMPT
from .simulation import Simulation
from .state import first_difference, live_machine
from .steps import perform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import Self, Unpack

    from ...flows import Flow, FlowDefinition, SignalCall, Step, StepCall
    from ...flows.summary import FlowSummary
    from ...store.contract import Outcome, Write
    from ..steps.task import StepTask
    from ..system import FlowSystem
    from .mortal import Death
    from .schedule import Pace

__all__ = ["EndState", "Stuck", "VirtualClock", "World"]

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

_MICROSECONDS = 1_000_000
_DIFFERS = "always_replay: the flow's code did something else when it was replayed at once:"
_KEEPS_OTHER = "always_replay: what the flow's code keeps is not the same when it is rebuilt from its log:"
_CAUSES = (
    "Use steps for time, randomness and global state, or now(), random() and uuid4(). What the"
    " body of a flow changes outside of itself is changed by each replay."
)
_CHANGED = "What a step or a query changes in the flow is not repeated by any."
_WAKES_MAX = 10_000
_ENDED = ("completed", "failed", "parked")


class Stuck(AssertionError):
    """A flow waits for something that will never happen by itself; the message says for what, and where."""


class EndState(NamedTuple):
    """A flow's final state: `outcome` is its result, as JSON, or the error that it ended with."""

    status: str
    outcome: str


class VirtualClock:
    """The time of a simulated world. It passes only on demand, or while a result is awaited."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        """Return the time, UTC."""
        return from_microseconds(self._world.simulation.clock.now())

    def advance(self, by: timedelta | None = None, **parts: float) -> None:
        """Let time pass, `timedelta(days=3)` or `days=3`; everything due runs at its instant."""
        span = (by or timedelta()) + timedelta(**parts)
        self._world.pass_time(span.total_seconds())

    def run_until_idle(self) -> None:
        """Run everything that can run without time passing."""
        self._world.settle()

    def jump(self, by: timedelta | None = None, **parts: float) -> None:
        """Set the calendar forward or back, as an operator does. No time passes."""
        span = (by or timedelta()) + timedelta(**parts)
        self._world.jump(span.total_seconds())


class World:
    """Flows, one store in memory, virtual time, and processes that may die, all on the test's own thread.

    A call that a process dies of is repeated on the next process, as any client would.

    Args:
        seed: the source of random numbers and of the order of turns.
        always_replay: rebuild each flow from its log after each commit, which finds code at once that does
        not
            repeat what is recorded, or holds something else afterwards.
        deaths: the commits at which the process dies.
        pace: how turns are spread over time.
        options: more arguments for `FlowSystem`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        always_replay: bool = False,
        deaths: Sequence[Death] = (),
        pace: Pace = PROMPT,
        **options: Any,
    ) -> None:
        self.simulation = Simulation([], seed=seed, deaths=deaths, pace=pace, **options)
        self.clock = VirtualClock(self)
        self.has_died_of_the_last_call = False
        self._seed = seed
        self._always_replay = always_replay
        self._doubles: dict[Step[..., Any], StepDouble[Any]] = {}
        self._answers: dict[str, Callable[[], Any]] = {}
        self._unanswered: list[tuple[str, str, int]] = []
        self._postponed: list[tuple[str, str, int]] = []
        self._touched: dict[str, None] = {}
        self._sent: set[tuple[str, str]] = set()
        self._starting = ""
        self._has_jumped = False
        self._ids = 0
        self.simulation.perform = self._perform
        self.simulation.new_seed = self._new_seed
        self.simulation.on_commit.append(self._look_at)
        if always_replay:
            self.simulation.before_turn = self._check_touched

    @property
    def system(self) -> FlowSystem:
        """The flow system of the current process. A direct call on it is not repeated."""
        return self.simulation.system

    # ------------------------------------------------------------------------------------- driving
    def register(self, *flows: type[Flow] | FlowDefinition[..., Any]) -> None:
        """Make flows known. `start` does it by itself."""
        known = self.simulation.flows
        new = [flow for flow in flows if flow not in known]
        self.simulation.flows = [*known, *new]
        for flow in new:
            self.system.client.admission.registry.add(flow)

    @overload
    def start(
        self, flow: Callable[[Unpack[Ts]], FlowCall[R]], /, *args: *Ts, flow_id: str | None = None
    ) -> SimulatedHandle[R]: ...
    @overload
    def start(self, flow: FlowCall[R], /, *, flow_id: str | None = None) -> SimulatedHandle[R]: ...
    @overload
    def start(
        self, flow: Callable[P, FlowCall[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SimulatedHandle[R]: ...
    def start(self, flow: Any, /, *args: Any, flow_id: str | None = None, **kwargs: Any) -> Any:
        """Start a flow, and run everything that can run now; raises as `FlowSystem.start`."""
        definition: FlowDefinition[..., Any] = getattr(flow, "definition", flow)
        owner = cast("type[Flow] | None", getattr(definition, "owner", None))
        self.register(definition if owner is None else owner)
        chosen = self._starting = self.new_id() if flow_id is None else flow_id
        self.call(lambda: self.system.start(flow, *args, flow_id=chosen, **kwargs))
        handle: SimulatedHandle[Any] = SimulatedHandle(self, chosen, definition.name)
        return handle

    @overload
    def run(
        self, flow: Callable[[Unpack[Ts]], FlowCall[R]], /, *args: *Ts, flow_id: str | None = None
    ) -> R: ...
    @overload
    def run(self, flow: FlowCall[R], /, *, flow_id: str | None = None) -> R: ...
    @overload
    def run(self, flow: Callable[P, FlowCall[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, flow: Any, /, *args: Any, flow_id: str | None = None, **kwargs: Any) -> Any:
        """Start a flow, and let time pass until it has ended; raises as `start` and `result`."""
        return self.start(flow, *args, flow_id=flow_id, **kwargs).result()

    def flow(self, flow_id: str) -> SimulatedHandle[Any]:
        """Return the handle of any flow; raises as `FlowSystem.flow`."""
        return SimulatedHandle(self, flow_id, self.call(lambda: self.system.flow(flow_id).header().type))

    def crash(self) -> None:
        """Kill the process now. The next call starts another, which recovers everything."""
        self.simulation.crash()

    def close(self) -> None:
        """End the world."""
        self._always_replay = False
        self.simulation.crash()
        self.simulation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------- doubles
    @overload
    def double(self, step: Callable[..., StepCall[R]]) -> StepDouble[R]: ...
    @overload
    def double(self, step: SignalType[..., R]) -> StepDouble[R]: ...
    def double(self, step: Any) -> StepDouble[Any]:
        """Replace a step's work: `double(SignupFlow.send_welcome_email).raises(OSError)`.

        A signal stands for the step that its payload runs as. The same step always has the same double.

        Raises:
            TypeError: it is not a step.
        """
        target = step_of(step)
        return self._doubles.setdefault(target, StepDouble(target))

    @overload
    def answer(self, signal: Callable[[Unpack[Ts]], SignalCall[Any]], /, *args: *Ts) -> None: ...
    @overload
    def answer(self, signal: str, payload: Any = None, /) -> None: ...
    def answer(self, signal: Any, /, *args: Any) -> None:
        """Send a signal to each flow that waits for it, now or later, each time that it does.

        Raises:
            PayloadError, TypeError: the values do not fit the signal.
        """
        if isinstance(signal, SignalType):
            declared = cast("SignalType[..., Any]", signal)
            declared(*args)
            self._answers[declared.name] = lambda: (declared, *args)
        else:
            self._answers[signal] = lambda: (signal, *args)
        if self._unanswered:
            self.settle()

    # ---------------------------------------------------------------------------- for the handles
    def call(self, call: Callable[[], R]) -> R:
        """Make a call that may be repeated; before and after it, everything runs that can run now."""
        self.settle()
        crashes = self.simulation.crashes
        answer = self.simulation.insist(lambda _: call())
        self.has_died_of_the_last_call = self.simulation.crashes > crashes
        self.settle()
        return answer

    def new_id(self) -> str:
        """Make an id; the same in each run of a test."""
        self._ids += 1
        return f"id-{self._ids}"

    def sends_first(self, flow_id: str, signal_id: str) -> bool:
        """Whether this test sends this signal for the first time; each is reported once."""
        is_first = (flow_id, signal_id) not in self._sent
        self._sent.add((flow_id, signal_id))
        return is_first

    def settle(self) -> None:
        """Run everything that can run now, and send the answers that flows wait for."""
        self.simulation.run_until_idle()
        self._check_touched()
        while known := next((entry for entry in self._unanswered if entry[1] in self._answers), None):
            self._unanswered.remove(known)
            self._answer(*known)
            self.simulation.run_until_idle()
            self._check_touched()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, from one due instant to the next."""
        clock = self.simulation.clock
        until = clock.elapsed() + seconds
        self.settle()
        while (instant := self._next_instant()) is not None and instant <= until:
            self._move_to(instant)
        self._move_to(until)

    def jump(self, seconds: float) -> None:
        """Set the calendar, and run everything that can run then."""
        self._has_jumped = True
        self.simulation.clock.jump_wall(seconds)
        self.settle()

    def pass_time_until_ended(self, flow_id: str, timeout: float | None) -> None:
        """Let time pass until a flow has ended.

        Raises:
            Stuck: nothing more will happen by itself.
            TimeoutError: it has not ended in time.
        """
        __tracebackhide__ = True
        clock = self.simulation.clock
        deadline = None if timeout is None else clock.elapsed() + timeout
        for _ in range(_WAKES_MAX):
            if self.flow(flow_id).header().status in _ENDED:
                return
            instant = self._next_instant()
            if deadline is not None and (instant is None or instant > deadline):
                self._move_to(deadline)
                raise TimeoutError(f"flow {flow_id!r} has not ended within {timeout} s (virtual)")
            if instant is None:
                raise Stuck(self._why_stuck(flow_id))
            self._move_to(instant)
        raise Stuck(f"{self._why_stuck(flow_id)}\nSomething was due {_WAKES_MAX} times, and it has not ended")

    def _next_instant(self) -> float | None:
        """Return when something will happen next, skipping the engine's own polling."""
        clock = self.simulation.clock
        instant = clock.next_instant()
        if instant is None or self.simulation.executor.running():
            return instant
        wake = self.system.store.next_wake_at()
        if wake is None or self._has_jumped:
            return None if wake is None else instant
        return max(instant, clock.elapsed() + (wake - clock.now()) / _MICROSECONDS)

    def _move_to(self, instant: float) -> None:
        clock = self.simulation.clock
        clock.pass_over(max(0.0, instant - clock.elapsed()))
        self.simulation.advance(0.0)
        self.settle()

    # ------------------------------------------------------------------------------- what goes on
    def endings(self) -> dict[str, EndState]:
        """Return the state of each flow, once everything has run that can run now."""
        headers = self.call(lambda: [h for h in self.system.flows(limit=100_000) if h.status != ACTOR_STATUS])
        return {h.stream: EndState(h.status, self._outcome(h.stream, h.status)) for h in headers}

    def _outcome(self, flow_id: str, status: str) -> str:
        if status not in _ENDED:
            return ""
        last_word = self._summary(flow_id).last_word
        if last_word is None:
            return ""
        words = describe(last_word)
        if words.error is not None:
            return f"{words.error.type}: {words.error.message}"
        return bytes(words.result or b"").decode()

    def _summary(self, flow_id: str) -> FlowSummary:
        return summary_of(recorded(self.simulation.insist(lambda system: system.store.read(flow_id))))

    def _why_stuck(self, flow_id: str) -> str:
        waits = _waits_in_words(self._summary(flow_id)) or ["nothing that its history shows"]
        lines = "\n".join(f"  - {wait}" for wait in waits)
        return (
            f"flow {flow_id!r} has not ended, and time alone will not end it. It waits for\n{lines}\n"
            "Send it what it waits for: handle.signal(...), or flows.answer(...) before it does"
        )

    def _perform(self, task: StepTask) -> Any:
        call: Any = task.call
        run = getattr(call, "step_run", None)
        double = None if run is None else self._doubles.get(run.step)
        if run is None or double is None:
            return perform(task)
        return double.run(run, call.context, call.limits, bare=task.mode == "process")

    def _new_seed(self) -> int:
        """Give a flow the same random numbers even if its start was repeated."""
        return int.from_bytes(blake2b(f"{self._seed}/{self._starting}".encode(), digest_size=8).digest())

    def _look_at(self, writes: Sequence[Write], outcomes: list[Outcome]) -> None:
        del outcomes
        for write in writes:
            if not isinstance(write, Append):
                continue
            self._touched[write.stream] = None
            for version, record in enumerate(write.records, write.expected + 1):
                if record.kind == "signal_awaited":
                    awaited = cast("events.SignalAwaited", events.decode(record.data))
                    self._unanswered.append((write.stream, awaited.name, version))
                elif record.kind == "repaired":
                    self._unanswered += [entry for entry in self._postponed if entry[0] == write.stream]
                    self._postponed = [entry for entry in self._postponed if entry[0] != write.stream]

    def _answer(self, flow_id: str, name: str, version: int) -> None:
        """Answer a wait that is still open; one of a flow that may be retried is answered after the retry."""
        waits = self._summary(flow_id).waits
        handle = self.flow(flow_id)
        status = handle.header().status
        if status in ("failed", "parked"):
            self._postponed.append((flow_id, name, version))
        if status in _ENDED or version not in [wait.version for wait in waits]:
            return
        handle.signal(*self._answers[name](), signal_id=f"answer-{version}")

    # ------------------------------------------------------------------------------- always_replay
    def _check_touched(self) -> None:
        touched, self._touched = list(self._touched), {}
        if not self._always_replay:
            return
        for flow_id in touched:
            self._check(flow_id)

    def _check(self, flow_id: str) -> None:
        store, registry = self.system.store, self.system.client.admission.registry
        header = store.header(flow_id)
        definition = None if header is None else registry.find(header.type)
        if definition is None:
            return
        history = recorded(store.read(flow_id))
        rebuilt = rebuild(definition, flow_id, history)
        if isinstance(rebuilt, Diverges):
            raise _found(rebuilt.version, _DIFFERS, rebuilt.message, _CAUSES)
        try:
            live = live_machine(self.system, flow_id)
            difference = None if live is None else first_difference(live, rebuilt)
        finally:
            rebuilt.close()
        if difference is not None:
            where = f"flow {flow_id!r} ({definition.name}), after event {len(history)}: {difference.path}"
            sides = f"  live:    {difference.live}\n  rebuilt: {difference.rebuilt}"
            raise _found(len(history), _KEEPS_OTHER, where, sides, f"{_CAUSES} {_CHANGED}")


def _waits_in_words(summary: FlowSummary) -> list[str]:
    """Describe what a flow waits for, one a line: a resume, signals, sleeps, and steps."""
    waits: list[str] = []
    if summary.paused is not None:
        event, _ = summary.paused
        by = f" by {event.by}" if event.by else ""
        waits.append(f"a resume: it was paused{by}" + (f" ({event.why})" if event.why else ""))
    waits += [f"signal {wait.name!r}, awaited{_at(wait.line)}" for wait in summary.waits]
    for sleep in summary.sleeps.values():
        until = f"{from_microseconds(sleep.due):%Y-%m-%d %H:%M:%S} UTC"
        waits.append(f"the end of a sleep, {until}{_at(sleep.line)}")
    waits += [f"step {step.number} {step.name!r}{_at(step.line)}" for step in summary.open_steps]
    return waits


def _at(line: str) -> str:
    return f" at {line}" if line else ""


def _found(version: int, *lines: str) -> NondeterminismError:
    error = NondeterminismError("\n".join(lines))
    error.version = version
    return error
