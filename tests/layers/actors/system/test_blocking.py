"""Code that blocks holds up nobody else and is named in the log with its line; at last its flow is parked."""

from __future__ import annotations

import bdb
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowParked,
    FlowSystem,
    PersistasaurusError,
    StoreUnavailable,
    SupervisorRules,
    flow,
    gather,
    query,
    step,
    wait_for,
)
from persistasaurus.actors.flows import requests
from persistasaurus.actors.runtime.watchdog import Watchdog
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import Append, StoreHalted
from system.doubles import DEAD_MAN_S, FaultyStore, Gate, completions, kinds, memory_store, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.runtime.primitives import ManualClock

LOOK_S = 0.25


class Blocks(Flow):
    gate: Gate
    """Of the class: it is no state."""

    @flow(name="blocks")
    async def at_once(self) -> str:
        Blocks.gate()
        return "went on"

    @flow(name="blocks later")
    async def later(self, first: int) -> list[int]:
        done = await self.work(first)
        Blocks.gate()
        return [done, await self.work(2)]

    @flow(name="blocks beside")
    async def beside(self) -> tuple[int, int]:
        return await gather(self.branch(), self.branch())

    async def branch(self) -> int:
        n = await wait_for("n", int)
        await self.work(n)
        if n == 2:
            Blocks.gate()
        return n

    @flow(name="blocks at the second")
    async def at_the_second(self) -> tuple[int, int]:
        first, second = await wait_for("n", int), await wait_for("n", int)
        Blocks.gate()
        return first, second

    @step
    def work(self, n: int) -> int:
        return n

    @query
    def looked_at(self) -> str:
        return "seen"


class Good(Flow):
    gate: Gate

    @flow(name="good")
    async def main(self) -> int:
        return await self.work() + await wait_for("n", int)

    @step
    def work(self) -> int:
        return 1

    @query
    def blocks(self) -> None:
        Good.gate()

    @query
    def quick(self) -> int:
        return 7


@pytest.fixture(autouse=True)
def _gates() -> None:
    Blocks.gate, Good.gate = Gate(), Gate()


@pytest.fixture(name="make")
def _make(
    make_system: Callable[..., FlowSystem], environment: Environment
) -> Iterator[Callable[..., FlowSystem]]:
    yield lambda *args, **options: make_system(Blocks, Good, *args, environment=environment, **options)
    Blocks.gate.open()
    Good.gate.open()


def in_background(call: Callable[[], Any]) -> Callable[[], Any]:
    """Make a call on another thread, and return what waits for its answer."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(call())
        except PersistasaurusError as error:
            answers.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()

    def answer() -> Any:
        thread.join(DEAD_MAN_S)
        assert answers, "it is not answered"
        return answers[0]

    return answer


def good(system: FlowSystem) -> None:
    handle = system.start(Good.main)
    handle.signal("n", 1)
    assert handle.query(Good.quick) == 7
    assert handle.result(timeout=DEAD_MAN_S) == 2


def test_others_go_on_the_log_names_flow_and_line_and_the_flow_is_parked(
    make: Any, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    system = make(workers=1)
    started = in_background(lambda: system.start(Blocks.at_once, flow_id="culprit"))
    Blocks.gate.wait()
    good(system)
    pass_time(1.25)
    assert "Flow 'culprit' has held a thread" in caplog.text
    assert "test_blocking.py:" in caplog.text
    assert "in at_once()" in caplog.text
    assert "Blocks.gate()" in caplog.text

    pass_time(6.0)
    handle = started()
    assert handle.status == "parked"
    assert kinds(handle) == ["flow_started", "parked"]
    with pytest.raises(FlowParked, match=r"test_blocking.py:\d+, in at_once\(\)"):
        handle.result(timeout=DEAD_MAN_S)
    for refused in (handle.pause, handle.resume, lambda: handle.query(Blocks.looked_at)):
        with pytest.raises(PersistasaurusError, match="is parked"):
            refused()

    Blocks.gate.open()
    handle.retry()
    assert handle.result(timeout=DEAD_MAN_S) == "went on"


def test_code_that_holds_a_thread_is_named_once_after_a_second(
    make: Any, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    system = make(workers=2)
    in_background(lambda: system.start(Blocks.at_once))
    Blocks.gate.wait()
    pass_time(1.0)
    assert "has held" not in caplog.text
    pass_time(0.25)
    assert caplog.text.count("has held") == 1
    pass_time(3.0)
    assert caplog.text.count("has held") == 1


def test_more_flows_may_block_than_there_are_threads(
    make: Any, pass_time: Any, environment: Environment
) -> None:
    system = make(workers=2)
    blocked = [in_background(lambda: system.start(Blocks.at_once)) for _ in range(20)]

    def all_are_parked() -> bool:
        # On a loaded machine the last has not even begun when the first ones are parked.
        pass_time(0.5)
        return len(system.flows(status="parked")) == len(blocked)

    wait_until(all_are_parked)
    good(system)
    assert {started().status for started in blocked} == {"parked"}


def test_what_was_asked_of_the_flow_meanwhile_is_answered(make: Any, pass_time: Any) -> None:
    system = make()
    handle = system.start(Blocks.later, 1, flow_id="f")
    Blocks.gate.wait()
    paused = in_background(handle.pause)
    asked = in_background(lambda: handle.query(Blocks.looked_at))
    result = in_background(handle.result)
    pass_time(6.5)
    for refused in (paused, asked, result):
        assert "parked" in str(refused())


def test_what_a_step_came_to_is_kept_and_the_step_is_not_run_again(
    make: Any, pass_time: Any, path: Path
) -> None:
    system = make(path=path)
    handle = system.start(Blocks.later, 1, flow_id="f")
    Blocks.gate.wait()
    pass_time(6.5)
    wait_until(lambda: handle.status == "parked")
    assert kinds(handle) == ["flow_started", "step_started", "step_completed", "parked"]
    system.close()

    Blocks.gate.open()
    Blocks.gate = Gate()
    again = make(path=path)
    good(again)
    handle = again.flow("f")
    assert not Blocks.gate.arrived.is_set()
    with pytest.raises(FlowParked):
        handle.query(Blocks.looked_at)
    Blocks.gate.open()
    handle.retry()
    assert handle.result(timeout=DEAD_MAN_S) == [1, 2]
    assert completions(handle) == {1: 1, 2: 1}


def test_signals_and_steps_of_the_unfinished_decision_are_kept(make: Any, pass_time: Any) -> None:
    system = make()
    handle = system.start(Blocks.beside, flow_id="f")
    handle.pause()
    for number in (1, 2):
        handle.signal("n", number)
    resumed = in_background(handle.resume)
    Blocks.gate.wait()
    pass_time(6.5)
    resumed()
    wait_until(lambda: handle.status == "parked")
    Blocks.gate.open()
    handle.retry()
    assert handle.result(timeout=DEAD_MAN_S) == (1, 2)
    assert set(completions(handle).values()) == {1}


def test_the_first_of_two_signals_is_kept_when_the_second_makes_the_code_block(
    make: Any, pass_time: Any, path: Path
) -> None:
    with FlowSystem(path, flows=[Blocks]) as before:
        before.start(Blocks.at_the_second, flow_id="f")
    with FlowSystem(path, flows=[]) as without:
        for number in (1, 2):
            without.flow("f").signal("n", number)
    Blocks.gate.open()
    Blocks.gate = Gate()
    system = make(path=path)
    Blocks.gate.wait()
    pass_time(6.5)
    handle = system.flow("f")
    # It was parked before, when its code was not there.
    wait_until(
        lambda: kinds(handle)[-2:] == ["signal_received", "parked"] or kinds(handle).count("parked") == 2
    )
    assert "signal_received" in kinds(handle)
    Blocks.gate.open()
    handle.retry()
    assert handle.result(timeout=DEAD_MAN_S) == (1, 2)


def test_a_retry_that_blocks_again_is_answered_and_the_flow_stays_parked(make: Any, pass_time: Any) -> None:
    system = make()
    started = in_background(lambda: system.start(Blocks.at_once))
    Blocks.gate.wait()
    pass_time(6.5)
    handle = started()
    Blocks.gate.arrived.clear()
    retried = in_background(handle.retry)
    Blocks.gate.wait()
    pass_time(6.5)
    assert isinstance(retried(), FlowParked)
    assert handle.status == "parked"
    good(system)


def test_a_flow_that_comes_back_in_time_is_not_parked(make: Any, pass_time: Any) -> None:
    system = make()
    started = in_background(lambda: system.start(Blocks.at_once))
    Blocks.gate.wait()
    pass_time(4.0)
    Blocks.gate.open()
    assert started().result(timeout=DEAD_MAN_S) == "went on"
    assert system._working.live_threads <= 1 + 2


def test_a_flow_that_blocks_when_it_is_recovered_is_parked(make: Any, pass_time: Any, path: Path) -> None:
    with FlowSystem(path, flows=[Blocks, Good]) as before:
        Blocks.gate.open()
        before.start(Blocks.beside, flow_id="f").signal("n", 2)
        wait_until(lambda: completions(before.flow("f")))
    Blocks.gate = Gate()
    system = make(path=path)
    system.flow("f").signal("n", 3)
    Blocks.gate.wait()
    pass_time(6.5)
    good(system)
    with pytest.raises(FlowParked, match="blocking"):
        system.flow("f").result(timeout=DEAD_MAN_S)
    assert kinds(system.flow("f"))[-1] == "parked"


def test_a_query_that_blocks_is_given_up_and_its_flow_goes_on(
    make: Any, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    handle = system.start(Good.main, flow_id="f")
    asked = in_background(lambda: handle.query(Good.blocks))
    Good.gate.wait()
    pass_time(6.5)
    assert "was given up" in str(asked())
    assert "<query 'blocks'> of flow 'f' has held" in caplog.text
    assert handle.query(Good.quick) == 7
    handle.signal("n", 1)
    assert handle.result(timeout=DEAD_MAN_S) == 2


def test_a_listener_that_blocks_is_named_and_keeps_nobody_from_writing_or_hearing(
    make: Any, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    gate, heard = Gate(), Event()
    system.on_commit(gate)
    system.on_commit(heard.set)
    good(system)
    gate.wait()
    pass_time(1.5)
    good(system)
    assert heard.wait(DEAD_MAN_S)
    assert "A listener for commits" in caplog.text
    gate.open()


def test_time_in_which_nobody_could_run_is_held_against_nobody(
    make: Any, pass_time: Any, clock: ManualClock
) -> None:
    system = make()
    started = in_background(lambda: system.start(Blocks.at_once))
    Blocks.gate.wait()
    pass_time(1.0)
    clock.pass_over(100.0)
    pass_time(2.0)
    for _ in range(20):
        clock.pass_over(0.5)
        clock.advance(0)
    Blocks.gate.open()
    assert started().result(timeout=DEAD_MAN_S) == "went on"


def test_a_flow_that_a_person_has_stopped_in_a_debugger_is_named_but_not_parked(
    make: Any, pass_time: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = Gate()
    monkeypatch.setattr(bdb, "stopped", stopped, raising=False)
    at_prompt = eval("lambda: stopped()", vars(bdb))
    monkeypatch.setattr(Blocks, "gate", at_prompt)
    started = in_background(lambda: make().start(Blocks.at_once))
    stopped.wait()
    pass_time(30.0)
    stopped.open()
    assert started().result(timeout=DEAD_MAN_S) == "went on"
    assert "has held" in caplog.text


def test_closing_does_not_wait_for_what_was_given_up(make: Any, pass_time: Any) -> None:
    system = make()
    started = in_background(lambda: system.start(Blocks.at_once))
    Blocks.gate.wait()
    pass_time(6.5)
    started()
    assert system._working.close(timeout=DEAD_MAN_S)
    system.close()


def test_how_long_is_too_long_can_be_said(make: Any, pass_time: Any) -> None:
    rules = SupervisorRules(report_blocking_s=0.5, park_blocking_s=60.0)
    system = make(rules=rules)
    started = in_background(lambda: system.start(Blocks.at_once))
    Blocks.gate.wait()
    pass_time(50.0)
    Blocks.gate.open()
    assert started().result(timeout=DEAD_MAN_S) == "went on"
    with pytest.raises(ValueError, match="park_blocking_s"):
        SupervisorRules(park_blocking_s=-1)


def test_an_idle_system_is_not_looked_at(make: Any, clock: ManualClock) -> None:
    system = make()
    good(system)
    wait_until(lambda: system._watchdog.is_asleep or clock.advance(LOOK_S))


class Stuck(Flow):
    wait: Any = None

    @flow(name="stuck")
    async def main(self, seconds: float) -> str:
        Stuck.wait(seconds)
        return "back"


@pytest.mark.parametrize("seed", range(8))
def test_a_body_that_blocks_in_virtual_time_holds_up_nobody(seed: int) -> None:
    with Simulation([Stuck, Blocks], seed=seed) as simulation:
        never, ends = Lock(), dict[str, float]()
        never.acquire()
        Blocks.gate.open()
        Stuck.wait = lambda seconds: simulation.schedule.wait(never, seconds)

        def note(writes: Any, _: Any) -> None:
            for write in writes:
                status = getattr(write.header, "status", None) if isinstance(write, Append) else None
                if status in ("completed", "parked"):
                    ends[f"{write.stream} {status}"] = simulation.clock.elapsed()

        simulation.on_commit.append(note)
        for flow_id, seconds in (("long", 3600.0), ("longer", 7200.0)):
            simulation.system._start(Stuck.main, (seconds,), {}, flow_id)
        for number in range(5):
            simulation.system._start(Blocks.later, (number,), {}, f"good {number}")
        simulation.run_until_idle()
        assert {name for name, at in ends.items() if at < 1.0} == {f"good {n} completed" for n in range(5)}
        assert 5.0 <= ends["long parked"] < 6.0
        assert 5.0 <= ends["longer parked"] < 6.0
        assert len(ends) == 7


def test_it_is_the_watchdog_that_parks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watchdog, "wake", lambda _: None)
    with Simulation([Stuck]) as simulation:
        never = Lock()
        never.acquire()
        Stuck.wait = lambda seconds: simulation.schedule.wait(never, seconds)
        handle = simulation.system.start(Stuck.main, 3600.0)
        assert simulation.clock.elapsed() >= 3600.0
        assert handle.result() == "back"


@pytest.mark.parametrize("at", ["header", "commit"])
def test_a_store_that_fails_when_the_flow_is_to_be_parked_leaves_nobody_without_an_answer(
    make: Any, pass_time: Any, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store: Any = FaultyStore(memory_store())
    system = make(store=store)
    started = in_background(lambda: system.start(Blocks.at_once, flow_id="f"))
    Blocks.gate.wait()

    def fails(*_: Any) -> Any:
        store.fail = None
        raise StoreHalted("injected")

    with monkeypatch.context() as patch:
        if at == "header":
            patch.setattr(store, "header", fails, raising=False)
        else:
            store.fail = fails
        pass_time(6.5)
        assert isinstance(started(), StoreUnavailable)
    Blocks.gate.open()
    wait_until(lambda: pass_time(1.0) or system.statistics().is_writable)
    again = in_background(lambda: system.start(Blocks.at_once, flow_id="f"))
    assert again().result(timeout=DEAD_MAN_S) == "went on"


def test_a_report_of_an_actor_that_is_gone_changes_nothing(make: Any) -> None:
    system = make()
    handle = system.start(Good.main, flow_id="f")
    system.supervisor.tell(requests.Blocked("f", -1, None, None))
    system.supervisor.tell(requests.Blocked("nobody", 1, None, None))
    handle.signal("n", 1)
    assert handle.result(timeout=DEAD_MAN_S) == 2
