"""A simulation is a function of its seed, lets no real time go by, and dies when it is told to."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, FlowFailed, Retry, SystemClosed, flow, gather, sleep, step, wait_for
from persistasaurus.actors.testing.mortal import Death
from persistasaurus.actors.testing.schedule import Pace, ProcessDied
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows import events
from persistasaurus.store import StoreFenced

if TYPE_CHECKING:
    from persistasaurus import FlowSystem

runs: list[str] = []


class Works(Flow):
    @flow
    async def main(self, n: int) -> int:
        a, b = await gather(self.plain(n), self.slow(n))
        await sleep(timedelta(days=3))
        return a + b

    @flow
    async def fails(self) -> None:
        await self.apart()

    @flow
    async def dawdles(self) -> None:
        await self.too_slow()

    @flow
    async def waits(self) -> int:
        return await wait_for("go", int)

    @step
    def plain(self, n: int) -> int:
        runs.append("plain")
        return n

    @step(retry=Retry(max_attempts=2))
    async def slow(self, n: int) -> int:
        runs.append("slow")
        await asyncio.sleep(30)
        return n

    @step(isolated=True)
    def apart(self) -> None:
        raise ValueError("from another process")

    @step(timeout=timedelta(seconds=5))
    async def too_slow(self) -> None:
        await asyncio.sleep(3600)


def traced(seed: int, *deaths: Death) -> tuple[str, int]:
    with Simulation([Works], seed=seed, pace=Pace(0.3, 0.01), deaths=deaths) as simulation:
        simulation.insist(lambda system: system.start(Works.main, 1, flow_id="works"))
        assert simulation.insist(lambda system: system.flow("works").result()) == 2
        return simulation.trace, simulation.crashes


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    assert traced(1) == traced(1)
    assert traced(1, Death(2, is_durable=False)) == traced(1, Death(2, is_durable=False))
    assert len({traced(seed)[0] for seed in range(5)}) == 5


def test_days_go_by_in_no_time() -> None:
    before = time.monotonic()
    with Simulation([Works]) as simulation:
        simulation.system.start(Works.main, 1, flow_id="works")
        simulation.advance(29.9)
        assert [event for event in completed(simulation) if event == 2] == []
        simulation.advance(0.2)
        assert completed(simulation) == [1, 2]
        simulation.advance(3 * 86_400)
        assert simulation.system.flow("works").status == "completed"
        assert simulation.clock.elapsed() > 3 * 86_400
    assert time.monotonic() - before < 30


def completed(simulation: Simulation) -> list[int]:
    recorded = [e.event for e in simulation.system.flow("works").events()]
    return sorted(e.step for e in recorded if isinstance(e, events.StepCompleted))


@pytest.mark.parametrize(("is_durable", "times"), [(False, 1), (True, 2)])
def test_a_process_dies_at_a_commit_that_is_durable_or_is_not(is_durable: bool, times: int) -> None:  # noqa: FBT001 - a parameter of a test
    runs.clear()
    # The second commit is that of the result: with it, or without it, nothing more is owed than before.
    trace, crashes = traced(3, Death(1, is_durable))

    assert crashes == 1
    assert trace != traced(3)[0]
    assert runs.count("plain") >= times


def test_what_was_not_durable_is_gone_and_nothing_of_the_dead_acts() -> None:
    with Simulation([Works]) as simulation:
        system = simulation.system
        reply = system._start(Works.waits, (), {}, "lost").reply
        simulation.crash()
        assert not reply.is_done
        with pytest.raises(StoreFenced):
            system.store.header("lost")
        assert simulation.system is not system
        assert simulation.system.flows() == []
        assert simulation.crashes == 1


def test_a_process_may_be_killed_before_any_turn_and_its_clients_ask_again() -> None:
    turns = 0

    def strike() -> None:
        nonlocal turns
        turns += 1
        if turns % 9 == 0 and simulation.crashes < 5:
            simulation.kill()

    boots: list[FlowSystem] = []
    with Simulation([Works], seed=5) as simulation:
        simulation.before_turn = strike
        simulation.on_boot.append(boots.append)
        simulation.insist(lambda system: system.start(Works.waits, flow_id="waits"))
        simulation.insist(lambda system: system.flow("waits").signal("go", 7, signal_id="go"))
        assert simulation.insist(lambda system: system.flow("waits").result(timeout=60)) == 7
        assert simulation.crashes > 0
        assert len(boots) == simulation.crashes + 1


def test_whoever_waits_for_a_process_that_dies_hears_of_it() -> None:
    with Simulation([Works], deaths=[Death(2, is_durable=True)]) as simulation:
        with pytest.raises(ProcessDied):
            simulation.system.start(Works.main, 1, flow_id="works").result()
        simulation.bury()
        assert simulation.insist(lambda system: system.flow("works").result()) == 2


def test_a_process_ends_in_good_order_and_the_next_goes_on() -> None:
    with Simulation([Works]) as simulation:
        handle = simulation.system.start(Works.waits, flow_id="waits")
        simulation.stop()
        with pytest.raises(SystemClosed):
            handle.header()
        simulation.insist(lambda system: system.flow("waits").signal("go", 1))
        assert simulation.insist(lambda system: system.flow("waits").result()) == 1
        assert simulation.crashes == 0


@pytest.mark.parametrize(
    ("definition", "says"),
    [(Works.fails, "ValueError: from another process"), (Works.dawdles, "StepTimeout")],
)
def test_errors_and_timeouts_of_steps_are_told_as_those_of_real_ones(definition: Any, says: str) -> None:
    with Simulation([Works]) as simulation:
        handle = simulation.system.start(definition, flow_id="flow")
        with pytest.raises(FlowFailed, match=says):
            handle.result(timeout=60)
        assert simulation.clock.elapsed() <= 5


def test_what_a_step_does_can_be_replaced() -> None:
    with Simulation([Works]) as simulation:
        simulation.perform = lambda task: (b"20", 20)
        simulation.insist(lambda system: system.start(Works.main, 1, flow_id="works"))
        assert simulation.insist(lambda system: system.flow("works").result()) == 40
