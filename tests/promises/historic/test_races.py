"""Races that others have lost: two who want the same, time against signals, and many at one file."""

from __future__ import annotations

from itertools import permutations
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from historic.flows import DEAD_MAN_S, Errand, Stubborn, Two, effects, finish_errand
from persistasaurus import FlowSystem
from persistasaurus.actors.remote.client import RemoteClient
from persistasaurus.actors.testing.mortal import Death
from persistasaurus.actors.testing.schedule import Pace
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows import events
from persistasaurus.store import Durability, StoreReader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_effects() -> None:
    effects.clear()


def together(*calls: Any) -> list[Any]:
    """Make calls at once, on threads of their own; an exception is an answer, too."""
    answers: list[Any] = [None] * len(calls)

    def answer(number: int) -> None:
        try:
            answers[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 - to be looked at
            answers[number] = error

    threads = [Thread(target=answer, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEAD_MAN_S)
    return answers


# dbos-transact-py #812: who came second got the database's error, and not what the first had recorded.
def test_who_comes_second_gets_what_the_first_has_got() -> None:
    with FlowSystem(flows=[Errand]) as system:
        handles = together(*[lambda: system.start(Errand.run, 0.0, flow_id="one")] * 8)
        send = lambda: system.flow("one").signal(Errand.word, "hello", signal_id="one")  # noqa: E731
        receipts = together(*[send] * 8)
        results = together(*[lambda: system.flow("one").result(timeout=DEAD_MAN_S)] * 8)

    assert [handle.id for handle in handles] == ["one"] * 8
    assert {receipt.at for receipt in receipts} == {receipts[0].at}
    assert [receipt.duplicate for receipt in receipts].count(False) == 1
    assert results == ["hello"] * 8
    assert effects["one/leave"] == effects["one/arrive"] == 1


# dbos-transact-ts #1205: of one wait two outcomes were recorded, by two who recovered it.
@pytest.mark.parametrize("commit", range(1, 8))
def test_of_each_wait_there_is_one_outcome(commit: int) -> None:
    deaths = [Death(commit, is_durable=True), Death(commit + 2, is_durable=True)]
    with Simulation([Two], deaths=deaths, seed=commit) as simulation:
        simulation.insist(lambda system: system.start(Two.run, flow_id="two"))
        for number in (1, 2):
            for _ in range(2):
                simulation.insist(
                    lambda system, n=number: system.flow("two").signal("go", n, signal_id=f"go-{n}")
                )
        assert simulation.insist(lambda system: system.flow("two").result(timeout=100)) == [1, 2]
        history = [e.event for e in simulation.system.flow("two").events()]
    assert [e.key for e in history if isinstance(e, events.SignalReceived)] == ["go-1", "go-2"]


# vercel/workflow #3743: a timer went off early, was taken for done, and never set again.
@pytest.mark.parametrize("early_s", [0.001, 1.0, 59.0, 3599.0])
def test_who_is_woken_too_early_sleeps_on_and_wakes_in_time(early_s: float) -> None:
    with Simulation([Errand]) as simulation:
        began = simulation.clock.elapsed()
        simulation.insist(lambda system: system.start(Errand.run, 3600.0, flow_id="one"))
        simulation.system.flow("one").signal(Errand.word, "hello", signal_id="w")
        simulation.advance(3600 - early_s)
        for _ in range(3):
            simulation.system.client.wake("one")
            simulation.run_until_idle()
            assert simulation.system.flow("one").status == "waiting"

        assert simulation.system.flow("one").result(timeout=3600) == "hello"
        assert simulation.clock.elapsed() - began == pytest.approx(3600, abs=0.5)


# elastic/kibana #287527: a timer and a cancellation at once; the last who wrote won. Nothing can be cancelled
# here; a pause, a signal and the timer meet.
@pytest.mark.parametrize("order", [*permutations(("pause", "signal", "time", "crash"))])
def test_pause_signal_and_timer_come_to_the_same_in_any_order(order: tuple[str, ...]) -> None:
    with Simulation([Errand], seed=1, pace=Pace(0.3, 0.01)) as simulation:
        simulation.insist(lambda system: system.start(Errand.run, 10.0, flow_id="one"))
        for what in order:
            match what:
                case "pause":
                    simulation.insist(lambda system: system.flow("one").pause())
                case "signal":
                    simulation.insist(
                        lambda system: system.flow("one").signal(Errand.word, "w", signal_id="w")
                    )
                case "time":
                    simulation.advance(10)
                case _:
                    simulation.crash()
        assert simulation.insist(lambda system: system.flow("one").status) == "paused"
        simulation.insist(lambda system: system.flow("one").resume())

        assert simulation.insist(lambda system: system.flow("one").result(timeout=100)) == "w"
        history = [type(e.event) for e in simulation.system.flow("one").events()]
    assert history.count(events.TimerFired) == history.count(events.SignalReceived) == 1


# pydantic-ai #3934, prefect #18934: "database is locked", as soon as there were several at one file.
def test_nobody_ever_hears_that_the_file_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    ids = [f"errand-{number}" for number in range(40)]
    with FlowSystem(path, flows=[Errand, Stubborn], durability=Durability.MAY_LOSE_LAST_COMMITS) as system:

        def start() -> None:
            for flow_id in ids:
                system.start(Errand.run, 0.0, flow_id=flow_id)

        def look() -> None:
            for _ in range(15):
                with StoreReader.open(path) as reader:
                    assert reader.verify() == []
                    assert list(reader.query("SELECT count(*) FROM flows"))

        def post() -> None:
            with RemoteClient(path) as client:
                for flow_id in ids:
                    while system.store.header(flow_id) is None:
                        pass
                    answered = client.signal(flow_id, "word", b'{"text": "w"}', signal_id="w").wait(
                        DEAD_MAN_S
                    )
                    assert answered is not None
                    answered.result(flow_id)

        assert together(start, post, look, look, look) == [None] * 5
        assert {system.flow(flow_id).result(timeout=DEAD_MAN_S) for flow_id in ids} == {"w"}


def test_the_errand_of_these_tests_ends_when_nothing_goes_wrong() -> None:
    with Simulation([Errand]) as simulation:
        simulation.insist(lambda system: system.start(Errand.run, flow_id="one"))
        assert finish_errand(simulation, "one") == "hello"
