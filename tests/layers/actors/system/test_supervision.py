"""The supervisor, where something goes wrong that hardly ever does: each flow's trouble is its own affair."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import (
    EventSourcedActor,
    Flow,
    FlowHandle,
    FlowNotFound,
    FlowParked,
    StoreUnavailable,
    SupervisorRules,
    SystemClosed,
    command,
    flow,
    query,
    wait_for,
)
from persistasaurus.actors.flows import requests
from persistasaurus.actors.flows import supervisor as module
from persistasaurus.actors.flows.active_flow import ActorPhase, RestartRules
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.restarts import Restarts
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows.events import Failure, FlowFailed
from persistasaurus.store import (
    Append,
    CommitUnknown,
    Header,
    Inspection,
    RecordCorrupt,
    StoreFenced,
    StoreFull,
    StoreHalted,
)
from system.doubles import (
    FaultyStore,
    crashing,
    kinds,
    live_flows,
    losing_records,
    memory_store,
    supervisor_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persistasaurus import FlowSystem

REST_S = 60.0
RULES = SupervisorRules(restart=RestartRules(initial_s=1.0, jitter=0, max_restarts=2, period_s=60.0))


class Counts(Flow):
    def __init__(self) -> None:
        self.count = 0

    @flow
    async def main(self, until: int = 1) -> int:
        while self.count < until:
            self.count += await wait_for("n", int)
        return self.count

    @query
    def so_far(self) -> int:
        return self.count


class Noted(msgspec.Struct, tag="noted"):
    what: str


class NotesState(msgspec.Struct):
    count: int = 0


class Notes(EventSourcedActor[NotesState, Noted], name="notes"):
    def apply(self, state: NotesState, event: Noted) -> None:
        state.count += 1

    @command
    def note(self, what: str) -> None:
        self.record(Noted(what))


@pytest.fixture
def store() -> Iterator[FaultyStore]:
    store = FaultyStore(memory_store())
    yield store
    store.inner.close()


@pytest.fixture
def simulate(store: FaultyStore) -> Iterator[Callable[..., Simulation]]:
    """Simulate processes on one store, which fails as it is told."""
    made: list[Simulation] = []

    def opened(_: Any) -> Any:
        store.reopen()
        return store

    def make(**options: Any) -> Simulation:
        simulation = Simulation([Counts], actors=[Notes], store=opened, **{"rules": RULES, **options})
        made.append(simulation)
        return simulation

    yield make
    for simulation in made:
        simulation.close()


@pytest.fixture
def simulation(simulate: Callable[..., Simulation]) -> Simulation:
    return simulate()


def rest(simulation: Simulation) -> None:
    simulation.advance(REST_S)
    assert not live_flows(simulation.system)


def parked_by_crashes(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> tuple[FlowHandle[Any], list[int]]:
    """Have a flow crash until it is parked; its crashes are those of `crashing`."""
    handle = simulation.system.start(Counts.main, flow_id="bad")
    rest(simulation)
    crashes = crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    simulation.advance(10)
    assert handle.status == "parked"
    return handle, crashes


def pause(handle: FlowHandle[Any]) -> Reply[None]:
    """Ask for a pause, and do not wait for the answer."""
    return handle._request(requests.PauseFlow(handle.id, "", "", Reply()))


def active(system: FlowSystem, flow_id: str) -> Any:
    return supervisor_of(system)._active[flow_id]


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def failing_once(owner: Any, name: str, error: Exception) -> None:
    """Have one call of a double's method fail."""

    def fail(*_: Any, **__: Any) -> Any:
        delattr(owner, name)
        raise error

    setattr(owner, name, fail)


# ------------------------------------------------------------------------------------ its own mistakes
def test_an_error_in_the_supervisor_itself_goes_to_whoever_asked_and_flows_go_on(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Counts.main)
    rest(simulation)
    supervisor = supervisor_of(simulation.system)

    failing_once(supervisor, "_activate", ZeroDivisionError("injected"))
    with pytest.raises(ZeroDivisionError, match="injected"):
        handle.pause()
    failing_once(supervisor, "_activate", ZeroDivisionError("injected"))
    simulation.system.client.wake(handle.id)
    simulation.run_until_idle()

    assert caplog.text.count("The supervisor could not handle Pause") == 1
    assert caplog.text.count("The supervisor could not handle Wake") == 1
    handle.signal("n", 1)
    assert handle.result(1) == 1


def test_a_message_that_the_supervisor_does_not_know_is_logged_and_harms_nobody(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Counts.main)
    simulation.system.supervisor.tell("hello?")
    handle.signal("n", 1)

    assert handle.result(1) == 1
    assert "The supervisor does not know 'hello?'" in caplog.text


STALE = [
    requests.Recovered("flow", 0, is_over=True),
    requests.Idle("flow", 0),
    requests.Busy("flow", 0),
    requests.Passivated("flow", 0),
    requests.Ended("flow", 0, FlowFailed(Failure("OSError", "")), has_left=True),
    requests.Crashed("flow", 0, OSError()),
    requests.Restart("flow", 0),
    requests.NotParked("flow", 0, RuntimeError("late")),
]


@pytest.mark.parametrize("report", STALE, ids=lambda report: type(report).__name__)
@pytest.mark.parametrize("phase", [ActorPhase.ACTIVATING, ActorPhase.LIVE])
def test_a_report_of_an_earlier_actor_of_a_flow_changes_nothing(
    simulation: Simulation, report: Any, phase: ActorPhase, caplog: pytest.LogCaptureFixture
) -> None:
    system = simulation.system
    handle = system.start(Counts.main, flow_id="flow")
    if phase is ActorPhase.ACTIVATING:
        rest(simulation)
        handle._request(requests.Ask("flow", Counts.so_far().query, (), {}, Reply()))
        while not live_flows(system):
            simulation.schedule.run_one()
    before = active(system, "flow")
    stood = (before.phase, before.incarnation, before.is_over)
    assert before.phase is phase

    supervisor_of(system).on_receive(report)

    assert active(system, "flow") is before
    assert (before.phase, before.incarnation, before.is_over) == stood
    handle.signal("n", 1)
    assert handle.result(1) == 1
    assert not errors_in(caplog)
    assert supervisor_of(system)._activating == 0


@pytest.mark.parametrize("report", STALE, ids=lambda report: type(report).__name__)
def test_a_report_about_a_flow_that_is_at_rest_changes_nothing(
    simulation: Simulation, report: Any, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Counts.main, flow_id="flow")
    rest(simulation)

    simulation.system.supervisor.tell(report)
    simulation.run_until_idle()

    assert not live_flows(simulation.system)
    assert supervisor_of(simulation.system)._activating == 0
    assert not errors_in(caplog)
    handle.signal("n", 1)
    assert handle.result(1) == 1


# -------------------------------------------------------------------------------- a store that fails
def test_a_request_for_a_flow_that_can_not_be_looked_up_is_refused_and_nothing_is_written(
    simulation: Simulation, store: FaultyStore
) -> None:
    handle = simulation.system.start(Counts.main)
    rest(simulation)
    before = kinds(handle)

    failing_once(store, "header", StoreHalted("not now, injected"))
    with pytest.raises(StoreUnavailable, match="not now, injected"):
        handle.pause()

    assert kinds(handle) == before
    handle.pause()
    assert handle.status == "paused"


def test_a_flow_that_can_not_be_looked_up_when_it_is_to_wake_is_woken_later(
    simulation: Simulation, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Counts.main, flow_id="flow")
    rest(simulation)
    failing_once(store, "header", StoreHalted("not now, injected"))
    simulation.system.client.wake("flow")
    simulation.run_until_idle()
    assert caplog.text.count("Flow 'flow' could not be looked up, and will be later") == 1
    assert not live_flows(simulation.system)

    simulation.system.client.wake("flow")
    simulation.run_until_idle()
    assert live_flows(simulation.system) == {"flow"}
    assert handle.status == "waiting"


def test_nobody_is_woken_for_what_is_no_flow(simulation: Simulation) -> None:
    system = simulation.system
    assert system.actor(Notes, "notes").ask(Notes.note, "a") is None
    pauses = [requests.PauseFlow(name, "", "", Reply()) for name in ("nobody", "notes")]
    for pause in pauses:
        system.client.wake(pause.flow_id)
        system.client.ask(pause)
    simulation.run_until_idle()

    assert not live_flows(system)
    for pause in pauses:
        with pytest.raises(FlowNotFound, match=pause.flow_id):
            pause.reply.get(timeout=0)


def test_parked_flows_that_can_not_be_looked_at_now_stay_parked_and_all_others_go_on(
    simulation: Simulation, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    parked(simulation, 1)
    failing_once(store, "headers", StoreHalted("not now, injected"))
    system = simulation.boot()

    other = system.start(Counts.main)
    other.signal("n", 1)
    assert other.result(1) == 1
    assert "Parked flows could not be looked at: not now, injected" in caplog.text
    assert system.flow("flow-0").status == "parked"


def test_what_waits_for_a_crashed_flow_is_refused_when_the_store_is_halted_and_the_flow_goes_on_later(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, other = (simulation.system.start(Counts.main, flow_id=name) for name in ("bad", "other"))
    rest(simulation)
    crashes = crashing(monkeypatch, "bad")
    held = pause(bad)
    simulation.run_until_idle()
    assert active(simulation.system, "bad").phase is ActorPhase.BACKOFF
    assert not held.is_done

    def full(_: int, store: FaultyStore) -> None:
        store.fail = None
        store.before_reopen = lambda: failing_once(store, "before_reopen", StoreFull("full, injected"))
        store.inner._halted = error = StoreFull("full, injected")
        raise error

    store.fail = full
    with pytest.raises(StoreUnavailable, match="nothing was written"):
        other.signal("n", 1, signal_id="one")
    simulation.run_until_idle()
    with pytest.raises(StoreUnavailable, match="the store is halted: nothing was written"):
        held.get(timeout=0)

    crashes[:] = [-1]
    simulation.advance(1)
    for handle in (bad, other):
        handle.signal("n", 1, signal_id="one")
        assert handle.result(1) == 1
    assert "paused" not in kinds(bad)


def test_what_waits_for_a_flow_that_the_halted_store_has_crashed_is_refused(simulation: Simulation) -> None:
    handle = simulation.system.start(Counts.main, flow_id="bad")
    simulation.run_until_idle()
    supervisor, live = supervisor_of(simulation.system), active(simulation.system, "bad")
    supervisor.on_receive(requests.StoreHealth(False))
    live.ref.actor_inbox.owner._stop()  # it has crashed, and its last word is on the way
    held = pause(handle)
    simulation.run_until_idle()
    assert not held.is_done

    supervisor.on_receive(requests.Crashed("bad", live.incarnation, StoreUnavailable("injected")))
    with pytest.raises(StoreUnavailable, match="the store is halted"):
        held.get(timeout=0)


def test_what_waits_for_a_crashed_flow_hears_at_once_that_another_process_owns_the_store(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = simulation.system
    bad, other = (system.start(Counts.main, flow_id=name) for name in ("bad", "other"))
    rest(simulation)
    crashes = crashing(monkeypatch, "bad")
    held = pause(bad)
    simulation.run_until_idle()

    def fenced(*_: Any) -> None:
        raise StoreFenced("epoch 2, injected")

    store.fail = fenced
    with pytest.raises(StoreUnavailable, match="another process owns the store"):
        other.signal("n", 1)
    on_their_way = [requests.Watch("other", Reply()), requests.PauseFlow("other", "", "", Reply())]
    for request in on_their_way:
        system.client.ask(request)
    simulation.run_until_idle()

    for reply in (held, *(request.reply for request in on_their_way)):
        with pytest.raises(StoreUnavailable, match="another process owns the store"):
            reply.get(timeout=0)
    assert "bad" not in live_flows(system)
    simulation.advance(REST_S)
    assert "bad" not in live_flows(system)
    assert len(crashes) == 1


@pytest.mark.parametrize("error", [StoreFull("injected"), CommitUnknown("injected")], ids=repr)
def test_that_a_flow_crashes_is_recorded_once_the_store_takes_it(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    handle = simulation.system.start(Counts.main, flow_id="bad")
    rest(simulation)
    crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    watch = handle._watch()
    lost: list[str] = []

    def lose(_: int, store: FaultyStore) -> None:
        store.fail = None
        lost.append(store.writes[0].records[0].kind)
        store.inner._halted = error  # type: ignore[assignment]
        raise error

    store.fail = lose
    simulation.advance(REST_S)

    assert lost == ["parked"]
    with pytest.raises(FlowParked, match="injected"):
        watch.reply.get(timeout=0)
    assert kinds(handle).count("parked") == 1


def test_a_flow_that_crashes_while_its_store_can_not_be_read_is_parked_when_it_can(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = simulation.system.start(Counts.main, flow_id="bad")
    rest(simulation)
    crashes = crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    simulation.advance(1.5)
    assert len(crashes) == 2
    original = Restarts._park

    def park(self: Restarts, *args: Any) -> None:
        failing_once(store, "header", StoreHalted("not now, injected"))
        monkeypatch.setattr(Restarts, "_park", original)
        self._park(*args)

    monkeypatch.setattr(Restarts, "_park", park)
    simulation.advance(2)

    assert "parked" not in kinds(handle)
    simulation.advance(5)
    assert kinds(handle)[-1] == "parked"
    assert len(crashes) == 4


@pytest.mark.parametrize("name", ["on_start", "_on_wake"])
def test_a_flow_whose_actor_comes_upon_damage_where_nobody_expects_it_is_parked_at_once(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    handle = simulation.system.start(Counts.main, flow_id="bad")
    if name == "on_start":
        rest(simulation)

    def damaged(_: FlowActor) -> None:
        raise RecordCorrupt("bad", 1, "injected")

    monkeypatch.setattr(FlowActor, name, damaged)
    handle.signal("n", 1)
    with pytest.raises(FlowParked, match="injected") as caught:
        handle.result(0.5)

    assert caught.value.reason == "unreadable"


def refusing(store: FaultyStore, monkeypatch: pytest.MonkeyPatch, refused: Callable[[Any], bool]) -> None:
    """Have a store refuse some writes because of damage."""
    original = store.commit

    def commit(writes: Any) -> Any:
        if any(refused(write) for write in writes):
            return [RecordCorrupt("bad", 1, "injected")] * len(writes)
        return original(writes)

    monkeypatch.setattr(store, "commit", commit)


def test_a_flow_whose_log_takes_no_more_is_parked_by_its_header_alone(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    handle = simulation.system.start(Counts.main, flow_id="bad")
    rest(simulation)
    crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    refusing(store, monkeypatch, lambda write: bool(getattr(write, "records", ())))
    simulation.advance(10)

    assert handle.status == "parked"
    assert "parked" not in kinds(handle)
    assert caplog.text.count("Flow 'bad' is parked") == 1


def test_a_flow_that_can_not_be_parked_since_its_log_is_damaged_keeps_nobody_waiting(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    handle = simulation.system.start(Counts.main, flow_id="bad")
    rest(simulation)
    crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    watch = handle._watch()
    refusing(store, monkeypatch, lambda write: isinstance(write, Append))
    simulation.advance(10)

    assert handle.status == "waiting"
    with pytest.raises(StoreUnavailable, match="cannot be started"):
        watch.reply.get(timeout=0)
    simulation.advance(200)
    assert caplog.text.count("Flow 'bad' cannot run, and not even be parked") == 1
    assert "`persistasaurus verify`" in caplog.text


# ------------------------------------------------------------------------------------------- restarts
def test_a_flow_that_the_store_has_failed_before_waits_no_longer_the_next_time(
    simulation: Simulation, store: FaultyStore
) -> None:
    handle = simulation.system.start(Counts.main, 4, flow_id="bad")

    for n in range(1, 5):
        store.fail = losing_records
        handle.signal("n", 1, signal_id=f"signal-{n}")
        simulation.run_until_idle()
        assert store.fail is None
        assert kinds(handle).count("signal_received") == n - 1
        simulation.advance(RULES.restart.initial_s)
        assert kinds(handle).count("signal_received") == n


def test_crashes_that_are_far_apart_use_up_no_budget(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = simulation.system.start(Counts.main, 4, flow_id="bad")
    original = FlowActor._on_wake

    def crash_at_each_signal(self: FlowActor) -> None:
        if self._access.store.inbox("bad", limit=1) and not crashed:
            crashed.append(1)
            raise ZeroDivisionError("injected")
        original(self)

    monkeypatch.setattr(FlowActor, "_on_wake", crash_at_each_signal)
    for n in range(4):
        crashed: list[int] = []
        # Its actor stays: one that has gone to rest has a budget of its own, the next time.
        for _ in range(20):
            simulation.advance(4)
            handle.query(Counts.so_far)
        handle.signal("n", 1, signal_id=f"signal-{n}")
        simulation.run_until_idle()
        assert crashed == [1]

    assert handle.result(2) == 4


def test_a_flow_that_has_crashed_and_not_said_so_yet_is_not_sent_to_rest(
    simulate: Callable[..., Simulation], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = simulate(rules=msgspec.structs.replace(RULES, idle_s=0.0))
    system = simulation.system
    handle = system.start(Counts.main, flow_id="bad")
    supervisor, live = supervisor_of(system), active(system, "bad")
    crashes = crashing(monkeypatch, "bad", "_on_slot")
    live.tell(requests.SlotGranted(1))
    while live.ref.is_alive():
        simulation.schedule.run_one()
    supervisor.on_receive(requests.Idle("bad", live.incarnation))
    supervisor.on_receive(requests.Sweep())

    assert live.phase is ActorPhase.LIVE
    assert len(crashes) == 1
    crashes[:] = [-1]
    assert handle.query(Counts.so_far) == 0


def test_a_parked_flow_that_could_not_be_started_is_tried_again_for_who_asks_later(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, crashes = parked_by_crashes(simulation, monkeypatch)
    with pytest.raises(StoreUnavailable, match="cannot be started"):
        handle.query(Counts.so_far)
    tries = len(crashes)

    with pytest.raises(StoreUnavailable, match="cannot be started"):
        handle.query(Counts.so_far)
    assert len(crashes) == tries
    simulation.advance(RULES.restart.period_s)
    assert not live_flows(simulation.system)
    crashes[:] = [-1]
    handle.retry()
    assert handle.result(1) == 1


def test_who_waits_for_a_parked_flow_that_can_not_be_started_hears_that_it_is_parked(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, _ = parked_by_crashes(simulation, monkeypatch)
    asked = handle._ask(Counts.so_far, ())
    watch = handle._watch()

    simulation.advance(10)

    with pytest.raises(StoreUnavailable, match="cannot be started"):
        asked.get(timeout=0)
    with pytest.raises(FlowParked):
        watch.reply.get(timeout=0)


def test_a_flow_for_which_there_is_no_thread_now_is_started_a_little_later(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = simulation.system
    original = FlowActor.start_on
    tries: list[str] = []

    def start_on(scheduler: Any, flow_id: str, *rest: Any) -> Any:
        tries.append(flow_id)
        if len(tries) == 1:
            raise RuntimeError("can't start new thread")
        return original(scheduler, flow_id, *rest)

    monkeypatch.setattr(FlowActor, "start_on", start_on)
    handle = system.start(Counts.main, flow_id="late")
    assert simulation.clock.elapsed() >= RULES.restart.initial_s
    handle.signal("n", 1)

    assert handle.result(1) == 1
    assert tries == ["late", "late"]
    assert supervisor_of(system)._activating == 0


# ------------------------------------------------------------------------------------- rest and recovery
def test_a_flow_is_woken_once_until_it_looks(simulation: Simulation) -> None:
    simulation.system.start(Counts.main, flow_id="busy")
    simulation.run_until_idle()
    supervisor, live = supervisor_of(simulation.system), active(simulation.system, "busy")
    for _ in range(3):
        supervisor.on_receive(requests.Wake("busy"))
    assert len(live.ref.actor_inbox) == 1
    simulation.run_until_idle()
    supervisor.on_receive(requests.Wake("busy"))

    assert len(live.ref.actor_inbox) == 1


def test_a_flow_that_was_rung_for_goes_to_rest_once(simulation: Simulation) -> None:
    handle = simulation.system.start(Counts.main, 2)
    handle.signal("n", 1)
    rest(simulation)
    simulation.advance(REST_S)

    assert supervisor_of(simulation.system)._incarnations == 1


def test_a_flow_that_was_woken_for_nothing_goes_to_rest_again(simulation: Simulation) -> None:
    handle = simulation.system.start(Counts.main)
    rest(simulation)
    simulation.system.client.wake(handle.id)
    simulation.run_until_idle()
    assert live_flows(simulation.system) == {handle.id}

    rest(simulation)


def test_one_that_is_going_to_rest_is_not_taken_for_the_one_that_has_been_idle_longest(
    simulate: Callable[..., Simulation],
) -> None:
    simulation = simulate(rules=msgspec.structs.replace(RULES, idle_s=1000.0, max_idle=3))
    system = simulation.system
    for name in "abc":
        system.start(Counts.main, flow_id=name)
    simulation.run_until_idle()
    supervisor = supervisor_of(system)
    supervisor._idle._maximum = 1

    for name in "bc":
        supervisor.on_receive(requests.Idle(name, active(system, name).incarnation))
    assert [active(system, name).phase for name in "abc"] == [
        ActorPhase.PASSIVATING,
        ActorPhase.PASSIVATING,
        ActorPhase.LIVE,
    ]
    simulation.run_until_idle()
    assert live_flows(system) == {"c"}


def test_flows_recover_one_by_one_where_no_more_may_recover_at_once(
    simulate: Callable[..., Simulation],
) -> None:
    simulation = simulate(rules=msgspec.structs.replace(RULES, max_activations=1))
    system = simulation.system
    names = {system.start(Counts.main, flow_id=f"flow-{n}").id for n in range(5)}
    rest(simulation)
    for name in names:
        system.client.wake(name)
    most = 0
    while simulation.schedule.run_one():
        active_flows = supervisor_of(system)._active.values()
        most = max(most, sum(active.phase is ActorPhase.ACTIVATING for active in active_flows))

    assert most == 1
    assert live_flows(system) == names


# ----------------------------------------------------------------------------------- opening and closing
def parked(simulation: Simulation, count: int) -> None:
    """Leave so many flows behind that are parked since their code was not there."""
    for n in range(count):
        simulation.system.start(Counts.main, flow_id=f"flow-{n}")
    simulation.stop()
    simulation.flows = []
    for n in range(count):
        simulation.system.flow(f"flow-{n}").signal("n", 1)
    simulation.run_until_idle()
    simulation.stop()
    simulation.flows = [Counts]


def test_parked_flows_whose_code_is_back_go_on_however_many_they_are(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 3)
    parked(simulation, 7)

    system = simulation.system
    assert {header.status for header in system.flows()} == {"parked"}
    simulation.run_until_idle()

    assert {header.status for header in system.flows()} == {"completed"}


def test_a_flow_that_was_parked_for_its_own_sake_stays_parked_at_the_next_start(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, crashes = parked_by_crashes(simulation, monkeypatch)
    crashes[:] = [-1]
    simulation.stop()
    simulation.run_until_idle()

    assert simulation.system.flow("bad").status == "parked"
    assert not live_flows(simulation.system)


def test_a_system_that_closes_looks_at_no_more_parked_flows(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 3)
    parked(simulation, 7)

    simulation.boot()
    simulation.stop()

    # The first page was looked at before the system was closed.
    assert len(store.headers(status="parked")) >= 4


def test_requests_that_are_on_their_way_when_the_system_begins_to_close_are_refused(
    simulation: Simulation,
) -> None:
    handle = simulation.system.start(Counts.main)
    rest(simulation)
    drained = requests.Drain(Reply())
    simulation.system.supervisor.tell(drained)
    late = pause(handle)
    simulation.system.client.wake(handle.id)
    simulation.run_until_idle()

    with pytest.raises(SystemClosed, match="closing"):
        late.get(timeout=0)
    assert drained.reply.is_done
    assert handle.status == "waiting"
    assert not live_flows(simulation.system)


def test_flows_that_wait_for_their_turn_to_recover_are_forgotten_when_the_system_closes(
    simulate: Callable[..., Simulation], caplog: pytest.LogCaptureFixture
) -> None:
    simulation = simulate()
    for n in range(5):
        simulation.system.start(Counts.main, flow_id=f"flow-{n}")
    simulation.stop()
    simulation = simulate(rules=msgspec.structs.replace(RULES, max_activations=1))
    system = simulation.system
    for n in range(5):
        system.client.wake(f"flow-{n}")
    while len(live_flows(system)) < 5:
        simulation.schedule.run_one()
    active_flows = dict(supervisor_of(system)._active)
    assert sum(c.phase is ActorPhase.QUEUED for c in active_flows.values()) >= 3
    finish = requests.Shutdown(Reply())
    system.supervisor.tell(requests.Drain(Reply()))
    system.supervisor.tell(finish)
    simulation.run_until_idle()

    assert finish.reply.is_done
    assert not errors_in(caplog)
    assert sum(c.incarnation > 0 for c in active_flows.values()) <= 2


def test_a_flow_that_crashes_while_the_system_closes_holds_nobody_up(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = simulation.system
    system.start(Counts.main, flow_id="bad")
    rest(simulation)
    crashes = crashing(monkeypatch, "bad")
    system.client.wake("bad")
    while not live_flows(system):
        simulation.schedule.run_one()
    supervisor = supervisor_of(system)
    supervisor.on_receive(requests.Drain(Reply()))
    assert not crashes
    began = simulation.clock.elapsed()
    system.close()

    assert len(crashes) == 1
    assert simulation.clock.elapsed() == began
    assert supervisor._activating == 0


# -------------------------------------------------------------------------------------- damaged headers
def looks_of(store: FaultyStore, pages: list[Any]) -> list[int]:
    """Have looks at headers find what is on these pages, one after the other; returns where they began."""
    begun: list[int] = []

    def inspect(*, after: int = 0, limit: int = 0) -> Inspection:
        begun.append(after)
        page = pages.pop(0) if pages else Inspection([], False, None)
        if isinstance(page, Exception):
            raise page
        return page

    store.__dict__["inspect"] = inspect
    return begun


def damaged(store: FaultyStore, flow_id: str, *, is_sound: bool) -> Header:
    header = store.header(flow_id)
    assert header is not None
    return msgspec.structs.replace(header, damage="it has rotted", is_sound=is_sound)


def test_each_page_of_headers_is_looked_at_and_damaged_flows_are_looked_after(
    simulation: Simulation, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "other"):
        simulation.system.start(Counts.main, flow_id=name)
    rest(simulation)
    pages = [
        Inspection([damaged(store, "one", is_sound=True)], False, 7),
        Inspection([damaged(store, "other", is_sound=False)], False, None),
    ]
    begun = looks_of(store, pages)

    simulation.system.supervisor.tell(requests.LookAtHeaders())
    simulation.run_until_idle()

    assert begun == [0, 7]
    assert sorted(live_flows(simulation.system)) == ["one", "other"]
    assert "Flow 'one' is damaged: it has rotted" in caplog.text
    assert "Flow 'other' is damaged" not in caplog.text


def test_a_damaged_index_is_mended_once_and_headers_are_looked_at_again(
    simulation: Simulation, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation.system.start(Counts.main, flow_id="one")
    rest(simulation)
    mended = ["stream_due"]
    monkeypatch.setitem(store.__dict__, "mend", lambda: [mended.pop()])
    begun = looks_of(store, [Inspection([], True, 3), Inspection([], True, 3)])

    simulation.system.supervisor.tell(requests.LookAtHeaders())
    simulation.run_until_idle()

    assert mended == []
    assert begun == [0, 0, 3]


def test_headers_that_cannot_be_looked_at_keep_nobody_from_running(
    simulation: Simulation, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Counts.main)
    looks_of(store, [StoreHalted("injected")])

    simulation.system.supervisor.tell(requests.LookAtHeaders())
    handle.signal("n", 1)
    simulation.run_until_idle()

    assert "Headers could not be looked at: injected" in caplog.text
    assert handle.result(timeout=0) == 1


def test_a_system_that_closes_looks_at_no_more_headers(simulation: Simulation, store: FaultyStore) -> None:
    simulation.run_until_idle()
    begun = looks_of(store, [])
    simulation.system.supervisor.tell(requests.Drain(Reply()))
    simulation.system.supervisor.tell(requests.LookAtHeaders())
    simulation.run_until_idle()

    assert begun == []


def test_a_parked_flow_with_a_damaged_header_stays_parked_and_its_header_says_so_again(
    simulation: Simulation,
    store: FaultyStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle, crashes = parked_by_crashes(simulation, monkeypatch)
    crashes[:] = [-1]
    rest(simulation)
    found = damaged(store, "bad", is_sound=False)
    lying = msgspec.structs.replace(found, status="waiting")
    store.__dict__["header"] = lambda name: lying if name == "bad" else store.inner.header(name)

    for _ in range(2):
        simulation.system.client.wake("bad")
        rest(simulation)

    del store.__dict__["header"]
    assert handle.status == "parked"
    assert caplog.text.count("The header of flow 'bad' is damaged") == 1
    assert isinstance(store.writes[0], Append)
    assert (store.writes[0].stream, store.writes[0].records) == ("bad", ())


def test_a_damaged_flow_that_cannot_be_looked_up_is_named_once(
    simulation: Simulation, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    simulation.run_until_idle()

    def header(_: str) -> Header:
        raise RecordCorrupt("rotten", None, "its page is damaged")

    store.__dict__["header"] = header
    for _ in range(3):
        simulation.system.client.wake("rotten")
        simulation.run_until_idle()

    assert caplog.text.count("Flow 'rotten' could not be looked up") == 1


def test_a_suspect_that_somebody_waits_for_already_begins_by_itself(simulation: Simulation) -> None:
    for name in ("suspect", "other"):
        simulation.system.start(Counts.main, flow_id=name)
    rest(simulation)
    supervisor_of(simulation.system)._is_held_back = True
    for name in ("other", "suspect"):
        simulation.system.client.wake(name)
    simulation.run_until_idle()
    assert {active(simulation.system, name).phase for name in ("other", "suspect")} == {ActorPhase.QUEUED}

    simulation.system.supervisor.tell(requests.Begin(("suspect",), ()))
    begun: list[set[str]] = []
    while simulation.schedule.run_one():
        live = {n for n in ("other", "suspect") if active(simulation.system, n).phase is ActorPhase.LIVE}
        begun.append(live)

    assert next(filter(None, begun)) == {"suspect"}
    assert begun[-1] == {"other", "suspect"}
