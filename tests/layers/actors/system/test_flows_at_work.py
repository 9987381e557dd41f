"""Only so many flows are at work at a time: those beyond wait in the store, whatever has made them begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, FlowAlreadyExists, FlowSystem, SupervisorRules, flow, sleep, step, wait_for
from persistasaurus.actors.flows import supervisor, timers
from persistasaurus.actors.testing.simulation import Simulation
from system.doubles import Gate, live_flows, supervisor_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FLOWS, AT_WORK, ACTIVATIONS, PAGE, WAITING, IDLE = 400, 24, 8, 20, 30, 5
AHEAD = AT_WORK // 8
BOUND = AT_WORK + AHEAD + WAITING + 2 * PAGE + 2 * ACTIVATIONS + IDLE
STEP_S = 10.0


class Long(Flow):
    @flow(name="works")
    async def works(self, number: int = 0) -> int:
        return await self.work(number)

    @flow(name="called")
    async def called(self) -> int:
        return await self.work(await wait_for("call", int))

    @flow(name="slept")
    async def slept(self, seconds: float) -> int:
        await sleep(seconds)
        return await self.work(1)

    @step
    def work(self, number: int) -> int:
        return number


class Most:
    """The most flows that were in memory, or at work, before any turn."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.in_memory = self.at_work = 0
        simulation.before_turn = self._look

    def _look(self) -> None:
        system = self._simulation._system
        if system is not None and supervisor_of(system) is not None:
            self.in_memory = max(self.in_memory, len(live_flows(system)))
            self.at_work = max(self.at_work, len(self._simulation.executor.running()))


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    monkeypatch.setattr(timers, "_PAGE", PAGE)
    monkeypatch.setattr(supervisor, "_WAITING_MAX", WAITING)
    rules = SupervisorRules(
        max_idle=IDLE, max_activations=ACTIVATIONS, max_active=AT_WORK, idle_s=1.0, horizon_s=1e6
    )
    with Simulation([Long], rules=rules) as simulation:
        simulation.shortage = lambda: STEP_S
        yield simulation


def completed(system: FlowSystem) -> int:
    return len(system.flows(status="completed", limit=2 * FLOWS))


def start_all(simulation: Simulation, flows: int = FLOWS) -> None:
    for first in range(0, flows, 100):
        simulation.system.start_many({f"f-{n}": Long.works(n) for n in range(first, first + 100)})


def test_starts_beyond_are_on_record_at_once_and_begin_as_others_end(simulation: Simulation) -> None:
    most = Most(simulation)

    start_all(simulation)

    simulation.run_until_idle()
    system = simulation.system
    assert len(system.flows(status="running", limit=FLOWS)) == FLOWS
    assert AT_WORK <= len(simulation.executor.running()) <= AT_WORK + AHEAD
    simulation.advance(STEP_S * FLOWS / AT_WORK * 1.5)
    assert completed(system) == FLOWS
    assert [system.flow(f"f-{n}").result() for n in (0, FLOWS - 1)] == [0, FLOWS - 1]
    assert most.in_memory <= BOUND
    assert most.at_work <= AT_WORK + AHEAD


def test_a_start_that_waits_is_the_same_start_when_it_is_repeated(simulation: Simulation) -> None:
    start_all(simulation)
    system = simulation.system
    last = f"f-{FLOWS - 1}"
    assert last not in live_flows(system)

    assert system.start(Long.works, FLOWS - 1, flow_id=last).id == last
    with pytest.raises(FlowAlreadyExists, match="other arguments"):
        system.start(Long.works, 1, flow_id=last)

    simulation.advance(STEP_S * FLOWS)
    assert system.flow(last).result() == FLOWS - 1


def test_after_a_death_no_more_flows_are_at_work_than_before(simulation: Simulation) -> None:
    start_all(simulation)
    simulation.advance(STEP_S / 2)
    simulation.crash()
    most = Most(simulation)

    simulation.run_until_idle()

    assert len(simulation.executor.running()) <= AT_WORK
    simulation.advance(STEP_S * FLOWS / AT_WORK * 1.5)
    assert completed(simulation.system) == FLOWS
    assert most.in_memory <= BOUND
    assert most.at_work <= AT_WORK


def test_a_burst_of_signals_has_no_more_flows_at_work(simulation: Simulation) -> None:
    system = simulation.system
    for first in range(0, FLOWS, 100):
        system.start_many({f"f-{n}": Long.called() for n in range(first, first + 100)})
    simulation.advance(2.0)
    most = Most(simulation)

    for number in range(FLOWS):
        system.flow(f"f-{number}").signal("call", number)

    simulation.advance(STEP_S * FLOWS / AT_WORK * 1.5)
    assert completed(system) == FLOWS
    assert most.in_memory <= BOUND
    assert most.at_work <= AT_WORK


def test_timers_that_are_due_together_have_no_more_flows_at_work(simulation: Simulation) -> None:
    for _ in range(0, FLOWS, 100):
        simulation.system.start_many([Long.slept(60.0) for _ in range(100)])
    simulation.advance(2.0)
    most = Most(simulation)

    simulation.advance(60.0 + STEP_S * FLOWS / AT_WORK * 1.5)

    assert completed(simulation.system) == FLOWS
    assert most.in_memory <= BOUND
    assert most.at_work <= AT_WORK


def test_a_few_new_flows_begin_before_those_that_have_waited_for_longer(simulation: Simulation) -> None:
    start_all(simulation)
    simulation.advance(STEP_S * 1.5)
    system = simulation.system

    handles = []
    for number in range(AHEAD * 5):
        handles.append(system.start(Long.works, number, flow_id=f"new-{number}"))
        simulation.advance(STEP_S / AHEAD)
    simulation.advance(STEP_S)

    assert {handle.status for handle in handles} == {"completed"}
    assert completed(system) < FLOWS / 2


def test_new_flows_do_not_keep_those_from_beginning_that_have_waited(simulation: Simulation) -> None:
    start_all(simulation)
    system = simulation.system
    for second in range(int(STEP_S) * 40):
        for number in range(6):  # more than can be done
            system.start(Long.works, 0, flow_id=f"new-{second}-{number}")
        simulation.advance(1.0)

    assert sum(system.flow(f"f-{n}").status == "completed" for n in range(FLOWS)) > FLOWS / 2


def test_a_flow_that_a_step_waits_for_has_its_turn_at_once(
    make_system: Callable[..., FlowSystem], gate: Gate
) -> None:
    """Else flows at work could all wait for flows that wait for them."""

    class Nested(Flow):
        @flow(name="outer")
        async def outer(self) -> int:
            return await self.run_inner()

        @flow(name="outer_async")
        async def outer_async(self) -> int:
            return await self.await_inner()

        @flow(name="inner")
        async def inner(self) -> int:
            return await self.work()

        @step
        def run_inner(self) -> int:
            gate()
            return system.run(Nested.inner)

        @step
        async def await_inner(self) -> int:
            handle = await system.start_async(Nested.inner)
            return await handle

        @step
        def work(self) -> int:
            return 1

    system = make_system(Nested, rules=SupervisorRules(max_active=4))
    outer = [system.start(Nested.outer) for _ in range(12)]
    outer += [system.start(Nested.outer_async) for _ in range(12)]
    gate.open()

    assert [handle.result(timeout=60) for handle in outer] == [1] * 24


def test_the_outcome_of_a_step_is_recorded_however_many_wait(simulation: Simulation) -> None:
    system = simulation.system
    start_all(simulation)
    simulation.run_until_idle()
    paused = next(key.flow_id for key in (step.key for step in simulation.executor.running()))  # type: ignore[attr-defined]
    system.flow(paused).pause()
    boss = supervisor_of(system)
    boss._passivate(paused)
    simulation.advance(STEP_S * FLOWS)

    assert completed(system) == FLOWS - 1
    system.flow(paused).resume()
    simulation.run_until_idle()
    assert system.flow(paused).status == "completed"


def test_a_start_that_cannot_be_recorded_says_so(
    make_system: Callable[..., FlowSystem], gate: Gate, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held(Flow):
        @flow(name="held")
        async def held(self) -> None:
            await self.hold()

        @step
        def hold(self) -> None:
            gate()

    system = make_system(Held, path=path, rules=SupervisorRules(max_active=1))
    first = system.start(Held.held)
    gate.wait()
    found: list[Any] = []
    monkeypatch.setattr(system.store, "commit", _failing(system.store.commit, found))

    with pytest.raises(Exception, match="disk") as caught:
        system.start(Held.held)

    assert type(caught.value).__name__ == "StoreUnavailable"
    monkeypatch.undo()
    gate.open()
    wait_until(lambda: first.status == "completed")


def _failing(commit: Callable[..., Any], found: list[Any]) -> Callable[..., Any]:
    def fail(writes: Any) -> Any:
        if not found:
            found.append(writes)
            raise OSError("the disk is full")
        return commit(writes)

    return fail
