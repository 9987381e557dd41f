"""Deaths of the process: who is to blame for them does not run again, and who is not goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowEnded,
    FlowNotFound,
    FlowParked,
    FlowSystem,
    StoreUnavailable,
    flow,
    step,
    wait_for,
)
from persistasaurus.actors import RemoteClient
from persistasaurus.actors.flows import requests
from persistasaurus.actors.flows.supervisor import Supervisor
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import StoreHalted
from persistasaurus.store.files.black_box import BlackBox
from system.doubles import (
    DEAD_MAN_S,
    FaultyStore,
    kinds,
    memory_store,
    share_black_box,
    supervisor_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
import os, sys, threading, time
from persistasaurus import Flow, FlowSystem, flow, sleep, step

class Lethal(Flow):
    @flow(name="lethal")
    async def main(self) -> str:
        await sleep(0.02)
        if not os.path.exists(sys.argv[1] + ".mended"):
            os._exit(9)
        return "mended"

class Good(Flow):
    @flow(name="good")
    async def main(self) -> int:
        return sum([await self.work() for _ in range(20)])
    @step
    def work(self) -> int:
        return 1

class Long(Flow):
    @flow(name="long")
    async def main(self) -> str:
        return await self.work()
    @step
    def work(self) -> str:
        print("running", flush=True)
        threading.Event().wait(float(sys.argv[3]))
        return "done"

with FlowSystem(sys.argv[1], flows=[Lethal, Good, Long]) as system:
    if sys.argv[2] == "lethal":
        system.start(Good.main, flow_id="good")
        culprit = system.start(Lethal.main, flow_id="culprit")
        system.flow("good").result(timeout=20)
        deadline = time.monotonic() + 20
        while culprit.status in ("running", "waiting") and time.monotonic() < deadline:
            threading.Event().wait(0.002)
        print(culprit.status, flush=True)
    else:
        print(system.start(Long.main, flow_id="long").result(timeout=20), flush=True)
"""


def run(path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(path), *args]
    return subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


def test_a_body_that_takes_the_process_down_is_parked_at_the_third_death(path: Path) -> None:
    codes = [run(path, "lethal").returncode for _ in range(3)]
    last = run(path, "lethal")
    assert codes == [9, 9, 9]
    assert (last.returncode, last.stdout) == (0, "parked\n"), last.stderr
    assert "the process died 3 times while the flow's own code ran" in last.stderr


def test_a_person_can_pause_it_while_nothing_runs(path: Path) -> None:
    assert run(path, "lethal").returncode == 9
    with RemoteClient(path) as client:
        posted = client.pause("culprit", why="it takes the process down")
        after = run(path, "lethal")
        assert (after.returncode, after.stdout) == (0, "paused\n"), after.stderr
        answer = posted.wait(timeout=0)
        assert answer is not None
        assert answer.is_done


def stopped(path: Path, number: int, seconds: str = "60") -> None:
    """Run the long step, and end the process with a signal as soon as it runs."""
    command = [sys.executable, "-c", PROGRAM, str(path), "long", seconds]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(number)
        assert process.wait(60) == -number


def test_deploys_during_a_long_step_do_not_poison_it(path: Path) -> None:
    for _ in range(4):
        stopped(path, signal.SIGTERM)
    assert run(path, "long", "0").stdout == "running\ndone\n"


def test_kills_at_once_are_held_against_the_step_that_ran(path: Path) -> None:
    for _ in range(3):
        stopped(path, signal.SIGKILL)
    after = run(path, "long", "0")
    assert "Limits(poison_after=3)" in after.stderr
    assert "handle.retry()" in after.stderr


class Kills(Flow):
    simulation: Any = None

    @flow(name="kills")
    async def main(self) -> str:
        await wait_for("go", int)
        if Kills.simulation is not None:
            Kills.simulation.kill()
        return "alive"


class Waits(Flow):
    @flow(name="waits")
    async def main(self) -> int:
        return await wait_for("n", int)


@pytest.mark.parametrize("others", [0, 5])
@pytest.mark.parametrize("seed", range(10))
def test_whoever_kills_is_found_out_in_virtual_time_whatever_the_order(seed: int, others: int) -> None:
    with Simulation([Kills, Waits], seed=seed) as simulation:
        share_black_box(simulation)
        for number in range(others):
            simulation.insist(lambda s, n=number: s.start(Waits.main, flow_id=f"w{n}"))
        simulation.insist(lambda s: s.start(Kills.main, flow_id="culprit"))
        Kills.simulation = simulation
        simulation.insist(lambda s: s.flow("culprit").signal("go", 1, signal_id="go"))
        for number in range(others):
            simulation.insist(lambda s, n=number: s.flow(f"w{n}").signal("n", n, signal_id="n"))
        simulation.run_until_idle()
        assert simulation.insist(lambda s: s.flow("culprit").status) == "parked"
        assert simulation.crashes == 3
        for number in range(others):
            assert simulation.insist(lambda s, n=number: s.flow(f"w{n}").result()) == number
        with pytest.raises(FlowParked, match="lethal"):
            simulation.system.flow("culprit").result()
        Kills.simulation = None
        simulation.insist(lambda s: s.flow("culprit").retry())
        assert simulation.insist(lambda s: s.flow("culprit").result()) == "alive"


class Steps(Flow):
    @flow
    async def main(self) -> int:
        return await self.work()

    @step
    def work(self) -> int:
        return 1


def test_a_system_says_when_it_can_keep_no_black_box(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (path.parent / "flows.db.blackbox").mkdir()
    (path.parent / "flows.db.blackbox" / "in the way").touch()
    with FlowSystem(path, flows=[Steps]) as system:
        assert system.run(Steps.main) == 1
    assert "cannot be noted" in caplog.text


def test_an_order_that_needs_a_flow_at_work_holds_nobody_up(path: Path) -> None:
    with FlowSystem(path, flows=[Waits]) as system:
        system.start(Waits.main, flow_id="f").pause()
        system.start(Waits.main, flow_id="g")
    with RemoteClient(path) as client:
        client.resume("f")
        client.pause("f")
        client.signal("g", "n", b"1")
        client.pause("g")
    with FlowSystem(path, flows=[Waits]) as system:
        wait_until(lambda: system.flow("f").status == "paused" and kinds(system.flow("f"))[-1] == "paused")
        wait_until(lambda: system.flow("g").status == "paused")
        wait_until(lambda: kinds(system.flow("f")).count("paused") == 2)
        system.flow("g").resume()
        assert system.flow("g").result(timeout=DEAD_MAN_S) == 1


@pytest.mark.parametrize("seed", range(3))
def test_without_the_note_nobody_would_be_found_out(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlackBox, "begin", lambda *_: 0)
    with Simulation([Kills, Waits], seed=seed) as simulation:
        share_black_box(simulation)
        simulation.insist(lambda s: s.start(Kills.main, flow_id="culprit"))
        monkeypatch.setattr(Kills, "simulation", simulation)

        def give_up() -> None:
            if simulation.crashes == 10:
                Kills.simulation = None

        simulation.before_turn = give_up
        simulation.insist(lambda s: s.flow("culprit").signal("go", 1, signal_id="go"))
        assert simulation.insist(lambda s: s.flow("culprit").result()) == "alive"
        assert simulation.crashes == 10


def test_a_pause_that_is_on_record_would_come_too_late_if_flows_were_not_held_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    class Runs(Flow):
        @flow(name="runs")
        async def main(self) -> None:
            ran.append("started")
            await wait_for("go")
            ran.append("went on")

    for is_held_back in (True, False):
        file = path.with_name(f"{is_held_back}.db")
        with FlowSystem(file, flows=[Runs]) as system:
            system.start(Runs.main, flow_id="f")
        with RemoteClient(file) as client:
            client.pause("f")
            client.signal("f", "go")
        ran.clear()
        if not is_held_back:
            monkeypatch.setattr(
                Supervisor,
                "_pause_without_actor",
                lambda s, request: s._let_begin(requests.Begin((request.flow_id,))),
            )
        with FlowSystem(file, flows=[Runs]) as system:
            wait_until(lambda s=system: s.flow("f").status == "paused" or ran)
        assert bool(ran) is not is_held_back


@pytest.fixture(name="held_back")
def _held_back() -> Iterator[FlowSystem]:
    """Open a system in which nothing may begin."""
    with FlowSystem(store=FaultyStore(memory_store()), flows=[Waits, Steps]) as system:
        system.start(Waits.main, flow_id="waits")
        system.start(Waits.main, flow_id="paused").pause()
        system.run(Steps.main, flow_id="ended")
        supervisor = supervisor_of(system)
        supervisor._is_held_back = True
        for active in list(supervisor._active.values()):
            active.tell(requests.Passivate())
        wait_until(lambda: not supervisor._active)
        yield system
        system.supervisor.tell(requests.Begin())


def test_what_is_at_rest_is_paused_without_anybody_at_work(held_back: FlowSystem) -> None:
    held_back.flow("waits").pause(by="ada")
    held_back.flow("paused").pause()
    assert kinds(held_back.flow("waits"))[-1] == "paused"
    assert kinds(held_back.flow("paused")).count("paused") == 1
    with pytest.raises(FlowEnded):
        held_back.flow("ended").pause()
    nobody = requests.PauseFlow("nobody", "", "", Reply())
    held_back.client.ask(nobody)
    with pytest.raises(FlowNotFound):
        nobody.reply.get(timeout=DEAD_MAN_S)


def test_a_store_that_fails_pauses_nobody_and_convicts_nobody(
    held_back: FlowSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = held_back.flow("waits")

    def fails(_: Any) -> Any:
        raise StoreHalted("injected")

    with monkeypatch.context() as patch:
        patch.setattr(held_back.store, "header", fails, raising=False)
        with pytest.raises(StoreUnavailable):
            handle.pause()
        held_back.supervisor.ask(requests.Begin(("waits",), (("waits", 3),)), block=True)
    assert handle.status == "waiting"


def test_a_commit_that_fails_pauses_nobody(held_back: FlowSystem) -> None:
    store: Any = held_back.store
    store.fail = lambda *_: lost(store)
    with pytest.raises(StoreUnavailable):
        held_back.flow("waits").pause()
    assert held_back.flow("waits").status == "waiting"


def lost(store: Any) -> None:
    store.fail = None
    raise StoreHalted("injected")


def test_suspects_that_are_gone_hold_nobody_up(held_back: FlowSystem) -> None:
    begin = requests.Begin(("nobody", "ended", "paused", "waits"), (("nobody", 3), ("ended", 3)))
    held_back.supervisor.tell(begin)
    held_back.flow("waits").signal("n", 1)
    assert held_back.flow("waits").result(timeout=DEAD_MAN_S) == 1
    assert held_back.flow("ended").status == "completed"


def test_code_has_the_same_fingerprint_wherever_and_whenever_it_runs(path: Path) -> None:
    show = "print(Registry([Lethal, Good, Long]).fingerprint().hex())"
    program = (
        "from persistasaurus.flows import Registry\n" + PROGRAM.split("with FlowSystem", maxsplit=1)[0] + show
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    changed = program.replace("return 1", "return 2")
    other = subprocess.run([sys.executable, "-c", changed], check=True, capture_output=True, env={}).stdout
    assert len(prints) == 1
    assert other not in prints
