"""A flow's actor at its edges: a damaged inbox, steps that outlive their flow, what nobody confirms."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from persistasaurus import (
    Done,
    Flow,
    FlowEnded,
    FlowFailed,
    FlowHandle,
    FlowNotFound,
    FlowParked,
    StepError,
    StoreUnavailable,
    SupervisorRules,
    current_step,
    flow,
    gather,
    sleep,
    step,
    wait_for,
)
from persistasaurus.actors.flows import requests
from persistasaurus.actors.flows.active_flow import ActorPhase
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows import Limits, events
from persistasaurus.flows.machine.effects import Decision
from persistasaurus.flows.machine.machine import FlowMachine
from persistasaurus.flows.machine.messages import SignalArrived
from persistasaurus.store import Deliver
from system.doubles import (
    FaultyStore,
    completions,
    damage_inbox,
    kinds,
    live_flows,
    losing,
    memory_store,
    supervisor_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

REST_S = 60.0
STEP_S = 5
begun: Counter[str] = Counter()
ended: list[str] = []


def find_out(_: Any) -> Done[int] | None:
    raise ConnectionError("the bank does not answer")


class Works(Flow):
    @flow
    async def waits(self) -> int:
        return await wait_for("n", int)

    @flow
    async def tidies_up(self) -> None:
        try:
            await wait_for("n", int)
        finally:
            ended.append("tidied up")

    @flow
    async def sleeps(self) -> None:
        await sleep(100)

    @flow
    async def chains(self) -> int:
        return await self.takes(5) + await self.takes(6)

    @flow
    async def listens(self) -> list[int]:
        return list(await gather(self.takes(10), wait_for("n", int)))

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

    @flow
    async def fails_tidily(self) -> None:
        await gather(self.breaks(), self.tidily())

    async def tidily(self) -> None:
        try:
            await self.takes(5)
        finally:
            ended.append("tidied up")

    @flow
    async def gives_up(self) -> None:
        with suppress(StepError):
            await gather(self.breaks(), self.takes(5))

    @flow
    async def talks(self) -> int:
        await self.says("x" * 100)
        return await wait_for("n", int)

    @step
    async def says(self, word: str) -> str:
        await asyncio.sleep(STEP_S)
        return word * 10

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
    ended.clear()
    with Simulation([Works], store=opened) as simulation:
        yield simulation


def actor_of(simulation: Simulation, flow_id: str) -> FlowActor:
    return supervisor_of(simulation.system)._active[flow_id].ref.actor_inbox.owner


def damaged(store: FaultyStore, flow_id: str) -> None:
    damage_inbox(store, flow_id, "signal 1 in its inbox does not match its checksum")


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
    simulation.run_until_idle()
    assert not live_flows(simulation.system)
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


def test_a_flow_that_takes_no_signals_now_does_not_look_for_them_again_and_again(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FlowMachine.handle

    def handle(self: FlowMachine, message: Any, moment: Any) -> Decision:
        is_full = isinstance(message, SignalArrived)  # as one whose history is as long as it may become
        return Decision() if is_full else original(self, message, moment)

    monkeypatch.setattr("persistasaurus.actors.flows.flow_actor._INBOX_PAGE", 3)
    monkeypatch.setattr(FlowMachine, "handle", handle)
    simulation.system.start(Works.waits, flow_id="flow")
    simulation.run_until_idle()
    store.inner.commit([Deliver("flow", "n", f"{n}", b"1", 0) for n in range(3)])
    looks: list[str] = []

    def inbox(stream: str, limit: int) -> Any:
        looks.append(stream)
        assert len(looks) < 10, "it looks again and again"
        return store.inner.inbox(stream, limit=limit)

    store.inbox = inbox  # type: ignore[attr-defined]
    supervisor_of(simulation.system).on_receive(requests.Wake("flow"))
    simulation.run_until_idle()

    assert looks == ["flow"]
    assert len(store.inner.inbox("flow")) == 3


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
    with pytest.raises(FlowFailed, match="broken"):
        handle.result(0.5)
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
    turns = supervisor_of(system)._suspect_queue
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


def test_what_the_steps_of_a_paused_flow_come_to_is_recorded_also_when_it_is_at_rest(
    store: FaultyStore,
) -> None:
    with Simulation([Works], rules=SupervisorRules(idle_s=1.0)) as simulation:
        handle = simulation.system.start(Works.chains, flow_id="flow")
        simulation.advance(1)
        actor = actor_of(simulation, "flow")
        handle.pause()
        # An actor that has crashed, and is not back when the step ends, is told in no other way.
        del supervisor_of(simulation.system)._active["flow"]
        actor._stop()
        simulation.advance(5)

        assert completions(handle) == {1: 1}
        assert handle.status == "paused"


def test_nothing_is_kept_of_steps_that_are_recorded(simulation: Simulation) -> None:
    simulation.system.start(Works.chains, flow_id="flow")
    simulation.advance(10)
    actor = actor_of(simulation, "flow")

    assert begun == {"flow": 2}
    assert actor._unrecorded == []
    assert actor.context.attempts.of_flow("flow") == {(2, 1): None}


def test_nothing_is_kept_of_a_step_that_outlives_its_flow(simulation: Simulation) -> None:
    handle = simulation.system.start(Works.gives_up, flow_id="flow")
    simulation.run_until_idle()
    attempts = supervisor_of(simulation.system)._context.attempts
    assert handle.status == "completed"
    simulation.advance(5)

    assert attempts.of_flow("flow") == {}


def test_a_flow_whose_step_runs_is_not_taken_for_idle(simulation: Simulation) -> None:
    simulation.system.start(Works.listens, flow_id="flow")
    simulation.advance(1)
    idle_flows = supervisor_of(simulation.system)._idle

    assert live_flows(simulation.system) == {"flow"}
    assert "flow" not in idle_flows._since


def test_a_flow_that_has_been_told_to_go_on_is_not_taken_for_idle(simulation: Simulation) -> None:
    handle = simulation.system.start(Works.chains, flow_id="flow")
    handle.pause()
    simulation.advance(5)
    idle_flows = supervisor_of(simulation.system)._idle
    assert "flow" in idle_flows._since

    handle.resume()
    simulation.run_until_idle()
    assert begun == {"flow": 2}
    assert "flow" not in idle_flows._since


@pytest.mark.parametrize("crashes", [False, True])
def test_a_flow_that_has_said_too_late_that_it_is_idle_does_not_count_as_such_when_its_actor_is_gone(
    simulation: Simulation, *, crashes: bool
) -> None:
    handle = simulation.system.start(Works.alone, flow_id="flow")
    simulation.advance(1)
    supervisor = supervisor_of(simulation.system)
    incarnation = supervisor._active["flow"].incarnation
    supervisor.on_receive(requests.Idle("flow", incarnation))
    assert "flow" in supervisor._idle._since

    if crashes:
        supervisor.on_receive(requests.Crashed("flow", incarnation, ZeroDivisionError("injected")))
    else:
        supervisor._idle._is_sweeping = True  # and nobody looks until the end
        assert handle.result(STEP_S) == STEP_S
    assert not supervisor._idle._since


def test_a_flow_whose_history_has_become_too_long_is_parked_before_anything_else_happens(
    store: FaultyStore,
) -> None:
    with Simulation(
        [Works], store=lambda _: cast("Any", store), limits=Limits(history_bytes=500)
    ) as simulation:
        handle = simulation.system.start(Works.waits, flow_id="flow")
        simulation.run_until_idle()
        early = [Deliver("flow", "another", f"{n}", b'"%s"' % (b"x" * 200), 0) for n in range(3)]
        store.inner.commit(early)
        supervisor_of(simulation.system).on_receive(requests.Wake("flow"))
        simulation.run_until_idle()

        assert kinds(handle)[-4:] == ["signal_received"] * 3 + ["parked"]


def test_a_flow_whose_history_has_become_too_long_as_the_system_closes_is_parked_at_the_next_start(
    store: FaultyStore,
) -> None:
    def opened(_: Any) -> Any:
        store.reopen()
        return store

    with Simulation([Works], store=opened, limits=Limits(history_bytes=500)) as simulation:
        simulation.system.start(Works.talks, flow_id="flow")
        simulation.advance(1)
        supervisor_of(simulation.system).on_receive(requests.Drain(Reply()))
        simulation.advance(STEP_S)
        handle = simulation.system.flow("flow")
        assert kinds(handle)[-1] == "step_completed"
        simulation.crash()
        simulation.boot()
        simulation.run_until_idle()

        assert kinds(simulation.system.flow("flow"))[-1] == "parked"


def test_a_flow_that_has_more_signals_to_look_at_does_not_go_to_rest_before(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.actors.flows.flow_actor._INBOX_PAGE", 3)
    handle = simulation.system.start(Works.waits, flow_id="flow")
    simulation.run_until_idle()
    payloads = [b'"text"'] * 3 + [b"1"]
    store.inner.commit([Deliver("flow", "n", f"{n}", data, 0) for n, data in enumerate(payloads)])
    actor = actor_of(simulation, "flow")
    for message in (requests.Wake("flow"), requests.Passivate()):
        actor.actor_ref.tell(message)
    simulation.run_until_idle()

    assert handle.status == "completed"


def test_a_signal_for_a_flow_that_can_not_go_to_rest_as_it_was_told_to_is_heard_at_once(
    simulation: Simulation, store: FaultyStore
) -> None:
    handle = simulation.system.start(Works.listens, flow_id="flow")
    simulation.advance(1)
    supervisor = supervisor_of(simulation.system)
    supervisor._passivate("flow")
    assert supervisor._active["flow"].phase is ActorPhase.PASSIVATING
    store.inner.commit([Deliver("flow", "n", "one", b"1", simulation.clock.now())])
    supervisor.on_receive(requests.Wake("flow"))
    simulation.run_until_idle()

    assert kinds(handle)[-1] == "signal_received"
    assert handle.result(10) == [10, 1]


# ---------------------------------------------------------------------------------------- rest and end
def test_a_signal_that_comes_when_an_actor_has_looked_and_not_said_that_it_has_recovered_is_heard_at_once(
    simulation: Simulation, store: FaultyStore
) -> None:
    handle = simulation.system.start(Works.waits, flow_id="flow")
    simulation.advance(REST_S)
    system, supervisor = simulation.system, supervisor_of(simulation.system)
    system.client.wake("flow")
    while not live_flows(system) or supervisor._active["flow"].ref is None:
        assert simulation.schedule.run_one()
    while actor_of(simulation, "flow").machine is None:
        assert simulation.schedule.run_one()
    assert supervisor._active["flow"].phase is ActorPhase.ACTIVATING
    store.inner.commit([Deliver("flow", "n", "one", b"1", simulation.clock.now())])
    supervisor.on_receive(requests.Wake("flow"))
    simulation.run_until_idle()

    assert handle.status == "completed"


def test_a_request_that_comes_while_a_flow_records_its_end_is_answered(simulation: Simulation) -> None:
    handle = simulation.system.start(Works.waits, flow_id="flow")
    simulation.run_until_idle()
    actor = actor_of(simulation, "flow")
    handle.signal("n", 1)
    while actor._writing is None:
        simulation.schedule.run_one()
    pause = requests.PauseFlow("flow", "", "", Reply())
    actor.actor_ref.tell(pause)
    simulation.run_until_idle()

    with pytest.raises(FlowEnded):
        pause.reply.get(timeout=0)


def test_an_actor_has_left_its_stream_before_it_says_so(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = FlowActor.report
    guarded: dict[str, Any] = {}

    def report(self: FlowActor, message: Any) -> None:
        if isinstance(message, requests.Passivated | requests.Ended | requests.Crashed):
            guarded[type(message).__name__] = self.context.guard._actors.get(self.flow_id)
        original(self, message)

    monkeypatch.setattr(FlowActor, "report", report)
    handle = simulation.system.start(Works.waits, flow_id="flow")
    crash_once(monkeypatch)
    supervisor_of(simulation.system).on_receive(requests.Wake("flow"))
    simulation.advance(REST_S)
    handle.signal("n", 1)

    assert handle.result(1) == 1
    assert guarded == {"Crashed": None, "Passivated": None, "Ended": None}


def test_the_code_of_a_flow_whose_actor_has_crashed_ends_at_once(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = simulation.system.start(Works.tidies_up, flow_id="flow")
    simulation.run_until_idle()
    crash_once(monkeypatch)
    gc.disable()
    try:
        supervisor_of(simulation.system).on_receive(requests.Wake("flow"))
        simulation.run_until_idle()
        assert ended == ["tidied up"]
    finally:
        gc.enable()

    assert handle.status == "waiting"


def crash_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next flow actor that is woken crash."""
    original = FlowActor._on_wake

    def crash(self: FlowActor) -> None:
        monkeypatch.setattr(FlowActor, "_on_wake", original)
        raise ZeroDivisionError("injected")

    monkeypatch.setattr(FlowActor, "_on_wake", crash)


def test_the_code_of_a_flow_that_goes_to_rest_ends_at_once_and_not_when_somebody_collects_it(
    simulation: Simulation,
) -> None:
    handle = simulation.system.start(Works.tidies_up, flow_id="flow")
    simulation.run_until_idle()
    kept = actor_of(simulation, "flow").machine
    assert kept is not None
    assert ended == []
    simulation.advance(REST_S)
    assert not live_flows(simulation.system)

    assert ended == ["tidied up"]
    assert handle.status == "waiting"


def test_the_code_of_a_flow_that_has_failed_ends_as_soon_as_another_run_takes_its_place(
    simulation: Simulation,
) -> None:
    handle = simulation.system.start(Works.fails_tidily, flow_id="flow")
    simulation.advance(1)
    assert (handle.status, ended) == ("failed", [])
    assert actor_of(simulation, "flow").machine is not None

    gc.disable()
    try:
        handle.retry()
        assert ended == ["tidied up"] * 2  # its own code, and that which the repair has tried out
    finally:
        gc.enable()


def test_a_flow_that_is_paused_while_it_sleeps_stays_in_good_health(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Works.sleeps, flow_id="flow")
    handle.pause()
    simulation.advance(1)
    handle.resume()
    handle.result(100)

    assert caplog.records == []


def test_a_signal_that_comes_while_the_system_closes_stays_for_the_next_start(
    simulation: Simulation, store: FaultyStore
) -> None:
    handle = simulation.system.start(Works.waits, flow_id="flow")
    simulation.run_until_idle()
    supervisor = supervisor_of(simulation.system)
    supervisor.on_receive(requests.Drain(Reply()))
    store.inner.commit([Deliver("flow", "n", "one", b"1", 0)])
    supervisor.on_receive(requests.Wake("flow"))
    simulation.run_until_idle()

    assert "signal_received" not in kinds(handle)
    assert len(store.inner.inbox("flow")) == 1


def test_a_flow_whose_turn_to_recover_comes_while_the_system_closes_begins_nothing_new() -> None:
    with Simulation([Works], rules=SupervisorRules(idle_s=1000.0, max_activations=1)) as simulation:
        for name in ("a", "b", "c"):
            simulation.system.start(Works.chains, flow_id=name)
        simulation.advance(1)
        simulation.crash()
        system = simulation.boot()
        while len(live_flows(system)) < 3:
            assert simulation.schedule.run_one()
        supervisor = supervisor_of(system)
        queued = [name for name, active in supervisor._active.items() if active.phase is ActorPhase.QUEUED]
        assert queued
        supervisor.on_receive(requests.Drain(Reply()))
        simulation.advance(20)

        assert all(supervisor._active[name].phase is ActorPhase.LIVE for name in queued)
        for name in ("a", "b", "c"):
            handle = system.flow(name)
            assert completions(handle) == {1: 1}
            assert not any(getattr(e.event, "step", 1) > 1 for e in handle.events())


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

    store.fail = losing
    start = system._start(Works.waits, (), {}, "lost")
    pause = requests.PauseFlow("lost", "", "", Reply())
    system.client.ask(pause)
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
    actor = actor_of(simulation, "flow")
    pause = handle._request(requests.PauseFlow("flow", "", "", Reply()))
    while actor._writing is None:
        simulation.schedule.run_one()

    actor._stop()

    with pytest.raises(StoreUnavailable, match="the system was closed"):
        pause.get(timeout=0)
    simulation.run_until_idle()
    assert isinstance(handle.events()[-1].event, events.Paused)
