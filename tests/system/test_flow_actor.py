"""A flow's actor at its edges: a damaged inbox, steps that outlive their flow, what nobody confirms."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Done,
    Flow,
    FlowFailed,
    FlowHandle,
    FlowNotFound,
    FlowParked,
    StoreUnavailable,
    current_step,
    flow,
    gather,
    step,
    wait_for,
)
from persistasaurus.actors import requests
from persistasaurus.actors.futures import Reply
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows import events
from persistasaurus.store import CommitUnknown, RecordCorrupt
from system.doubles import FaultyStore, completions, kinds, live_flows, memory_store, supervisor_of

if TYPE_CHECKING:
    from collections.abc import Iterator

REST_S = 60.0
begun: Counter[str] = Counter()


def find_out(_: Any) -> Done[int] | None:
    raise ConnectionError("the bank does not answer")


class Works(Flow):
    @flow
    async def waits(self) -> int:
        return await wait_for("n", int)

    @flow
    async def alone(self) -> int:
        return await self.takes(5)

    @flow
    async def forgets(self) -> int:
        self.takes(1)
        return await self.takes(5)

    @flow
    async def fails(self) -> None:
        await gather(self.breaks(), self.takes(5), self.takes(8))

    @flow
    async def charges(self) -> list[int]:
        return list(await gather(self.takes(10), self.charge()))

    @step
    async def takes(self, seconds: int) -> int:
        begun[current_step().flow_id] += 1
        await asyncio.sleep(seconds)
        return seconds

    @step
    def breaks(self) -> None:
        raise ValueError("broken")

    @step(reconcile=find_out)
    async def charge(self) -> int:
        await asyncio.sleep(10)
        return 1


@pytest.fixture
def store() -> Iterator[FaultyStore]:
    store = FaultyStore(memory_store())
    yield store
    store.inner.close()


@pytest.fixture
def simulation(store: FaultyStore) -> Iterator[Simulation]:
    """Simulate processes on one store, which fails as it is told."""

    def opened(_: Any) -> Any:
        store.reopen()
        return store

    begun.clear()
    with Simulation([Works], store=opened) as simulation:
        yield simulation


def damaged(store: FaultyStore, flow_id: str) -> None:
    """Have a flow's inbox be unreadable, until `store.inbox` is deleted."""

    def inbox(stream: str, limit: int) -> Any:
        if stream == flow_id:
            raise RecordCorrupt(stream, None, "signal 1 in its inbox does not match its checksum")
        return store.inner.inbox(stream, limit=limit)

    store.inbox = inbox  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------- damage in the inbox
def test_a_flow_whose_inbox_is_damaged_is_parked_and_goes_on_at_the_next_start_if_it_is_mended(
    simulation: Simulation, store: FaultyStore
) -> None:
    bad, good = (simulation.system.start(Works.waits, flow_id=name) for name in ("bad", "good"))
    damaged(store, "bad")
    for handle in (bad, good):
        handle.signal("n", 1)

    assert good.result(1) == 1
    with pytest.raises(FlowParked, match="does not match its checksum") as caught:
        bad.result(1)
    assert caught.value.reason == "unreadable"
    simulation.advance(REST_S)
    with pytest.raises(StoreUnavailable, match="does not match its checksum"):
        bad.retry()
    assert kinds(bad)[-1] == "parked"
    simulation.advance(REST_S)
    assert not live_flows(simulation.system)

    del store.inbox
    simulation.stop()
    assert simulation.system.flow("bad").result(1) == 1


@pytest.mark.parametrize("before_s", [0, 8], ids=["at rest", "live"])
def test_the_outcome_of_a_step_that_ends_when_nobody_can_record_it_is_kept_for_the_retry(
    simulation: Simulation, store: FaultyStore, before_s: int
) -> None:
    simulation.system.start(Works.charges, flow_id="flow")
    simulation.advance(1)
    simulation.crash()
    handle = simulation.system.flow("flow")
    with pytest.raises(FlowParked, match="the bank does not answer"):
        handle.result(1)

    simulation.advance(before_s)
    damaged(store, "flow")
    handle.signal("n", 1)
    simulation.advance(REST_S)
    assert completions(handle) == {}
    assert not live_flows(simulation.system)
    del store.inbox
    handle.retry()

    assert handle.result(11) == [10, 1]
    assert begun == {"flow": 2}
    assert completions(handle) == {1: 1, 2: 1}


# ------------------------------------------------------------------------------- steps that still run
def test_the_actor_of_a_flow_that_has_failed_stays_until_the_last_of_its_steps_has_been_heard(
    simulation: Simulation,
) -> None:
    handle = simulation.system.start(Works.fails, flow_id="flow")
    with pytest.raises(FlowFailed, match="broken"):
        handle.result(1)

    simulation.advance(6)
    assert completions(handle) == {2: 1}
    assert live_flows(simulation.system) == {"flow"}
    simulation.advance(3)
    assert completions(handle) == {2: 1, 3: 1}
    assert not live_flows(simulation.system)
    assert kinds(handle).count("flow_failed") == 1


def test_a_paused_flow_lets_the_next_one_have_the_turn_that_it_does_not_take(simulation: Simulation) -> None:
    names = ["a", "b", "c"]
    for name in names:
        simulation.system.start(Works.alone, flow_id=name)
    for _ in range(2):
        simulation.advance(1)
        simulation.crash()
    system = simulation.system
    simulation.run_until_idle()
    turns = supervisor_of(system)._turns
    first, second, third = turns._flow_id, *(asked.flow_id for asked in turns._waiting)
    assert {first, second, third} == set(names)
    assert begun[first] == 3

    system.flow(second).pause()
    simulation.advance(5)
    assert system.flow(first).status == "completed"
    assert begun == {first: 3, second: 2, third: 3}
    system.flow(second).resume()
    simulation.advance(10)

    assert begun == {first: 3, second: 3, third: 3}
    assert {system.flow(name).status for name in names} == {"completed"}


# --------------------------------------------------------------------------------- nothing is confirmed
def test_a_forgotten_await_is_told_in_the_log_once(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    assert simulation.system.run(Works.forgets, flow_id="flow") == 5
    simulation.stop()
    assert simulation.system.flow("flow").result(1) == 5

    assert caplog.text.count("was dropped at test_flow_actor.py") == 1


def test_a_request_behind_a_start_that_is_lost_hears_that_there_is_no_such_flow(
    simulation: Simulation, store: FaultyStore
) -> None:
    system = simulation.system

    def lose(_: int, store: FaultyStore) -> None:
        store.fail = None
        store.inner._halted = error = CommitUnknown("injected")
        raise error

    store.fail = lose
    start = system._start(Works.waits, (), {}, "lost")
    pause = requests.Pause("lost", "", "", Reply())
    system.ask(pause)
    simulation.advance(1)

    with pytest.raises(StoreUnavailable, match="nothing was written"):
        start.reply.get(timeout=0)
    with pytest.raises(FlowNotFound, match="lost"):
        pause.reply.get(timeout=0)
    simulation.advance(REST_S)
    assert not live_flows(system)
    assert system.start(Works.waits, flow_id="lost").status == "waiting"


def test_whoever_waits_for_a_record_when_the_actor_is_stopped_hears_that_it_may_not_come(
    simulation: Simulation,
) -> None:
    handle: FlowHandle[Any] = simulation.system.start(Works.waits, flow_id="flow")
    simulation.run_until_idle()
    actor = supervisor_of(simulation.system)._cells["flow"].ref._actor_weakref()
    pause = handle._request(requests.Pause("flow", "", "", Reply()))
    while actor._writing is None:
        simulation.schedule.run_one()

    actor._stop()

    with pytest.raises(StoreUnavailable, match="the system was closed"):
        pause.get(timeout=0)
    simulation.run_until_idle()
    assert isinstance(handle.events()[-1].event, events.Paused)
