"""A start does not read first whether the flow exists: its commit finds out, and nothing is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    EventSourcedActor,
    Flow,
    FlowAlreadyExists,
    FlowParked,
    FlowSystem,
    Overloaded,
    StoreUnavailable,
    SupervisorRules,
    SystemClosed,
    command,
    flow,
    step,
    wait_for,
)
from persistasaurus.actors.flows import admission, requests
from persistasaurus.actors.flows.active_flow import ActorPhase
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import CommitUnknown, RecordCorrupt
from system.doubles import DEAD_MAN_S, FaultyStore, Gate, kinds, live_flows, memory_store, supervisor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persistasaurus.actors.flows.starting import Starts
    from persistasaurus.actors.flows.supervisor import Supervisor
    from persistasaurus.actors.runtime.environment import Environment

bodies: list[str] = []
worked: list[str] = []


class Orders(Flow):
    gate: Gate | None = None

    @flow(name="order")
    async def order(self, name: str) -> str:
        bodies.append(name)
        if Orders.gate is not None:
            Orders.gate()
        await self.work(name)
        return name + str(await wait_for("amount", int))

    @flow(name="at once")
    async def at_once(self, name: str) -> str:
        bodies.append(name)
        return name

    @flow(name="fails")
    async def fails(self, name: str) -> str:
        raise ValueError(name)

    @step
    def work(self, name: str) -> None:
        worked.append(name)


class Noted(msgspec.Struct, tag="noted"):
    pass


class NotesState(msgspec.Struct):
    count: int = 0


class Notes(EventSourcedActor[NotesState, Noted], name="notes"):
    def apply(self, state: NotesState, event: Noted) -> None:
        state.count += 1

    @command
    def note(self) -> None:
        self.record(Noted())


@pytest.fixture
def store() -> Iterator[FaultyStore]:
    store = FaultyStore(memory_store())
    yield store
    store.inner.close()


@pytest.fixture
def simulation(store: FaultyStore) -> Iterator[Simulation]:
    def opened(_: Any) -> Any:
        store.reopen()
        return store

    bodies.clear()
    worked.clear()
    Orders.gate = None
    with Simulation(
        [Orders], actors=[Notes], store=opened, rules=SupervisorRules(idle_s=1000.0)
    ) as simulation:
        simulation.run_until_idle()
        yield simulation


def passivate(simulation: Simulation, *flow_ids: str) -> None:
    for flow_id in flow_ids:
        supervisor_of(simulation.system)._passivate(flow_id)
    simulation.run_until_idle()
    assert not set(flow_ids) & live_flows(simulation.system)


# ------------------------------------------------------------------------------------------- new flows
def test_a_new_flow_is_started_without_a_read(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("header", "read", "scan", "headers"):
        monkeypatch.setattr(simulation.system.store, name, lambda *_, **__: pytest.fail("it reads"))

    assert simulation.system.start(Orders.at_once, "new").result() == "new"

    assert bodies == ["new"]


# --------------------------------------------------------------------------------------- existing flows
@pytest.fixture(params=["running", "passivated", "paused", "ended", "damaged"])
def existing(
    request: pytest.FixtureRequest,
    simulation: Simulation,
    store: FaultyStore,
    monkeypatch: pytest.MonkeyPatch,
) -> Simulation:
    """Have a flow that exists, in some state."""
    handle = simulation.system.start(Orders.order, "ada", flow_id="a")
    simulation.run_until_idle()
    if request.param == "ended":
        handle.signal("amount", 1)
        assert handle.result() == "ada1"
    elif request.param == "paused":
        handle.pause()
    simulation.run_until_idle()
    if request.param != "running" and live_flows(simulation.system):
        passivate(simulation, "a")
    if request.param == "damaged":
        header = msgspec.structs.replace(store.inner.header("a"), damage="it has rotted", is_sound=False)
        monkeypatch.setattr(store, "header", lambda _: header, raising=False)
    return simulation


def test_the_same_start_again_gives_the_flow_that_exists_and_does_nothing_twice(existing: Simulation) -> None:
    history = kinds(existing.system.flow("a"))

    handle = existing.system.start(Orders.order, "ada", flow_id="a")
    existing.run_until_idle()

    assert worked == ["ada"]
    assert kinds(handle) == history
    if handle.status == "paused":
        handle.resume()
    if handle.status != "completed":
        handle.signal("amount", 1)
    assert handle.result() == "ada1"


def test_another_start_with_the_same_id_is_refused_and_nothing_comes_of_its_code(
    existing: Simulation,
) -> None:
    history = kinds(existing.system.flow("a"))

    for other in (Orders.order("bob"), Orders.at_once("ada"), Orders.fails("ada")):
        with pytest.raises(FlowAlreadyExists):
            existing.system.start(other, flow_id="a")
    existing.run_until_idle()

    assert worked == ["ada"]
    assert kinds(existing.system.flow("a")) == history
    handle = existing.system.flow("a")
    if handle.status == "paused":
        handle.resume()
    if handle.status != "completed":
        handle.signal("amount", 1)
    assert handle.result() == "ada1"


def test_the_stream_of_an_actor_is_not_taken_for_a_new_flow(simulation: Simulation) -> None:
    simulation.system.actor(Notes, "notes").ask(Notes.note)
    simulation.run_until_idle()

    with pytest.raises(FlowAlreadyExists, match="it is not a flow, but an actor"):
        simulation.system.start(Orders.order, "ada", flow_id="notes")


def test_what_is_asked_of_the_flow_meanwhile_is_answered_by_what_exists(simulation: Simulation) -> None:
    simulation.system.start(Orders.order, "ada", flow_id="a")
    simulation.run_until_idle()
    passivate(simulation, "a")

    start = simulation.system._start(Orders.at_once, ("ada",), {}, "a")
    same = simulation.system._start(Orders.order, ("ada",), {}, "a")
    pause = simulation.system.flow("a")._request(requests.PauseFlow("a", "", "", Reply()))
    simulation.run_until_idle()

    assert isinstance(refusal_of(start.reply), FlowAlreadyExists)
    assert same.reply.get(timeout=0) is None
    assert pause.get(timeout=0) is None
    assert simulation.system.flow("a").status == "paused"


def refusal_of(reply: Reply[Any]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        reply.get(timeout=0)
    return caught.value


def test_a_signal_is_not_checked_against_code_whose_start_is_not_recorded(simulation: Simulation) -> None:
    simulation.system.start(Orders.order, "ada", flow_id="a")
    simulation.run_until_idle()
    passivate(simulation, "a")
    start = simulation.system._start(Orders.order, ("bob",), {}, "a")
    supervisor: Supervisor = supervisor_of(simulation.system)
    while not supervisor._active:
        simulation.schedule.run_one()
    actor: Any = supervisor._active["a"].ref.actor_inbox.owner  # type: ignore[union-attr]
    while actor.machine is None:
        simulation.schedule.run_one()

    assert actor.is_unconfirmed
    assert actor.awaited_codec("amount") is None
    simulation.run_until_idle()
    assert isinstance(refusal_of(start.reply), FlowAlreadyExists)


# ------------------------------------------------------------------------------------- what goes wrong
def test_when_what_exists_cannot_be_read_the_start_is_answered_later(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation.system.start(Orders.order, "ada", flow_id="a")
    simulation.run_until_idle()
    passivate(simulation, "a")
    header = store.inner.header
    failures = iter([StoreUnavailable("not now")])

    def fail_once(flow_id: str) -> Any:
        for failure in failures:
            raise failure
        return header(flow_id)

    start = simulation.system._start(Orders.order, ("ada",), {}, "a")
    monkeypatch.setattr(store.inner, "header", fail_once)
    simulation.run_until_idle()
    simulation.advance(60)

    assert start.reply.get(timeout=0) is None
    assert worked == ["ada"]


def test_a_start_whose_commit_fails_is_not_confirmed_and_may_be_repeated(
    simulation: Simulation, store: FaultyStore
) -> None:
    def fail(_: int, store: FaultyStore) -> None:
        store.fail = None
        raise CommitUnknown("the disk is gone")

    store.fail = fail
    with pytest.raises(StoreUnavailable):
        simulation.system.start(Orders.at_once, "ada", flow_id="a")
    simulation.advance(60)

    assert simulation.system.start(Orders.at_once, "ada", flow_id="a").result() == "ada"


def test_a_new_flow_that_cannot_be_written_because_of_damage_is_looked_at(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = store.inner.commit
    refused: list[Any] = []

    def refuse_once(writes: Any) -> Any:
        if refused:
            return commit(writes)
        refused.extend(writes)
        return [RecordCorrupt("a", None, "it cannot be read") for _ in writes]

    monkeypatch.setattr(store.inner, "commit", refuse_once)

    assert simulation.system.start(Orders.at_once, "ada", flow_id="a").result() == "ada"
    assert bodies == ["ada", "ada"]


def test_code_that_blocks_at_its_start_is_not_held_against_the_flow_that_exists(
    make_system: Callable[..., FlowSystem], environment: Environment, pass_time: Any, gate: Gate
) -> None:
    Orders.gate = None
    system = make_system(Orders, environment=environment)
    first = system.start(Orders.order, "ada", flow_id="a")
    first.signal("amount", 1)
    assert first.result(DEAD_MAN_S) == "ada1"
    history = kinds(first)
    Orders.gate = gate

    for _ in range(2):
        start = system._start(Orders.order, ("ada",), {}, "a")
        if not gate.arrived.is_set():
            gate.wait()
            pass_time(6.0)
        assert start.reply.get(timeout=DEAD_MAN_S) is None  # the second time without its code

    assert kinds(first) == history
    assert first.status == "completed"
    Orders.gate = None


def test_a_flow_that_is_parked_because_it_blocks_is_not_begun_by_another_start(
    make_system: Callable[..., FlowSystem], environment: Environment, pass_time: Any, gate: Gate, path: Any
) -> None:
    Orders.gate = gate
    system = make_system(Orders, environment=environment, path=path)
    start = system._start(Orders.order, ("ada",), {}, "a")
    gate.wait()
    pass_time(6.0)
    start.reply.get(timeout=DEAD_MAN_S)
    bodies.clear()

    again = system.start(Orders.order, "ada", flow_id="a")
    assert again.status == "parked"
    with pytest.raises(FlowParked):
        again.result(DEAD_MAN_S)
    gate.open()
    system.close()

    # The next process has learned it when it has looked at all that is parked.
    system = make_system(Orders, path=path)
    assert system.start(Orders.order, "ada", flow_id="a").status == "parked"
    assert bodies == []
    Orders.gate = None


# --------------------------------------------------------------------------------- the result, at once
def test_only_a_completed_flow_has_its_result_told_with_its_start(simulation: Simulation) -> None:
    completes = simulation.system._start(Orders.at_once, ("ada",), {}, None)
    fails = simulation.system._start(Orders.fails, ("ada",), {}, None)
    waits = simulation.system._start(Orders.order, ("ada",), {}, "waits")
    simulation.run_until_idle()

    completed = completes.end.get(timeout=0)
    assert completed is not None
    assert msgspec.json.decode(completed.result) == "ada"
    assert fails.end.get(timeout=0) is None
    assert not waits.end.is_done
    passivate(simulation, "waits")
    assert waits.end.get(timeout=0) is None


def test_whoever_repeats_a_start_waits_for_the_same_end(simulation: Simulation) -> None:
    simulation.system.start(Orders.order, "ada", flow_id="a")
    again = simulation.system.start(Orders.order, "ada", flow_id="a")
    simulation.system.flow("a").signal("amount", 3)
    assert again.result() == "ada3"

    passivated = simulation.system.start(Orders.order, "bob", flow_id="b")
    simulation.run_until_idle()
    passivate(simulation, "b")
    simulation.system.flow("b").signal("amount", 4)
    assert passivated.result() == "bob4"


# ------------------------------------------------------------------------------------------ many starts
def test_only_so_many_starts_are_under_way_and_all_come_to_their_turn(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = simulation.system
    monkeypatch.setattr(system._starts, "_maximum", 3)
    most = 0

    def look() -> None:
        nonlocal most
        flows = supervisor_of(system)._active.values()
        most = max(most, sum(active.wake_flag.is_starting for active in flows))

    simulation.before_turn = look
    starts = [system._start(Orders.at_once, (str(n),), {}, None) for n in range(200)]
    simulation.run_until_idle()

    assert [start.reply.get(timeout=0) for start in starts] == [None] * 200
    simulation.before_turn = None
    assert most == 3
    assert not system._starts.waiting


def test_starts_that_wait_count_towards_overloaded_and_are_refused_at_the_end(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = simulation.system
    monkeypatch.setattr(admission, "_QUEUE_LIMIT", 20)
    monkeypatch.setattr(system._starts, "_maximum", 0)
    starts = [system._start(Orders.at_once, (str(n),), {}, None) for n in range(21)]
    simulation.run_until_idle()

    with pytest.raises(Overloaded):
        system.start(Orders.at_once, "one too many")
    system.close()

    assert all(isinstance(refusal_of(start.reply), SystemClosed) for start in starts)


def test_when_another_process_owns_the_store_starts_that_wait_are_refused(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation.system._starts, "_maximum", 0)
    start = simulation.system._start(Orders.at_once, ("ada",), {}, None)
    simulation.run_until_idle()
    fenced = StoreUnavailable("another process owns the store now")
    simulation.system.supervisor.tell(requests.StoreHealth(fenced))
    simulation.run_until_idle()

    assert refusal_of(start.reply) is fenced


@pytest.mark.parametrize("how", ["crashes", "cannot be started"])
def test_a_start_that_comes_to_nothing_makes_room(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    system = simulation.system
    starts: Starts = system._starts
    monkeypatch.setattr(starts, "_maximum", 1)
    recovery = type(supervisor_of(system)._context.recovery)
    name = "new" if how == "crashes" else "_launch"
    owner = recovery if how == "crashes" else type(supervisor_of(system))
    before = getattr(owner, name)
    failures = iter([ZeroDivisionError("once")])

    def fail_once(self: Any, *args: Any) -> Any:
        for failure in failures:
            if how == "crashes":
                raise failure
            self._hear(requests.Crashed(args[0].flow_id, args[0].incarnation, failure))
            return None
        return before(self, *args)

    monkeypatch.setattr(owner, name, fail_once)
    first = system._start(Orders.at_once, ("first",), {}, "first")
    second = system._start(Orders.at_once, ("second",), {}, "second")
    simulation.run_until_idle()
    assert second.reply.get(timeout=0) is None

    simulation.advance(60)
    if how == "crashes":
        assert isinstance(refusal_of(first.reply), StoreUnavailable)
    else:
        assert first.reply.get(timeout=0) is None
    assert supervisor_of(system)._active.get("first", None) is None or (
        supervisor_of(system)._active["first"].phase is ActorPhase.LIVE
    )
