"""More work at once than fits: the store is the backlog, memory stays bounded, and new work comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from persistasaurus import Flow, SupervisorRules, flow, sleep
from persistasaurus.actors.flows import timers
from persistasaurus.actors.testing.simulation import Simulation
from system.doubles import live_flows, supervisor_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus import FlowSystem

FLOWS, PAGE, KNOWN, ACTIVATIONS, IDLE = 1500, 50, 200, 8, 20


class Naps(Flow):
    @flow(name="nap")
    async def nap(self, seconds: float) -> str:
        await sleep(seconds)
        return "rested"

    @flow(name="quick")
    async def quick(self) -> int:
        return 1


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    monkeypatch.setattr(timers, "_PAGE", PAGE)
    monkeypatch.setattr(timers, "_KNOWN_MAX", KNOWN)
    rules = SupervisorRules(max_idle=IDLE, max_activations=ACTIVATIONS, horizon_s=1000.0)
    with Simulation([Naps], rules=rules) as simulation:
        yield simulation


def sleepers(simulation: Simulation, seconds: float = 60.0) -> None:
    """Have many flows sleep until about the same instant, and passivate them."""
    for first in range(0, FLOWS, 100):
        simulation.system.start_many([Naps.nap(seconds) for _ in range(first, first + 100)])
    simulation.run_until_idle()


def test_of_many_timers_only_the_nearest_are_in_memory_and_all_fire(simulation: Simulation) -> None:
    most_known = most_active = 0
    sleepers(simulation)
    system = simulation.system

    def look() -> None:
        nonlocal most_known, most_active
        most_active = max(most_active, len(live_flows(system)))
        timers = system._timers.actor_inbox.owner
        most_known = max(most_known, len(timers._at), len(timers._heap))

    simulation.before_turn = look
    assert len(system._timers.actor_inbox.owner._at) <= KNOWN
    simulation.advance(61.0)

    simulation.before_turn = None
    assert completed(system) == FLOWS
    assert most_known <= KNOWN + 1
    assert most_active <= 2 * PAGE + 3 * ACTIVATIONS + IDLE


def test_flows_that_became_due_while_no_engine_ran_are_woken_page_by_page(simulation: Simulation) -> None:
    sleepers(simulation)
    simulation.stop()
    simulation.clock.pass_over(3600.0)
    most = 0
    system = simulation.system

    def look() -> None:
        nonlocal most
        most = max(most, len(live_flows(system)))

    simulation.before_turn = look
    simulation.run_until_idle()

    simulation.before_turn = None
    assert completed(system) == FLOWS
    assert most <= 2 * PAGE + 3 * ACTIVATIONS + IDLE


def test_a_start_beside_a_backlog_of_timers_waits_for_a_few_turns_only(simulation: Simulation) -> None:
    sleepers(simulation)
    simulation.stop()
    simulation.clock.pass_over(3600.0)
    system = simulation.system
    turns: list[int] = []
    for _ in range(2 * PAGE):
        simulation.schedule.run_one()
    while completed_soon := system.store.due(simulation.clock.now(), limit=1):
        start = system._start(Naps.quick, (), {}, None)
        turns.append(0)
        while not start.reply.is_done:
            assert simulation.schedule.run_one(), completed_soon
            turns[-1] += 1
        for _ in range(PAGE):
            simulation.schedule.run_one()

    assert len(turns) > 10
    assert max(turns) < 3 * PAGE + 20 * ACTIVATIONS
    simulation.run_until_idle()
    assert completed(system) == FLOWS + len(turns)


def test_a_request_to_a_flow_at_rest_comes_before_those_whose_time_has_come(simulation: Simulation) -> None:
    sleepers(simulation)
    other = simulation.system.start(Naps.nap, 1e6, flow_id="other")
    simulation.run_until_idle()
    simulation.stop()
    simulation.clock.pass_over(3600.0)
    system = simulation.system
    while not supervisor_of(system)._waiting:
        simulation.schedule.run_one()

    system.flow(other.id).pause()

    assert system.flow(other.id).status == "paused"
    assert len(system.store.due(simulation.clock.now(), limit=FLOWS)) > FLOWS - 3 * PAGE
    simulation.run_until_idle()
    assert completed(system) == FLOWS


def completed(system: FlowSystem) -> int:
    found, after = 0, None
    while page := system.flows(status="completed", after=after, limit=1000):
        found, after = found + len(page), page[-1].stream
    return found
