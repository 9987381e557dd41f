"""Flows are read in pages when many are to be woken, and nobody but the loader waits for the store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import Flow, FlowNotFound, flow, query, step, wait_for
from persistasaurus.actors.flows import requests
from persistasaurus.actors.flows.active_flow import ActorPhase
from persistasaurus.actors.flows.loader import Load, Loader, Question
from persistasaurus.actors.flows.supervisor import Supervisor
from persistasaurus.actors.flows.timers import LoadDue, Timers
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import Deliver, EventReader, Inspection, LoadedStream, StoreHalted
from system.doubles import FaultyStore, crashing, live_flows, memory_store, supervisor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READ_S = 0.002
"""So long takes an answer of a store on another machine."""
READS = [name for name in vars(EventReader) if not name.startswith("_")]
REST_S = 60.0


class Works(Flow):
    @flow
    async def waits(self) -> int:
        return await wait_for("n", int)

    @flow
    async def counts(self, until: int) -> int:
        total = 0
        for number in range(until):
            total += await self.same(number)
        return total + await wait_for("n", int)

    @step
    def same(self, number: int) -> int:
        return number

    @query
    def there(self) -> bool:
        return True


class CountingStore(FaultyStore):
    """Counts the questions to it, and who is waiting for the answers."""

    def __init__(self) -> None:
        super().__init__(memory_store())
        self.asked: Counter[str] = Counter()
        self.askers: set[str] = set()
        self.at_work: list[str] = []
        for name in READS:
            setattr(self, name, self._counted(name))

    def _counted(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any, **options: Any) -> Any:
            self.asked[name] += 1
            self.askers.update(self.at_work[-1:])
            return getattr(self.inner, name)(*args, **options)

        return ask


@pytest.fixture
def store() -> Iterator[CountingStore]:
    store = CountingStore()
    yield store
    store.inner.close()


@pytest.fixture
def simulation(store: CountingStore) -> Iterator[Simulation]:
    def opened(_: Any) -> Any:
        store.reopen()
        return store

    with Simulation([Works], store=opened) as simulation:
        yield simulation


def halted(*_: Any, **__: Any) -> Any:
    raise StoreHalted("not now")


def watched(monkeypatch: pytest.MonkeyPatch, store: CountingStore, *kinds: Any) -> None:
    """Have the store know which of these actors has its turn."""
    for kind in kinds:

        def on_receive(self: Any, message: Any, original: Any = kind.on_receive) -> Any:
            store.at_work.append(type(self).__name__)
            try:
                return original(self, message)
            finally:
                store.at_work.pop()

        monkeypatch.setattr(kind, "on_receive", on_receive)


def waiting(simulation: Simulation, count: int) -> list[str]:
    names = [f"flow-{number}" for number in range(count)]
    for name in names:
        simulation.system.start(Works.waits, flow_id=name)
    simulation.advance(REST_S)
    assert not live_flows(simulation.system)
    return names


def test_a_store_whose_answers_take_two_milliseconds_recovers_a_thousand_flows_in_a_second(
    simulation: Simulation, store: CountingStore
) -> None:
    names = waiting(simulation, 1000)
    simulation.stop()
    store.inner.commit([Deliver(name, "n", "key", b"7", 0) for name in names])
    store.asked.clear()

    simulation.boot()
    simulation.run_until_idle()

    assert [h.status for h in store.inner.headers(limit=2000)] == ["completed"] * len(names)
    assert store.asked.total() * READ_S < len(names) / 1000, store.asked


def test_to_wake_a_flow_takes_one_question(simulation: Simulation, store: CountingStore) -> None:
    (name,) = waiting(simulation, 1)
    store.asked.clear()

    simulation.system.client.wake(name)
    simulation.run_until_idle()

    assert live_flows(simulation.system) == {name}
    assert store.asked == Counter({"load": 1})


def test_a_history_that_is_longer_than_a_page_is_read_on(simulation: Simulation) -> None:
    handle = simulation.system.start(Works.counts, 200)
    simulation.advance(REST_S)
    assert len(handle.events()) > 256
    assert not live_flows(simulation.system)

    handle.signal("n", 1)
    assert handle.result(1) == sum(range(200)) + 1


def test_neither_the_supervisor_nor_the_timers_wait_for_the_store(
    simulation: Simulation, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(monkeypatch, store, Supervisor, Timers)
    names = waiting(simulation, 3)
    simulation.system.flow(names[0]).signal("n", 1)
    assert simulation.system.flow(names[0]).result(1) == 1
    assert simulation.system.flow(names[1]).query(Works.there)
    simulation.system.flow(names[2]).pause()
    simulation.stop()
    simulation.boot()
    simulation.advance(REST_S)
    with pytest.raises(FlowNotFound):
        simulation.system.flow("nobody").result(1)

    assert store.asked["due"]
    assert store.asked["inspect"]
    assert not store.askers


def test_flows_that_are_not_to_run_get_no_actor_when_they_are_woken(
    simulation: Simulation, store: CountingStore
) -> None:
    ended, paused = waiting(simulation, 2)
    simulation.system.flow(ended).signal("n", 1)
    simulation.system.flow(paused).pause()
    simulation.advance(REST_S)
    started = supervisor_of(simulation.system)._incarnations

    for name in (ended, paused, "nobody"):
        simulation.system.client.wake(name)
    simulation.run_until_idle()

    assert not live_flows(simulation.system)
    assert simulation.system.statistics().live_flows == 0
    assert supervisor_of(simulation.system)._activating == 0
    assert supervisor_of(simulation.system)._incarnations > started  # each was looked at


# ------------------------------------------------------------------------------------------ the loader alone
def test_an_error_of_the_store_goes_to_all_who_asked_and_the_loader_goes_on(
    simulation: Simulation, store: CountingStore
) -> None:
    ref = Loader.start_on(simulation.system._reading, store)  # type: ignore[arg-type]
    found: list[Any] = []

    store.__dict__["load"] = halted
    for name in "ab":
        ref.tell(Load(name, lambda *answer: found.append(answer)))
    ref.tell(Question(lambda store: store.load([]), found.append))
    simulation.run_until_idle()
    del store.__dict__["load"]
    ref.tell(Load("a", lambda *answer: found.append(answer)))
    simulation.run_until_idle()

    assert [(str(error), is_flow) for error, is_flow in found[:2]] == [("not now", False)] * 2
    assert isinstance(found[2], StoreHalted)
    assert found[3:] == [(None, False)]


def test_what_was_not_written_for_a_flow_that_cannot_be_judged_is_said_to_who_asked(
    simulation: Simulation, store: CountingStore
) -> None:
    name, _ = waiting(simulation, 2)
    found: list[Any] = []
    damaged = store.inner.load([name])[0].header  # type: ignore[union-attr]
    lying = LoadedStream(msgspec.structs.replace(damaged, is_sound=False), [], [], has_more=False)
    store.__dict__["load"] = lambda *_, **__: [lying]
    store.__dict__["scan"] = lambda *_, **__: 1 / 0
    ref = Loader.start_on(simulation.system._reading, store)  # type: ignore[arg-type]

    ref.tell(Load(name, lambda *answer: found.append(answer)))
    simulation.run_until_idle()

    ((error, is_flow),) = found
    assert isinstance(error, ZeroDivisionError)
    assert not is_flow


# ------------------------------------------------------------------------------------ answers that come late
def test_an_answer_for_an_earlier_attempt_to_start_a_flow_changes_nothing(simulation: Simulation) -> None:
    (name,) = waiting(simulation, 1)
    supervisor = supervisor_of(simulation.system)
    simulation.system.client.wake(name)
    simulation.run_until_idle()
    before = supervisor._active[name].ref

    for incarnation in (0, supervisor._active[name].incarnation):
        supervisor.on_receive(requests.Loaded(name, incarnation, None, is_flow=False))
    supervisor.on_receive(requests.Loaded("nobody", 1, None, is_flow=False))

    assert supervisor._active[name].ref is before


def test_an_error_that_is_not_the_stores_goes_to_who_has_asked_for_a_flow(
    simulation: Simulation, store: CountingStore
) -> None:
    (name,) = waiting(simulation, 1)
    load = store.__dict__["load"]
    store.__dict__["load"] = lambda *_, **__: 1 / 0

    with pytest.raises(ZeroDivisionError):
        simulation.system.flow(name).query(Works.there)
    store.__dict__["load"] = load
    assert simulation.system.flow(name).query(Works.there)


def test_answers_that_come_when_the_system_closes_start_nobody(simulation: Simulation) -> None:
    (name,) = waiting(simulation, 1)
    supervisor = supervisor_of(simulation.system)
    for message in (requests.LookAtHeaders(), requests.ResumeRecoverable(), requests.Drain(Reply())):
        supervisor.on_receive(message)
    simulation.run_until_idle()

    assert not live_flows(simulation.system)
    supervisor._inspected(requests.LookAtHeaders(), Inspection([], is_index_damaged=True, after=1))
    supervisor._resume([(name, None)])
    assert not live_flows(simulation.system)


def test_a_pause_whose_flow_has_begun_meanwhile_is_recorded_by_its_actor(simulation: Simulation) -> None:
    (name,) = waiting(simulation, 1)
    supervisor = supervisor_of(simulation.system)
    supervisor._is_held_back = True
    pause = requests.PauseFlow(name, "", "", Reply())
    supervisor.on_receive(pause)
    supervisor._is_held_back = False
    simulation.run_until_idle()

    assert pause.reply.get(timeout=0) is None
    assert simulation.system.flow(name).status == "paused"


def test_without_a_loader_nobody_starts_and_nobody_is_forgotten(simulation: Simulation) -> None:
    (name,) = waiting(simulation, 1)
    system, supervisor = simulation.system, supervisor_of(simulation.system)
    working, gone = supervisor._loader, Loader.start_on(system._reading, system.store)
    gone.stop()
    simulation.run_until_idle()
    timers = system._timers.actor_inbox.owner
    supervisor._loader = timers._loader = gone

    system.client.wake(name)
    system._timers.tell(LoadDue())
    simulation.run_until_idle()
    assert supervisor._active[name].ref is None
    supervisor._loader = timers._loader = working
    simulation.advance(1)

    assert supervisor._active[name].ref is not None


def test_a_flow_that_has_crashed_and_cannot_be_read_then_is_tried_again(
    simulation: Simulation, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = waiting(simulation, 1)
    load = store.__dict__["load"]
    crashes = crashing(monkeypatch, name)
    simulation.system.client.wake(name)
    simulation.run_until_idle()
    assert len(crashes) == 1

    store.__dict__["load"] = halted
    simulation.advance(0.1)
    assert supervisor_of(simulation.system)._active[name].phase is ActorPhase.BACKOFF
    store.__dict__["load"] = load
    crashes[:] = [-1]
    simulation.advance(1)

    assert supervisor_of(simulation.system)._active[name].phase is ActorPhase.LIVE


def test_parked_flows_are_not_looked_at_once_the_system_closes(
    simulation: Simulation, store: CountingStore
) -> None:
    waiting(simulation, 1)
    supervisor = supervisor_of(simulation.system)
    store.asked.clear()
    for message in (requests.Drain(Reply()), requests.ResumeRecoverable(), requests.LookAtHeaders()):
        supervisor.on_receive(message)
    simulation.run_until_idle()

    assert not store.asked
