"""Disturbance: what goes wrong in a run, and when. All of it comes from the run's seed, and ends in time."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from persistasaurus.store import CommitUnknown, StoreError, StoreFull, StoreHalted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from persistasaurus.store import EventStore
    from persistasaurus.store.contract import Outcome, Write
    from simulation.run import Run


class Plan(NamedTuple):
    """How much goes wrong. Chances are for each turn, or each commit."""

    crashes: int = 0
    crash: float = 0.0
    stops: int = 0
    jumps: int = 0
    jump: float = 0.01
    outages: int = 0
    outage: float = 0.03
    slow: float = 0.0

    def __str__(self) -> str:
        said = {name: value for name, value in self._asdict().items() if isinstance(value, int) and value}
        return ", ".join(f"{value} {name}" for name, value in said.items()) or "nothing"


CALM = Plan()


def plan_of(rng: Random) -> Plan:
    """Choose how much goes wrong."""
    if rng.random() < 0.15:
        return CALM
    is_hostile = rng.random() < 0.7
    return Plan(
        crashes=rng.choice((1, 1, 2, 2, 3, 5)) if is_hostile else 0,
        crash=rng.choice((0.005, 0.02, 0.05)),
        stops=rng.choice((0, 0, 0, 1)),
        jumps=rng.choice((0, 0, 1, 2)),
        outages=rng.choice((0, 0, 1, 2)) if is_hostile else rng.choice((1, 2)),
        slow=rng.choice((0.0, 0.0, 0.2)),
    )


_LATEST_S = 25 * 365 * 86400.0
_JUMPS_S = (3600.0, -3600.0, 90.0, -90.0, 10 * 365 * 86400.0, -30 * 86400.0)


class Disturbance:
    """Strikes between turns."""

    def __init__(self, run: Run, plan: Plan, seed: int) -> None:
        self._run = run
        self._rng = Random(f"disturbance {seed}")
        self.original = self.plan = plan
        self.crashes = plan.crashes
        self._stops = plan.stops
        self._jumps = plan.jumps
        self.outages = plan.outages
        self._is_close = 0
        self._off_s: float | None = None

    def strike(self) -> None:
        """Perhaps let something go wrong, before a turn."""
        if self.crashes and self._rng.random() < max(self.plan.crash, 0.2 if self._is_close else 0.0):
            self.crashes -= 1
            # Quite often the next one comes while the process is still recovering.
            self._is_close = 20 if self._rng.random() < 0.4 else 0
            self._run.simulation.kill()
        elif self._jumps and self._rng.random() < self.plan.jump:
            self._jumps -= 1
            by = self._rng.choice(_JUMPS_S)
            self._off_s = (self._off_s or 0.0) + by
            self._run.simulation.clock.jump_wall(by)
        elif self._stops and self._rng.random() < 0.005:
            self._stops -= 1
            self._run.restart(orderly=True)
        self._is_close = max(0, self._is_close - 1)

    def outage(self) -> str | None:
        """Decide whether the disk fails at this commit, and how."""
        if not self.outages or self._rng.random() >= self.plan.outage:
            return None
        self.outages -= 1
        return self._rng.choice(("full", "lost", "kept"))

    def strikes_here(self) -> bool:
        """Decide whether the process dies between two things that it does."""
        if not self.crashes or self._rng.random() >= 0.1:
            return False
        self.crashes -= 1
        return True

    def locks_here(self) -> bool:
        """Decide whether another process, which is stopped, keeps something locked."""
        if not self.outages or self._rng.random() >= 0.1:
            return False
        self.outages -= 1
        return True

    def chance(self) -> float:
        """Draw a number."""
        return self._rng.random()

    def cease(self) -> None:
        """Let nothing go wrong any more. The calendar goes on behind all dates that it has ever shown."""
        if self._off_s is not None:
            self._run.simulation.clock.jump_wall(_LATEST_S - self._off_s)
            self._off_s = None
        self.crashes = self._stops = self._jumps = self.outages = 0
        self.plan = CALM


class FailingStore:
    """A store whose disk fails for a while, and is slow; everything durable is entered in the ledger."""

    def __init__(self, inner: EventStore, run: Run) -> None:
        self._inner = inner
        self._ledger = run.ledger
        self._disturbance = run.disturbance
        self._clock = run.simulation.clock
        schedule = run.simulation.schedule
        self._is_dead = lambda: schedule.is_dead
        self._until: float | None = None
        self._is_halted = False

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Commit, or fail in one of the ways that a store may."""
        if self._is_halted:
            raise StoreHalted("halted")
        disturbance = self._disturbance
        if disturbance.plan.slow and disturbance.chance() < disturbance.plan.slow:
            self._clock.advance(disturbance.chance())
        way = disturbance.outage()
        if way is None:
            return self._write(writes)
        self._is_halted = True
        self._until = self._clock.elapsed() + disturbance.chance() * 2
        if way == "kept":
            self._write(writes)
        if way == "full":
            raise StoreFull("the disk is full")
        raise CommitUnknown("the disk has failed")

    def _write(self, writes: Sequence[Write]) -> list[Outcome]:
        self._ledger.in_flight = writes
        outcomes = self._inner.commit(writes)
        if self._is_dead():
            # Somebody else has to find out what has become of it.
            raise StoreHalted("the power has failed")
        self._ledger.in_flight = ()
        self._ledger.committed(writes, outcomes)
        return outcomes

    def reopen(self) -> None:
        """Reopen, once the disk works again."""
        if self._until is not None and self._clock.elapsed() < self._until:
            raise StoreError("the disk fails still")
        self._until = None
        self._inner.reopen()
        self._is_halted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
