"""References outlive what they lead to: actors are passivated and woken, and no accepted message is lost."""

from __future__ import annotations

import gc
import weakref
from datetime import timedelta
from itertools import accumulate
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    ActorFailed,
    DeadlockError,
    EventSourcedActor,
    Flow,
    FlowFailed,
    FlowSystem,
    MailboxFull,
    Refused,
    StoreUnavailable,
    SystemClosed,
    command,
    flow,
    query,
    step,
)
from persistasaurus.actors.entities import entity_actor
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows.entities.actor import definition_of
from system.doubles import DEAD_MAN_S, FaultyStore, Gate, memory_store, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Counted(msgspec.Struct, tag="counted"):
    n: int = 1


class CountState(msgspec.Struct):
    count: int = 0
    ratio: float = 0.0


class Held:
    """What holds the command `wait` up."""

    gate = Gate()


class Counter(EventSourcedActor[CountState, Counted], name="counter"):
    passivate_after = timedelta(seconds=10)
    mailbox = 5

    def apply(self, state: CountState, event: Counted) -> None:
        state.count += event.n
        if event.n == 7:
            state.ratio = float("nan")

    @command
    def add(self, n: int = 1) -> int:
        self.record(Counted(n))
        return self.state.count

    @command
    def add_many(self, n: int) -> int:
        for _ in range(n):
            self.record(Counted())
        return self.state.count

    @command
    def add_in_vain(self) -> None:
        self.record(Counted(1000))
        raise Refused("in vain")

    @command
    def wait(self) -> int:
        Held.gate()
        return self.state.count

    @command
    def ask_other(self, name: str, more: list[str]) -> int:
        Held.gate()
        if more:
            return system_of[0].actor(Counter, name).ask(Counter.ask_other, more[0], more[1:])
        return system_of[0].actor(Counter, name).ask(Counter.count)

    @query
    def count(self) -> int:
        return self.state.count


class Lasting(Counter, name="lasting"):
    passivate_after = None
    mailbox = 10_000


class Impatient(Flow):
    @flow
    async def body(self) -> int:
        return system_of[0].actor(Counter, "a").ask(Counter.count)

    @flow(name="steps")
    async def steps(self) -> list[int]:
        return [await self.threaded(), await self.on_loop()]

    @step
    def threaded(self) -> int:
        return system_of[0].actor(Counter, "a").ask(Counter.add)

    @step
    async def on_loop(self) -> int:
        ref = system_of[0].actor(Counter, "a")
        with pytest.raises(DeadlockError, match=r"await ask_async\(\)"):
            ref.ask(Counter.count)
        return await ref.ask_async(Counter.add)


system_of: list[FlowSystem] = []


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    Held.gate = Gate()
    system_of.clear()
    yield
    Held.gate.open()


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation([], actors=[Counter, Lasting]) as simulation:
        yield simulation


@pytest.fixture
def system(make_system: Callable[..., FlowSystem]) -> FlowSystem:
    system = make_system(Impatient, actors=[Counter, Lasting], workers=2)
    system_of.append(system)
    return system


# ----------------------------------------------------------------------------------------- passivation
def test_an_idle_actor_is_passivated_and_the_next_message_wakes_it(simulation: Simulation) -> None:
    counter = simulation.system.actor(Counter, "c")
    lasting = simulation.system.actor(Lasting, "l")
    assert (counter.ask(Counter.add), lasting.ask(Lasting.add)) == (1, 1)
    gone = weakref.ref(simulation.system.entities._live["c"])
    assert simulation.system.statistics().live_actors == 2
    simulation.advance(6)
    assert counter.ask(Counter.count) == 1
    simulation.advance(9.9)
    assert simulation.system.statistics().live_actors == 2

    simulation.advance(0.2)
    gc.collect()
    assert (simulation.system.statistics().live_actors, gone()) == (1, None)
    simulation.advance(1000)
    assert set(simulation.system.entities._live) == {"l"}
    assert (counter.ask(Counter.add), lasting.ask(Lasting.add)) == (2, 2)


def test_a_reference_outlives_a_crash_of_the_process_in_name_only(simulation: Simulation) -> None:
    simulation.system.actor(Counter, "c").ask(Counter.add, 3)
    simulation.crash()

    assert simulation.system.actor(Counter, "c").ask(Counter.count) == 3


def test_a_message_that_comes_just_when_its_actor_would_rest_is_handled(simulation: Simulation) -> None:
    counter = simulation.system.actor(Counter, "c")
    counter.ask(Counter.add)
    entity = simulation.system.entities._live["c"]
    entity._on_instant()  # before its time
    simulation.run_until_idle()
    assert simulation.system.entities.live == 1

    simulation.clock.advance(10)
    counter.tell(Counter.add)
    simulation.run_until_idle()
    assert simulation.system.entities._live["c"] is entity
    simulation.advance(10)
    assert simulation.system.entities.live == 0
    assert counter.ask(Counter.count) == 2


def test_an_actor_does_not_rest_while_its_commit_is_under_way(simulation: Simulation) -> None:
    counter = simulation.system.actor(Counter, "c")
    reply = counter._sent(Counter.add, (), {})
    entity = simulation.system.entities
    simulation.run_until_idle()
    live = entity._live["c"]
    live._under_way = []
    simulation.advance(10)
    assert entity._live["c"] is live
    live._under_way = None
    simulation.advance(10)

    assert (reply.get(timeout=0), entity.live) == (1, 0)


def test_threads_that_ask_while_actors_come_and_go_lose_nothing(
    make_system: Callable[..., FlowSystem],
) -> None:
    """Passivation at each instant that the machine finds, by actors that are idle at once."""

    class Restless(Lasting, name="restless"):
        passivate_after = timedelta(microseconds=1)

    system = make_system(actors=[Restless], workers=2)
    wrong: list[Any] = []

    def ask(number: int) -> None:
        rng = Random(number)
        known = 0
        ref = system.actor(Restless, f"r{number % 2}")
        for _ in range(150):
            for _ in range(rng.randrange(4)):
                ref.tell(Restless.add, 1)
                known += 1
            found = ref.ask(Restless.add, 1, timeout=DEAD_MAN_S)
            known += 1
            if found < known:
                wrong.append((number, found, known))
        totals.append(known)

    totals: list[int] = []
    threads = [Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not wrong
    assert sum(system.actor(Restless, f"r{n}").ask(Restless.count) for n in range(2)) == sum(totals)


def test_that_two_actors_live_in_one_stream_is_noticed(simulation: Simulation) -> None:
    counter = simulation.system.actor(Counter, "c")
    counter.ask(Counter.add)
    directory = simulation.system.entities
    first = directory._live.pop("c")

    with pytest.raises(ActorFailed, match="has crashed before it came"):
        counter.ask(Counter.count)
    directory._live["c"] = first
    assert counter.ask(Counter.count) == 1
    directory._live.clear()
    first._left()


def test_an_actor_can_be_looked_at_between_two_turns(simulation: Simulation) -> None:
    definition = definition_of(Counter)
    simulation.system.actor(Counter, "c").ask(Counter.add, 3)

    assert simulation.system.entities.awake(definition, "c").state == CountState(3)
    simulation.crash()
    assert simulation.system.entities.awake(definition, "c").state == CountState(3)
    assert simulation.system.entities.awake(definition, "new").state == CountState()
    simulation.crash()
    simulation.system._is_writable = False
    with pytest.raises(StoreUnavailable):
        simulation.system.entities.awake(definition, "c")
    assert simulation.system.store.header("new") is None


def test_an_actor_without_a_state_says_nothing_of_it() -> None:
    assert entity_actor.EntityActor(definition_of(Counter), "c", None).state is None  # type: ignore[arg-type]


def test_an_actor_that_has_crashed_keeps_no_close_waiting(system: FlowSystem) -> None:
    counter = system.actor(Counter, "c")
    assert counter.ask(Counter.add) == 1
    live = system.entities._live["c"]
    live.actor_ref.stop()
    wait_until(live.actor_stopped.is_set)
    assert system.entities.finish() == []


def test_who_waits_for_an_actor_to_finish_is_told_when_it_ends_before(simulation: Simulation) -> None:
    counter = simulation.system.actor(Counter, "c")
    counter.ask(Counter.add)
    (live,) = simulation.system.entities._live.values()
    live._under_way = []
    (finished,) = simulation.system.entities.finish()
    simulation.run_until_idle()
    assert not finished.is_done
    live.actor_ref.stop(block=False)
    simulation.run_until_idle()

    assert finished.is_done


# --------------------------------------------------------------------------------------------- mailbox
def test_a_mailbox_bounds_all_that_waits_and_the_sender_is_told(system: FlowSystem) -> None:
    counter = system.actor(Counter, "c")
    waits = counter._sent(Counter.wait, (), {})
    Held.gate.wait()
    for _ in range(4):
        counter.tell(Counter.add)
    for _ in range(2):
        with pytest.raises(MailboxFull, match="Actor counter 'c' has 5 messages that wait; this one was not"):
            counter.tell(Counter.add)
    with pytest.raises(MailboxFull):
        counter.ask(Counter.add)
    Held.gate.open()

    assert waits.get(timeout=DEAD_MAN_S) == 0
    wait_until(lambda: counter.ask(Counter.count) == 4)


def test_what_waits_for_a_commit_counts_as_well(make_system: Callable[..., FlowSystem]) -> None:
    gate = Gate()

    def slow(_: int, store: FaultyStore) -> None:
        store.fail = None
        gate()

    store = FaultyStore(memory_store())
    counter = make_system(actors=[Counter], store=store, workers=2).actor(Counter, "c")
    assert counter.ask(Counter.count) == 0
    store.fail = slow
    replies = [counter._sent(Counter.add, (), {}) for _ in range(5)]
    gate.wait()
    wait_until(lambda: not counter._directory._live["c"].actor_inbox.has_mail())
    with pytest.raises(MailboxFull):
        counter.ask(Counter.count)
    gate.open()

    assert [reply.get(timeout=DEAD_MAN_S) for reply in replies] == [1, 2, 3, 4, 5]


def test_a_commit_has_a_bounded_number_of_records_and_messages_keep_their_order(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity_actor, "_RECORDS_MAX", 4)
    lasting = simulation.system.actor(Lasting, "l")
    sizes: list[int] = []
    simulation.on_commit.append(lambda writes, _: sizes.extend(len(w.records) for w in writes))
    replies = [lasting._sent(Lasting.add_many, (n % 3,), {}) for n in range(60)]
    simulation.run_until_idle()

    found = [reply.get(timeout=0) for reply in replies]
    assert found == list(accumulate(n % 3 for n in range(60)))
    assert max(sizes) <= 5


def test_a_state_that_cannot_be_kept_is_made_anew_from_the_log_when_a_command_is_undone(
    simulation: Simulation,
) -> None:
    lasting = simulation.system.actor(Lasting, "l")
    assert lasting.ask(Lasting.add, 7) == 7
    simulation.crash()
    lasting = simulation.system.actor(Lasting, "l")
    calls = [Lasting.add, Lasting.add_in_vain, Lasting.add, Lasting.count, Lasting.add_in_vain, Lasting.add]
    replies = [lasting._sent(call, (), {}) for call in calls]
    simulation.run_until_idle()

    found = [str(_outcome(reply)) for reply in replies]
    assert found == ["8", "in vain", "9", "9", "in vain", "10"]
    with pytest.raises(Refused):
        lasting.ask(Lasting.add_in_vain)
    assert lasting.ask(Lasting.count) == 10


def _outcome(reply: Any) -> Any:
    try:
        return reply.get(timeout=0)
    except Refused as error:
        return error


# -------------------------------------------------------------------------------------------- deadlocks
def test_actors_that_wait_for_each_other_are_told_and_others_may_wait(system: FlowSystem) -> None:
    Held.gate.open()
    a, b = system.actor(Counter, "a"), system.actor(Counter, "b")

    assert a.ask(Counter.ask_other, "b", []) == 0
    with pytest.raises(DeadlockError, match="the handler of actor 'a' asks itself: neither"):
        a.ask(Counter.ask_other, "a", [])
    with pytest.raises(DeadlockError, match="the handler of actor 'c' asks 'a', which waits for it: neither"):
        a.ask(Counter.ask_other, "b", ["c", "a"])
    assert b.ask(Counter.ask_other, "a", []) == 0
    assert not system.entities._waits


def test_a_flow_asks_in_its_steps_only(system: FlowSystem) -> None:
    with pytest.raises(FlowFailed, match="a flow's body used the FlowSystem; do that in a step"):
        system.run(Impatient.body)

    assert system.run(Impatient.steps) == [1, 2]


def test_a_system_that_is_closed_while_an_actor_would_start_says_so(system: FlowSystem) -> None:
    directory = system.entities
    system._working.close(1)

    with pytest.raises(SystemClosed):
        system.actor(Counter, "c").ask(Counter.count)
    assert directory.finish() == []
    with pytest.raises(SystemClosed):
        directory.awake(definition_of(Counter), "c")
