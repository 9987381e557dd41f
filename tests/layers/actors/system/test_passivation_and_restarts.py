"""Flows at rest cost a row; what comes for them while they go to rest, or crash, is not lost."""

from __future__ import annotations

import gc
import logging
from contextlib import closing
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, FlowParked, SupervisorRules, flow, query, step, wait_for
from persistasaurus.actors.flows import flow_actor as module
from persistasaurus.actors.flows import requests
from persistasaurus.actors.flows.active_flow import ActorPhase, RestartRules
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.recovery import Recovery
from persistasaurus.flows.machine.machine import FlowMachine
from persistasaurus.store import Deliver, Delivered, SqliteStore
from system.doubles import DEAD_MAN_S, crashing, kinds, live_flows, supervisor_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from persistasaurus import FlowSystem


class Counts(Flow):
    def __init__(self) -> None:
        self.count = 0

    @flow
    async def main(self, until: int) -> int:
        while self.count < until:
            self.count += await wait_for("n", int)
        return self.count

    @query
    def so_far(self) -> int:
        return self.count

    @flow
    async def quick(self) -> int:
        return await self.one()

    @step
    def one(self) -> int:
        return 1


AT_ONCE = SupervisorRules(idle_s=0.0, restart=RestartRules(initial_s=0.001))


def test_a_flow_that_only_waits_goes_to_rest_and_a_signal_wakes_it(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Counts, rules=AT_ONCE)
    handle = system.start(Counts.main, 2)
    wait_until(lambda: not live_flows(system))
    handle.signal("n", 1)
    wait_until(lambda: handle.query(Counts.so_far) == 1)
    wait_until(lambda: not live_flows(system))
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is FlowMachine and o.flow_id == handle.id]
    handle.signal("n", 1)

    assert handle.result(DEAD_MAN_S) == 2


def test_the_flow_that_has_been_idle_longest_goes_to_rest_when_there_are_too_many(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Counts, rules=SupervisorRules(idle_s=1000, max_idle=3))
    for n in range(10):
        system.start(Counts.main, 1, flow_id=f"flow-{n}")

    wait_until(lambda: len(live_flows(system)) == 3)
    assert all(system.flow(f"flow-{n}").status == "waiting" for n in range(10))


def test_no_signal_is_lost_to_flows_that_go_to_rest_all_the_time(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Counts, rules=AT_ONCE)
    handles = [system.start(Counts.main, 100) for _ in range(8)]

    def send(key: int) -> None:
        for n in range(25):
            for handle in handles:
                handle.signal("n", 1, signal_id=f"{key}-{n}")

    senders = [Thread(target=send, args=(k,)) for k in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    assert [handle.result(DEAD_MAN_S) for handle in handles] == [100] * 8


def told_to_rest(
    make_system: Callable[..., FlowSystem], gate: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[FlowSystem, Any]:
    """Return a system with a flow that was told to go to rest, and hears it when the gate opens."""
    hear = FlowActor.on_receive

    def on_receive(self: Any, message: Any) -> Any:
        if type(message) is requests.Passivate:
            gate()
        return hear(self, message)

    monkeypatch.setattr(FlowActor, "on_receive", on_receive)
    system = make_system(Counts, rules=SupervisorRules(idle_s=1000))
    resting, supervisor = system.start(Counts.main, 2), supervisor_of(system)
    wait_until(lambda: resting.id in supervisor._idle._since)
    supervisor._idle._idle_s = 0
    system.supervisor.tell(requests.Sweep())
    gate.wait()
    assert supervisor._active[resting.id].phase is ActorPhase.PASSIVATING
    return system, resting


def test_a_signal_that_comes_while_a_flow_goes_to_rest_wakes_it_at_once(
    make_system: Callable[..., FlowSystem], gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, resting = told_to_rest(make_system, gate, monkeypatch)
    for _ in range(2):
        resting.signal("n", 1)
    wait_until(lambda: supervisor_of(system)._active[resting.id].must_wake)
    gate.open()

    assert resting.result(5) == 2


def test_a_request_that_comes_while_a_flow_goes_to_rest_is_answered(
    make_system: Callable[..., FlowSystem], gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, resting = told_to_rest(make_system, gate, monkeypatch)
    answers: list[int] = []
    asking = Thread(target=lambda: answers.append(resting.query(Counts.so_far)))
    asking.start()
    wait_until(lambda: supervisor_of(system)._active[resting.id].held)
    gate.open()
    asking.join(DEAD_MAN_S)

    assert answers == [0]


def test_more_signals_than_are_read_at_once_are_all_taken(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_INBOX_PAGE", 10)
    system = make_system(Counts, rules=AT_ONCE)
    handle = system.start(Counts.main, 55)
    handle.pause()
    wait_until(lambda: not live_flows(system))
    for _ in range(55):
        handle.signal("n", 1)
    handle.resume()

    assert handle.result(5) == 55


def test_behind_a_page_of_signals_that_fit_nothing_the_next_ones_are_taken(
    make_system: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_INBOX_PAGE", 10)
    system = make_system(Counts, path=path)
    system.start(Counts.main, 1, flow_id="counts")
    system.close()
    payloads = [b'"text"'] * 20 + [b"1"]
    with closing(SqliteStore.open(path, now=lambda: 1)) as store:
        outcomes = store.commit([Deliver("counts", "n", f"{n}", data, 1) for n, data in enumerate(payloads)])
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)

    system = make_system(Counts, path=path)

    assert system.flow("counts").result(5) == 1
    assert len(system.store.dead_letters()) == 20


def test_queries_and_controls_race_with_rest_and_all_are_answered(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Counts, rules=AT_ONCE)
    handle = system.start(Counts.main, 1)
    for n in range(200):
        assert handle.query(Counts.so_far) == 0
        if n % 20 == 0:
            handle.pause()
            handle.resume()
    handle.signal("n", 1)

    assert handle.result(DEAD_MAN_S) == 1


def test_no_more_flows_recover_at_once_than_allowed(
    make_system: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make_system(Counts, path=path)
    for n in range(100):
        system.start(Counts.main, 1, flow_id=f"flow-{n}")
    system.close()
    most: list[int] = []
    original = Recovery.recover

    def recover(self: Recovery, *args: Any) -> Any:
        most.append(supervisor_of(systems[0])._activating)
        return original(self, *args)

    monkeypatch.setattr(Recovery, "recover", recover)
    rules = SupervisorRules(max_activations=2, idle_s=0.01)
    systems = [make_system(Counts, path=path, rules=rules)]
    handles = [systems[0].flow(f"flow-{n}") for n in range(100)]
    for handle in handles:
        handle.signal("n", 1)

    assert [handle.result(DEAD_MAN_S) for handle in handles] == [1] * 100
    assert max(most) <= 2
    wait_until(lambda: not live_flows(systems[0]))
    assert supervisor_of(systems[0])._activating == 0


# ------------------------------------------------------------------------------------------- crashes
def test_a_flow_that_crashes_beyond_its_budget_is_parked_and_every_other_flow_goes_on(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rules = SupervisorRules(idle_s=0.001, restart=RestartRules(initial_s=0.001, max_restarts=3))
    system = make_system(Counts, rules=rules)
    bad, good = (system.start(Counts.main, 1, flow_id=name) for name in ("bad", "good"))
    wait_until(lambda: not live_flows(system))
    crashes = crashing(monkeypatch, "bad")
    bad.signal("n", 1)
    with pytest.raises(FlowParked, match="injected") as caught:
        bad.result(DEAD_MAN_S)
    good.signal("n", 1)

    assert caught.value.reason == "crashing"
    assert len(crashes) == 4
    assert good.result(DEAD_MAN_S) == 1
    assert kinds(bad)[-1] == "parked"
    ours = [
        r.getMessage() for r in caplog.records if r.name == "persistasaurus" and r.levelno >= logging.ERROR
    ]
    assert [line.partition(":")[0] for line in ours] == [
        *["Flow 'bad' crashed"] * 4, "Flow 'bad' is parked (crashing)"
    ]  # fmt: skip
    crashes[:] = [-1]
    bad.retry(by="somebody", why="mended")
    assert bad.result(DEAD_MAN_S) == 1


def test_restarts_wait_longer_each_time(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch, environment: Any, clock: Any
) -> None:
    system = make_system(
        Counts, rules=SupervisorRules(restart=RestartRules(initial_s=1, jitter=0)), environment=environment
    )
    handle = system.start(Counts.main, 1, flow_id="bad")
    crashes = crashing(monkeypatch, "bad", "_look")
    handle.signal("n", 1)
    waits: list[float] = []
    for n in range(1, 4):
        wait_until(lambda n=n: len(crashes) == n and _restart_at(system, clock) is not None)
        before = clock.elapsed()
        at = _restart_at(system, clock)
        waits.append(round(at - before, 3))
        clock.advance(at - before)
    crashes[:] = [-1]
    wait_until(lambda: bool(clock.advance(1) or handle.status == "completed"))

    assert waits == [1, 2, 4]


def _restart_at(system: FlowSystem, clock: Any) -> float | None:
    active = supervisor_of(system)._active.get("bad")
    if active is None or active.phase.value != "backoff":
        return None
    later = [
        at
        for at, _, alarm in system.environment.alarms._heap._entries
        if "Restarts._later" in repr(alarm._callback)
    ]
    return next((at for at in sorted(later) if at > clock.elapsed()), None)


def test_requests_for_a_flow_that_waits_to_be_restarted_are_answered_then(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make_system(Counts, rules=SupervisorRules(idle_s=0.001, restart=RestartRules(initial_s=0.05)))
    handle = system.start(Counts.main, 5, flow_id="bad")
    wait_until(lambda: not live_flows(system))
    crashes = crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    wait_until(lambda: crashes)
    answers: list[Any] = []
    askers = [Thread(target=lambda: answers.append(handle.query(Counts.so_far))) for _ in range(5)]
    for asker in askers:
        asker.start()
    crashes[:] = [-1]
    for asker in askers:
        asker.join(DEAD_MAN_S)

    assert len(answers) == 5
    assert set(answers) <= {0, 1}


def test_a_request_for_a_parked_flow_that_cannot_be_started_is_refused_in_the_end(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = SupervisorRules(idle_s=0.001, restart=RestartRules(initial_s=0.001, max_restarts=2))
    system = make_system(Counts, rules=rules)
    handle = system.start(Counts.main, 1, flow_id="bad")
    wait_until(lambda: not live_flows(system))
    crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    with pytest.raises(FlowParked):
        handle.result(DEAD_MAN_S)

    with pytest.raises(Exception, match="cannot be started"):
        handle.query(Counts.so_far)
    assert supervisor_of(system)._activating == 0
    assert kinds(handle).count("parked") == 1


def test_a_result_that_is_durable_when_the_actor_crashes_is_told_all_the_same(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make_system(Counts)
    handle = system.start(Counts.main, 1, flow_id="bad")
    crashes = crashing(monkeypatch, "bad", "_over")
    watch = handle._watch()
    handle.signal("n", 1)
    wait_until(lambda: crashes)
    crashes[:] = [-1]

    assert bytes(watch.reply.get(timeout=DEAD_MAN_S).result) == b"1"


def test_controls_of_a_parked_flow_say_what_to_do(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = SupervisorRules(idle_s=0.001, restart=RestartRules(initial_s=0.001, max_restarts=1))
    system = make_system(Counts, rules=rules)
    handle = system.start(Counts.main, 3, flow_id="bad")
    handle.signal("n", 1)
    wait_until(lambda: handle.query(Counts.so_far) == 1)
    wait_until(lambda: not live_flows(system))
    crashes = crashing(monkeypatch, "bad")
    handle.signal("n", 1)
    with pytest.raises(FlowParked):
        handle.result(DEAD_MAN_S)
    crashes[:] = [-1]

    for control in (handle.pause, handle.resume):
        with pytest.raises(Exception, match=r"parked: find out why, then handle.retry"):
            control()
    assert handle.query(Counts.so_far) in (1, 2)
    assert handle.signal("n", 1).duplicate is False
    assert handle.status == "parked"
    with pytest.raises(FlowParked):
        handle.result(1)
    handle.retry()
    assert handle.result(DEAD_MAN_S) == 3
