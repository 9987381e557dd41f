"""A process forks while its system is at work, at any instant: the child can open one of its own, or end."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, FlowSystem, SystemClosed, flow, step, wait_for
from system.doubles import DEAD_MAN_S
from system.forking_steps import Forks, ForksAndAwaits, isolated_step_of_a_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHILDREN = 25


class Adds(Flow):
    @flow
    async def main(self) -> int:
        return await self.add(1, 2)

    @step
    def add(self, one: int, other: int) -> int:
        return one + other

    @flow
    async def waits(self) -> int:
        return await wait_for("n", int)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[FlowSystem]:
    """A system with much to do in all of its threads, and in those that ask it."""
    stop = Event()
    with FlowSystem(tmp_path / "parent.db", flows=[Adds]) as system:

        def churn() -> None:
            while not stop.is_set():
                system.run(Adds.main)
                system.flows(limit=5)
                system.statistics()

        threads = [Thread(target=churn, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        system.start(Adds.waits, flow_id="waits")
        yield system
        stop.set()
        for thread in threads:
            thread.join(DEAD_MAN_S)
        assert system.run(Adds.main) == 3
        assert system.store.verify() == []


def in_child(work: Callable[[], None]) -> int:
    """Run it in a forked child; 0: it went well. A child that hangs is killed by its own alarm."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(int(DEAD_MAN_S))
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_opens_a_system_of_its_own(busy: FlowSystem, tmp_path: Path) -> None:
    def work() -> None:
        with FlowSystem(tmp_path / f"{os.getpid()}.db", flows=[Adds]) as own:
            assert own.run(Adds.main) == 3

    assert [in_child(work) for _ in range(CHILDREN)] == [0] * CHILDREN


def work_of_a_pool(path: str) -> int:
    with FlowSystem(path, flows=[Adds]) as own:
        return own.run(Adds.main)


def test_so_does_a_child_of_multiprocessing_that_forks(busy: FlowSystem, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"pool-{number}.db") for number in range(6)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(work_of_a_pool, paths).get(DEAD_MAN_S) == [3] * 6


USES: list[Callable[[FlowSystem, Any], object]] = [
    lambda system, _: system.run(Adds.main),
    lambda system, _: system.flow("waits"),
    lambda system, _: system.flows(),
    lambda system, _: system.statistics(),
    lambda system, _: system.on_commit(lambda: None),
    lambda system, _: system.start_json("main"),
    lambda system, _: asyncio.run(system.start_async(Adds.main)),  # type: ignore[arg-type]
    lambda _, handle: handle.status,
    lambda _, handle: handle.result(),
    lambda _, handle: handle.result(timeout=0),
    lambda _, handle: asyncio.run(handle.result_async()),
    lambda _, handle: handle.signal("n", 1),
    lambda _, handle: handle.pause(),
    lambda _, handle: handle.retry(),
    lambda _, handle: handle.events(),
]


def test_what_a_child_has_inherited_refuses_at_once_and_can_be_closed(busy: FlowSystem) -> None:
    handle = busy.flow("waits")

    def work() -> None:
        for use in USES:
            with pytest.raises(SystemClosed, match="forked"):
                use(busy, handle)
        busy.close()
        asyncio.run(busy.close_async())
        busy.store.close()

    assert [in_child(work) for _ in range(CHILDREN)] == [0] * CHILDREN
    assert handle.status in ("running", "waiting")


def test_a_child_that_closes_every_file_it_has_inherited_harms_nothing(busy: FlowSystem) -> None:
    assert in_child(lambda: os.closerange(3, 1024)) == 0

    assert busy.run(Adds.main) == 3


@pytest.mark.parametrize("kind", ["def", "async", "isolated"])
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 1), ("exits", 7), ("complains", 1)])
def test_a_child_that_a_step_forks_ends_with_the_step(tmp_path: Path, kind: str, how: str, code: int) -> None:
    with FlowSystem(tmp_path / "flows.db", flows=[Forks]) as system:
        process, exit_code = system.run(Forks.main, kind, how)

    assert exit_code == code
    assert (process == os.getpid()) == (kind != "isolated")


@pytest.mark.parametrize(("how", "code"), [("itself", 1), ("in a part", 1), ("in a callback", 0)])
def test_a_child_that_an_async_step_forks_runs_nothing_of_its_parents_loop(
    tmp_path: Path, how: str, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes"
    with FlowSystem(tmp_path / "flows.db", flows=[ForksAndAwaits]) as system:
        assert system.run(ForksAndAwaits.main, how, str(notes)) == code

    assert notes.read_text().split() == [str(os.getpid())] * 200
    assert ("the loop is its parent's" in capfd.readouterr().err) == bool(code)


def test_a_daemonic_child_of_multiprocessing_has_isolated_steps(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(
        target=isolated_step_of_a_daemon, args=(str(tmp_path / "flows.db"), answers), daemon=True
    )
    process.start()
    process.join(DEAD_MAN_S)

    assert process.exitcode == 0
    assert answers.get() == (7, True)


def test_a_child_that_ends_as_python_does_ends(busy: FlowSystem) -> None:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join(DEAD_MAN_S)

    assert process.exitcode == 0
