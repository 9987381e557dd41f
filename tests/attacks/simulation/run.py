"""A run: a scenario, played by its clients through all disturbance, and judged at each turn."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from persistasaurus.actors.runtime.serial import DeadlockError
from persistasaurus.actors.testing.schedule import PROMPT, ProcessDied
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import Durability, SqliteStore
from simulation.clients import Client, Post, Script, Tend
from simulation.disturbance import CALM, Disturbance, FailingStore
from simulation.ledger import Ledger
from simulation.oracles import judge
from simulation.outside import renew
from simulation.reference_flows import Account
from simulation.requests import MemoryRequests, seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from persistasaurus import FlowSystem
    from persistasaurus.actors.runtime.primitives import ManualClock
    from persistasaurus.actors.testing.mortal import Death
    from persistasaurus.actors.testing.schedule import Pace
    from persistasaurus.store import EventStore
    from simulation.disturbance import Plan

PATIENCE_S = 3600.0
"""So much virtual time has everything to end, once nothing goes wrong any more."""
DISTURBED_S = 600.0
TURNS_MAX = 60_000


class Scenario(NamedTuple):
    """Flows, clients, and what has to come of it."""

    name: str
    flows: list[Any]
    scripts: tuple[Script, ...]
    results: Mapping[str, Any]
    """What each flow returns, by its id; a function of the result tells whether it is right."""
    accounts: Mapping[str, int] = {}
    """The balance of each event-sourced actor."""
    effects: Mapping[str, int] = {}
    """How often each effect happens when nothing goes wrong, where that is certain."""


class Violation(AssertionError):
    """Something that must not be."""


class Alarm(logging.Handler):
    """Hears what the engine says about itself when it is in trouble: its own errors are violations."""

    _KNOWN = ("The store is halted", "Nothing runs any more", "Flow %r is parked")

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        if not record.msg.startswith(self._KNOWN):
            error = record.exc_info[1] if record.exc_info else None
            self._hear(f"the engine says: {record.getMessage()}" + (f" ({error!r})" if error else ""))


class Run:
    """One scenario under one seed."""

    def __init__(  # noqa: PLR0913 - settings, all by name
        self,
        scenario: Scenario,
        seed: int,
        *,
        plan: Plan = CALM,
        pace: Pace = PROMPT,
        deaths: Sequence[Death] = (),
        store: Callable[[Run, ManualClock], EventStore] | None = None,
        **options: Any,
    ) -> None:
        self.scenario = scenario
        self.found: list[str] = []
        self._open = store or Run._open_memory
        self._memory: SqliteStore | None = None
        self.simulation = Simulation(
            scenario.flows,
            seed=seed,
            pace=pace,
            deaths=deaths,
            store=lambda clock: self._open(self, clock),
            actors=[Account],
            **options,
        )
        self.ledger = Ledger(self.simulation.clock, self.must)
        self.outside = renew(self.ledger.touched)
        self.disturbance = Disturbance(self, plan, seed)
        self.clients = [Client(self, script) for script in self._scripts()]
        self.requests = MemoryRequests(self)
        self._is_posted_to = any(isinstance(o, Post) for script in scenario.scripts for o in script.orders)
        self.turns = 0
        self.stops = 0
        self.is_calm = plan == CALM and not deaths and store is None
        self.simulation.on_boot.append(self._revive)
        self.simulation.before_turn = self.disturbance.strike
        self._restart: bool | None = None

    def _scripts(self) -> list[Script]:
        tend = Script((Tend(self.scenario.results),))
        return [*self.scenario.scripts, tend] if self.scenario.results else list(self.scenario.scripts)

    def _open_memory(self, clock: ManualClock) -> EventStore:
        if self._memory is None:
            self._memory = SqliteStore.open(
                ":memory:", now=clock.now, durability=Durability.MAY_LOSE_LAST_COMMITS
            )
        else:
            self._memory.reopen()
        self.ledger.compare(self._memory)
        return self.failing(self._memory)

    def failing(self, store: EventStore) -> Any:
        """Put the ledger, and the disturbance, in front of a store."""
        return FailingStore(store, self)

    # --------------------------------------------------------------------------------------- playing
    def play(self) -> None:
        """Play it to its end, and judge it.

        Raises:
            Violation: something is not as it has to be.
        """
        logger = logging.getLogger("persistasaurus")
        alarm, before = Alarm(self.found.append), (logger.propagate, logger.level)
        logger.addHandler(alarm)
        logger.propagate = False
        logger.setLevel(logging.ERROR)
        try:
            with seldom():
                self._play()
            judge(self)
            self.check()
        finally:
            self._close()
            logger.removeHandler(alarm)
            logger.propagate = before[0]
            logger.setLevel(before[1])

    def _close(self) -> None:
        self.simulation.crash()
        self.simulation.close()
        if self._memory is not None:
            self._memory.close()

    def _play(self) -> None:
        ceased_at: float | None = None
        while not all(client.is_done for client in self.clients):
            self._step()
            self.check()
            now = self.simulation.clock.elapsed()
            if ceased_at is None and (now > DISTURBED_S or self.turns > TURNS_MAX // 4):
                self.disturbance.cease()
                ceased_at = now
            if now > PATIENCE_S + (ceased_at or 0.0) or self.turns > TURNS_MAX:
                self.found.append(f"it does not end: {self.stand()}")
        self._settle()

    def _settle(self) -> None:
        """Let everybody come to rest."""
        self.disturbance.cease()
        before = self.simulation.clock.elapsed()
        while self.simulation.clock.elapsed() < before + 1.0:
            self._step()
            self.check()

    def _step(self) -> None:
        """Let one turn, or some time, go by; a process that has died of it is followed by the next."""
        simulation = self.simulation
        try:
            _ = simulation.system
            self.turns += 1
            if not simulation.schedule.run_one():
                self._pass_time()
        except ProcessDied:
            simulation.bury()
        except DeadlockError as error:
            self.found.append(f"{error}: {self.stand()}")
        if self._restart is not None:
            orderly, self._restart = self._restart, None
            if orderly:
                self.stops += 1
                simulation.stop()
            else:
                simulation.crash()

    def _pass_time(self) -> None:
        clock = self.simulation.clock
        instant = clock.next_instant()
        if instant is None:
            self.found.append(f"nobody has anything to do any more: {self.stand()}")
        else:
            clock.advance(max(0.0, instant - clock.elapsed()))

    def _revive(self, system: FlowSystem) -> None:
        if self._is_posted_to:
            self.requests.serve(system)
        self.ledger.born()
        for client in self.clients:
            client.revive()

    def engage(self, script: Script) -> None:
        """Have one more client, from now on."""
        client = Client(self, script)
        self.clients.append(client)
        client.revive()

    def restart(self, *, orderly: bool) -> None:
        """Have another process follow this one, after the turn that is under way."""
        self.is_calm = False
        self._restart = orderly

    # --------------------------------------------------------------------------------------- judging
    def must(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - as in assert
        """Take note of what must hold, and does not. It may be called from within the engine."""
        if not holds:
            self.found.append(otherwise)

    def check(self) -> None:
        """Stop at what was found.

        Raises:
            Violation: something was found.
        """
        if self.found:
            raise Violation(f"{self.scenario.name}: " + "; ".join(self.found[:3]))

    def stand(self) -> str:
        """Tell how things stand."""
        kinds = {
            stream: [kind for kind, _ in known.records[-4:]] for stream, known in self.ledger.streams.items()
        }
        waiting = [str(client) for client in self.clients if not client.is_done]
        return f"{self.turns} turns, {self.simulation.clock.elapsed():g} s; clients: {waiting}; {kinds}"
