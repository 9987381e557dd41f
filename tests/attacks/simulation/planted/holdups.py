"""Scenarios of the watchdog and of the black box, in virtual time: code that blocks, and code that kills.

Each is a function of its seed, and says what is wrong, if anything is.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from persistasaurus import Flow, PersistasaurusError, flow, query, step, wait_for
from persistasaurus.actors.runtime.primitives import Lock
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import Append
from system.doubles import share_black_box

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LONG_S = 300.0
_DEATHS_MAX = 8
"""Who has killed so often is let off: nobody has found out."""


class Wrong(Exception):
    """What a scenario has found."""


def must(condition: object, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


# ------------------------------------------------------------------------------------------- blocking
class Holds(Flow):
    wait: Any = None
    worked: int = 0

    @flow(name="holds")
    async def main(self, seconds: float) -> int:
        done = await self.work(1)
        Holds.wait(seconds)
        return done

    @flow(name="quick")
    async def quick(self, n: int) -> int:
        return await self.work(n)

    @flow(name="works")
    async def works(self, n: int) -> int:
        return await self.work(n) + await wait_for("n", int)

    @step
    def work(self, n: int) -> int:
        Holds.worked += 1
        return n

    @query
    def look(self) -> None:
        Holds.wait(_LONG_S)


class _Log(logging.Handler):
    """What was logged, and when."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__(logging.WARNING)
        self._simulation = simulation
        self.found: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append((self._simulation.clock.elapsed(), record.getMessage()))

    def says(self, *words: str, until: float) -> bool:
        return any(at <= until and all(word in text for word in words) for at, text in self.found)


@contextmanager
def _logged(simulation: Simulation) -> Iterator[_Log]:
    log, logger = _Log(simulation), logging.getLogger("persistasaurus")
    logger.addHandler(log)
    try:
        yield log
    finally:
        logger.removeHandler(log)


def a_body_blocks(seed: int) -> None:
    """Judge: others go on, the log has flow and line soon, and the flow is parked with what was done."""
    with Simulation([Holds], seed=seed) as simulation, _logged(simulation) as log:
        Holds.worked, ends = 0, _ends_in(simulation)
        Holds.wait = _waiting_in(simulation)
        simulation.system._start(Holds.main, (_LONG_S,), {}, "culprit")
        for number in range(4):
            simulation.system._start(Holds.quick, (number,), {}, f"good {number}")
        simulation.run_until_idle()
        for number in range(4):
            must(ends.get(f"good {number} completed", _LONG_S) < 1.0, f"good {number} has waited")
        must(log.says("'culprit' has held", "in main()", until=2.0), "nobody is told who blocks, and where")
        must(5.0 <= ends.get("culprit parked", _LONG_S) < 6.0, "who blocks is not parked in time")
        culprit = simulation.system.flow("culprit")
        must("step_completed" in _kinds(culprit), "a step's outcome was lost with the thread")
        Holds.wait = float
        culprit.retry()
        must(culprit.result() == 1, "a flow that was parked does not go on when it is retried")
        must(Holds.worked == 5, f"there are 5 steps, and {Holds.worked} ran")


def a_body_blocks_for_short(seed: int) -> None:
    """Judge: one that comes back in time is named, and not parked."""
    with Simulation([Holds], seed=seed) as simulation, _logged(simulation) as log:
        Holds.wait = _waiting_in(simulation)
        slow = simulation.system.start(Holds.main, 4.0, flow_id="slow")
        simulation.run_until_idle()
        must(log.says("'slow' has held", until=2.0), "nobody is told who blocks for a while")
        must(slow.status == "completed", f"one that has come back is {slow.status}")


def a_query_blocks(seed: int) -> None:
    """Judge: whoever has asked hears that it was given up, and the flow goes on."""
    with Simulation([Holds], seed=seed) as simulation:
        Holds.wait = _waiting_in(simulation)
        handle = simulation.system.start(Holds.works, 1, flow_id="asked")
        answered = True
        try:
            handle.query(Holds.look)
        except PersistasaurusError:
            answered = False
        must(not answered, "a query that blocks was waited for")
        handle.signal("n", 1, signal_id="n")
        simulation.run_until_idle()
        must(handle.status == "completed", f"a flow is {handle.status} when a query of it blocks")


def _waiting_in(simulation: Simulation) -> Callable[[float], object]:
    never = Lock()
    never.acquire()
    return lambda seconds: simulation.schedule.wait(never, seconds)


def _ends_in(simulation: Simulation) -> dict[str, float]:
    ends: dict[str, float] = {}

    def note(writes: Any, _: Any) -> None:
        for write in writes:
            status = getattr(write.header, "status", None) if isinstance(write, Append) else None
            if status in ("completed", "parked"):
                ends[f"{write.stream} {status}"] = simulation.clock.elapsed()

    simulation.on_commit.append(note)
    return ends


def _kinds(handle: Any) -> list[str]:
    return [type(e.event).__struct_config__.tag for e in handle.events()]


# -------------------------------------------------------------------------------------------- killing
class Kills(Flow):
    kill: Any = None
    """Called where the process may die."""

    @flow(name="kills")
    async def main(self, stages: int) -> str:
        for number in range(stages):
            await wait_for("go", int)
            Kills.kill(number)
        return "alive"

    @flow(name="kills in a step")
    async def in_a_step(self) -> str:
        return await self.work()

    @step
    def work(self) -> str:
        Kills.kill(0)
        return "alive"


@contextmanager
def _mortal(seed: int, kill: Callable[[Simulation, int], None]) -> Iterator[Simulation]:
    with Simulation([Kills, Holds], seed=seed) as simulation:
        share_black_box(simulation)
        Kills.kill = lambda stage: kill(simulation, stage) if simulation.crashes < _DEATHS_MAX else None
        yield simulation


def _is_told_to_end(simulation: Simulation) -> None:
    simulation.system._box.end()
    simulation.kill()


def a_body_kills(seed: int) -> None:
    """Judge: it is found out at the third death, and nobody else is blamed."""
    with _mortal(seed, lambda simulation, _: simulation.kill()) as simulation:
        named: set[str] = set()
        simulation.on_boot.append(lambda system: named.update(system._box.past.running))
        for number in range(4):
            simulation.insist(lambda s, n=number: s.start(Holds.works, n, flow_id=f"good {n}"))
        simulation.insist(lambda s: s.start(Kills.main, 1, flow_id="culprit"))
        simulation.insist(lambda s: s.flow("culprit").signal("go", 1, signal_id="go"))
        simulation.run_until_idle()
        must(simulation.insist(lambda s: s.flow("culprit").status) == "parked", "nobody finds out who kills")
        must(simulation.crashes == 3, f"it takes {simulation.crashes} deaths to find out")
        must(named == {"culprit"}, f"{named} are said to have run when the process died")
        for number in range(4):
            simulation.insist(lambda s, n=number: s.flow(f"good {n}").signal("n", n, signal_id="n"))
            simulation.run_until_idle()
            status = simulation.insist(lambda s, n=number: s.flow(f"good {n}").status)
            must(status == "completed", f"an innocent flow is {status}")


def a_flow_comes_on_between_deaths(seed: int) -> None:
    """Judge: whoever has come on since the last death is not to blame for that."""
    died: set[int] = set()

    def once(simulation: Simulation, stage: int) -> None:
        if stage not in died:
            died.add(stage)
            simulation.kill()

    with _mortal(seed, once) as simulation:
        simulation.insist(lambda s: s.start(Kills.main, 5, flow_id="unlucky"))
        for number in range(5):
            simulation.insist(lambda s, n=number: s.flow("unlucky").signal("go", n, signal_id=f"go {n}"))
            simulation.run_until_idle()
        status = simulation.insist(lambda s: s.flow("unlucky").status)
        must(status == "completed", f"a flow that has come on is {status}")


def the_process_is_told_to_end(seed: int) -> None:
    """Judge: what runs at an orderly end is not to blame for it, be it a body or a step."""

    def ends(simulation: Simulation, _: int) -> None:
        if simulation.crashes < _DEATHS_MAX - 2:
            _is_told_to_end(simulation)

    with _mortal(seed, ends) as simulation:
        simulation.insist(lambda s: s.start(Kills.main, 1, flow_id="body"))
        simulation.insist(lambda s: s.flow("body").signal("go", 1, signal_id="go"))
        simulation.run_until_idle()
        status = simulation.insist(lambda s: s.flow("body").status)
        must(status == "completed", f"a flow that ran at an orderly end is {status}")
    with _mortal(seed, ends) as simulation:
        simulation.insist(lambda s: s.start(Kills.in_a_step, flow_id="step"))
        simulation.run_until_idle()
        status = simulation.insist(lambda s: s.flow("step").status)
        must(status == "completed", f"a flow whose step ran at an orderly end is {status}")


SCENARIOS: tuple[Callable[[int], None], ...] = (
    a_body_blocks,
    a_body_blocks_for_short,
    a_query_blocks,
    a_body_kills,
    a_flow_comes_on_between_deaths,
    the_process_is_told_to_end,
)


def played(scenario: Callable[[int], None], seed: int) -> str | None:
    """Play a scenario; tell what is wrong."""
    try:
        scenario(seed)
    except (Wrong, PersistasaurusError, AssertionError) as wrong:
        return f"{type(wrong).__name__}: {wrong}"
    return None
