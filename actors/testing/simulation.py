"""A flow system as a function of its seed: one thread, virtual time, and death on demand.

    simulation = Simulation([SignupFlow], seed=7)
    simulation.insist(lambda system: system.start(SignupFlow.sign_up, "ada", "a@b.c", flow_id="ada"))
    simulation.crash()                                   # as by SIGKILL; what was not durable is gone
    simulation.insist(lambda system: system.flow("ada").status)

The same seed, flows and calls give the same run, in every process.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...store import Durability, SqliteStore
from ..flows.active_flow import SupervisorRules
from ..runtime.alarms import ManualAlarms
from ..runtime.environment import Environment
from ..runtime.primitives import ManualClock
from ..system import FlowSystem
from .mortal import Death, MortalStore
from .schedule import PROMPT, ProcessDied, Schedule
from .steps import SimulatedExecutor, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from ...flows import Flow, FlowDefinition
    from ...store import EventStore
    from ...store.contract import Outcome, Write
    from ..steps.task import StepTask
    from .schedule import Pace

__all__ = ["Simulation"]

T = TypeVar("T")
_DAY_S = 86_400.0


class Simulation:
    """One store, and the simulated processes that own it one after the other.

    `on_boot` is called for each process that has started, `on_commit` for each durable commit, and
    `before_turn` before each turn; it may `kill`.

    Args:
        flows: as for `FlowSystem`; a later assignment takes effect with the next process.
        seed: the source of all chance, including the order of turns.
        pace: how turns are spread over time.
        store: opens the store for the next process, given the clock. By default one in memory.
        deaths: the commits at which processes die; each entry is used once.
        options: more arguments for `FlowSystem`.
    """

    def __init__(
        self,
        flows: Sequence[type[Flow] | FlowDefinition[..., Any]],
        *,
        seed: int = 0,
        pace: Pace = PROMPT,
        store: Callable[[ManualClock], EventStore] | None = None,
        deaths: Sequence[Death] = (),
        **options: Any,
    ) -> None:
        self.flows = flows
        self.clock = ManualClock()
        self.commits = 0
        self.crashes = 0
        self.perform: Callable[[StepTask], Any] = perform
        self.shortage: Callable[[], float] = float
        self.on_boot: list[Callable[[FlowSystem], None]] = []
        self.on_commit: list[Callable[[Sequence[Write], list[Outcome]], None]] = []
        self.before_turn: Callable[[], None] | None = None
        self._rng = Random(seed)  # noqa: S311 - not for secrets
        self.new_seed: Callable[[], int] = lambda: self._rng.getrandbits(64)
        self._pace = pace
        self._trace = blake2b(digest_size=16)
        self._deaths = list(deaths)
        # Days pass: no need to look into the store four times a minute.
        self._options: dict[str, Any] = {"rules": SupervisorRules(horizon_s=_DAY_S), **options}
        self._memory = _Memory()
        self._open_store = store or self._memory.open
        self._system: FlowSystem | None = None
        self._is_up = False

    # ------------------------------------------------------------------------------------ processes
    @property
    def system(self) -> FlowSystem:
        """The system of the current process; one is started if there is none."""
        return self._system if self._system is not None else self.boot()

    def boot(self) -> FlowSystem:
        """Start a process. Its system recovers what the previous one left.

        Raises:
            ProcessDied: it died while starting.
        """
        assert not self._is_up, "the previous process still exists: crash it, stop it, or bury it"
        self._alarms = alarms = ManualAlarms(self.clock)
        self.schedule = schedule = Schedule(self._rng, self.clock, alarms, self._pace, self._trace.update)
        schedule.before_turn = self._before_turn
        schedule.__enter__()
        self._is_up = True
        store = MortalStore(self._open_store(self.clock), schedule, self._strike, self._committed)
        schedule.look_alive()
        environment = Environment(
            clock=self.clock,
            alarms=alarms,
            dispatcher=schedule.dispatcher,
            new_id=lambda: f"{self._rng.getrandbits(128):032x}",
            new_seed=lambda: self.new_seed(),  # noqa: PLW0108 - it may be set later
        )
        self.executor = SimulatedExecutor(schedule, environment)
        self.executor.perform = lambda task: self.perform(task)  # noqa: PLW0108 - it may be set later
        self.executor.shortage = lambda: self.shortage()  # noqa: PLW0108 - as above
        self._system = system = FlowSystem(
            store=cast("EventStore", store),
            flows=self.flows,
            environment=environment,
            executor=cast("Any", self.executor),
            **self._options,
        )
        for listener in self.on_boot:
            listener(system)
        return system

    def kill(self) -> None:
        """Kill the process now, even within its own turn: nothing of it acts any more.

        Whatever runs its turns gets `ProcessDied`, and calls `bury`.
        """
        if self._is_up:
            self.schedule.die()

    def crash(self) -> None:
        """Kill the process now, and bury it. What is durable is there for the next one."""
        if self._is_up:
            self.kill()
            self.bury()

    def bury(self) -> None:
        """Forget a process that has died."""
        if self._is_up:
            self.crashes += 1
            self._forget()

    def stop(self) -> None:
        """Close the process's system, if there is one; the next call starts another."""
        if self._system is not None:
            try:
                self._system.close()
            except ProcessDied:
                self.bury()
            else:
                self._forget()

    def close(self) -> None:
        """Close the process's system, and forget the store."""
        try:
            self.stop()
        finally:
            if self._is_up:
                self._forget()
            self._memory.close()

    def _forget(self) -> None:
        self._is_up = False
        self._system = None
        self._alarms.close()
        self.schedule.__exit__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _before_turn(self) -> None:
        if self.before_turn is not None:
            self.before_turn()

    def _strike(self) -> Death | None:
        self.commits += 1
        for death in self._deaths:
            if death.commit == self.commits:
                self._deaths.remove(death)
                return death
        return None

    def _committed(self, writes: Sequence[Write], outcomes: list[Outcome]) -> None:
        self._trace.update(repr(writes).encode())
        for listener in self.on_commit:
            listener(writes, outcomes)

    # --------------------------------------------------------------------------------------- running
    def insist(self, call: Callable[[FlowSystem], T]) -> T:
        """Make a call, and repeat it on the next process when one dies of it.

        So the call must bear repetition, like any client's: with ids of its own.
        """
        while True:
            try:
                return call(self.system)
            except ProcessDied:
                self.bury()

    def run_until_idle(self) -> None:
        """Run everything that can run now; only the turns themselves take time."""
        self.insist(lambda _: self.schedule.run_until_idle())

    def advance(self, seconds: float) -> None:
        """Let time pass; everything due runs at its instant."""
        until = self.clock.elapsed() + seconds
        while True:
            self.run_until_idle()
            instant = self.clock.next_instant()
            if instant is None or instant > until:
                break
            self.clock.advance(max(0.0, instant - self.clock.elapsed()))
        self.clock.advance(max(0.0, until - self.clock.elapsed()))
        self.run_until_idle()

    @property
    def trace(self) -> str:
        """A digest of every choice so far; equal for equal runs."""
        return self._trace.hexdigest()


class _Memory:
    """A store in memory that outlives the simulated processes."""

    def __init__(self) -> None:
        self._store: SqliteStore | None = None

    def open(self, clock: ManualClock) -> EventStore:
        """Open it for the next owner."""
        if self._store is None:
            self._store = SqliteStore.open(
                ":memory:", now=clock.now, durability=Durability.MAY_LOSE_LAST_COMMITS
            )
        else:
            self._store.reopen()
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
