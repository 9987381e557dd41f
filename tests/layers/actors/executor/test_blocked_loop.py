"""An async step that blocks: it is named, its loop is given up, and all others run on another one."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from executor.doubles import DEAD_MAN_S, Gate, MakeExecutor, Reports, Submit, step_threads
from persistasaurus.actors.runtime.primitives import Lock
from persistasaurus.actors.steps import loop as steps_loop
from persistasaurus.actors.steps import thread_pool
from persistasaurus.actors.steps.executor import StepLost, StepTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.runtime.primitives import ManualClock
    from persistasaurus.actors.steps.executor import StepExecutor


@pytest.fixture
def executor(make_executor: MakeExecutor, manual_environment: Environment) -> StepExecutor:
    return make_executor(manual_environment)


class Stage(NamedTuple):
    submit: Submit
    done: Reports
    gate: Gate
    pass_time: Callable[[float], None]
    executor: StepExecutor


@pytest.fixture
def stage(submit: Submit, done: Reports, gate: Gate, pass_time: Any, executor: StepExecutor) -> Stage:
    return Stage(submit, done, gate, pass_time, executor)


async def spin_until(released: threading.Event) -> None:
    while not released.is_set():  # noqa: ASYNC110 - it is about to go on whenever the loop comes round
        await asyncio.sleep(0)


async def ran() -> str:
    return "ran"


class Beside:
    """A coroutine that is in the middle of something when another one blocks."""

    def __init__(self) -> None:
        self.begun, self.cleaned_up = threading.Event(), threading.Event()
        self.went_on = False

    async def __call__(self) -> str:
        wake = asyncio.Event()
        self.begun.set()
        try:
            await wake.wait()
        finally:
            self.cleaned_up.set()
        self.went_on = True
        return "went on"


def block(gate: Gate) -> Any:
    async def blocks() -> Any:
        return gate.pass_through("at last")

    return blocks


def end_of_lost_threads(executor: StepExecutor) -> None:
    for thread in step_threads():
        if executor.lost_threads:
            thread.join(DEAD_MAN_S)
    assert executor.lost_threads == executor.leaked == 0


def test_it_is_named_with_its_line_after_a_second_and_once(
    submit: Submit, gate: Gate, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    submit(block(gate), mode="loop", name="computes")
    gate.wait_until_inside(1)
    submit(ran, mode="loop")
    pass_time(1.0)
    assert "has blocked" not in caplog.text
    pass_time(3.0)
    reports = [record.getMessage() for record in caplog.records if "has blocked" in record.getMessage()]
    assert len(reports) == 1
    assert "Step 'computes' (run-0)" in reports[0]
    assert "test_blocked_loop.py:" in reports[0]
    assert "in blocks()" in reports[0]
    assert "1 others wait" in reports[0]


def test_one_that_blocks_for_short_harms_nobody(
    submit: Submit, done: Reports, gate: Gate, pass_time: Any, executor: StepExecutor
) -> None:
    beside = submit(ran, mode="loop")
    done.wait_for(beside)
    blocks = submit(block(gate), mode="loop")
    gate.wait_until_inside(1)
    waits = submit(ran, mode="loop")
    pass_time(4.5)
    assert not done.outcomes[waits]
    gate.open()
    assert done.wait_for(waits).value == "ran"
    assert done.wait_for(blocks).value == "at last"
    assert executor.lost_threads == 0
    assert len(step_threads()) == 1


def test_its_loop_is_given_up_and_the_others_run_on_another_one(
    submit: Submit, done: Reports, gate: Gate, pass_time: Any, executor: StepExecutor
) -> None:
    beside = Beside()
    lost = submit(beside, mode="loop")
    assert beside.begun.wait(DEAD_MAN_S)
    blocks = submit(block(gate), mode="loop")
    gate.wait_until_inside(1)
    waits = submit(ran, mode="loop")
    pass_time(6.0)

    assert done.wait_for(waits).value == "ran"
    assert isinstance(done.wait_for(lost).error, StepLost)
    assert not done.outcomes[blocks], "it may still come to an end"
    assert executor.lost_threads == executor.leaked == 1
    assert done.wait_for(submit(ran, mode="loop")).value == "ran"

    gate.open()
    assert done.wait_for(blocks).value == "at last"
    end_of_lost_threads(executor)
    assert beside.cleaned_up.is_set()
    assert not beside.went_on
    assert len(done.outcomes[lost]) == 1


def test_what_was_lost_goes_no_further_when_the_loop_comes_round_after_all(
    submit: Submit, done: Reports, gate: Gate, pass_time: Any, executor: StepExecutor
) -> None:
    reached: list[str] = []
    begun, released = threading.Event(), threading.Event()

    async def loses() -> None:
        asyncio.get_running_loop().call_soon(begun.set)
        await spin_until(released)
        reached.append("the step")

    async def part() -> None:
        await spin_until(released)
        reached.append("a part of it")

    async def loses_parts() -> None:
        await asyncio.gather(part(), part())

    lost = [submit(loses, mode="loop"), submit(loses_parts, mode="loop")]
    assert begun.wait(DEAD_MAN_S)
    submit(block(gate), mode="loop")
    gate.wait_until_inside(1)
    pass_time(6.0)
    assert all(isinstance(done.wait_for(key).error, StepLost) for key in lost)

    released.set()
    gate.open()
    end_of_lost_threads(executor)
    assert reached == []


def test_its_timeout_is_kept_and_the_next_attempt_runs_on_another_loop(
    submit: Submit, done: Reports, gate: Gate, pass_time: Any, executor: StepExecutor
) -> None:
    blocks = submit(block(gate), mode="loop", timeout_s=2)
    gate.wait_until_inside(1)
    pass_time(2.25)
    assert isinstance(done.wait_for(blocks).error, StepTimeout)
    again = submit(ran, mode="loop", timeout_s=2)
    pass_time(0.5)
    assert done.wait_for(again).value == "ran"
    assert executor.lost_threads == 1
    gate.open()
    end_of_lost_threads(executor)
    assert len(done.outcomes[blocks]) == 1


def test_a_part_of_a_step_that_blocks_is_that_steps_doing(
    submit: Submit, done: Reports, gate: Gate, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def gathers() -> Any:
        return await asyncio.gather(asyncio.wait_for(block(gate)(), None), ran())

    blocks = submit(gathers, mode="loop", name="gathers")
    gate.wait_until_inside(1)
    pass_time(6.0)
    assert "Step 'gathers'" in caplog.text
    gate.open()
    assert done.wait_for(blocks).value == ["at last", "ran"]


def test_a_callback_that_blocks_is_named_by_its_line(
    submit: Submit, done: Reports, gate: Gate, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def calls_later() -> None:
        asyncio.get_running_loop().call_soon(lambda: gate.pass_through())  # noqa: PLW0108 - a line of ours
        await asyncio.Event().wait()

    lost = submit(calls_later, mode="loop")
    gate.wait_until_inside(1)
    pass_time(6.0)
    assert isinstance(done.wait_for(lost).error, StepLost)
    assert "A callback has blocked" in caplog.text
    assert "test_blocked_loop.py:" in caplog.text
    assert done.wait_for(submit(ran, mode="loop")).value == "ran"


def test_one_in_a_debugger_is_not_given_up(
    submit: Submit, done: Reports, gate: Gate, pass_time: Any, executor: StepExecutor
) -> None:
    at_prompt = eval("lambda: gate.pass_through('at last')", {"__name__": "pdb", "gate": gate})

    async def stopped() -> Any:
        return at_prompt()

    blocks = submit(stopped, mode="loop")
    gate.wait_until_inside(1)
    pass_time(30)
    assert executor.lost_threads == 0
    gate.open()
    assert done.wait_for(blocks).value == "at last"


def test_further_runs_of_a_step_that_blocks_loop_after_loop_are_held_back(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    limit = thread_pool.LOST_PER_STEP
    for number in range(limit):
        stage.submit(block(stage.gate), mode="loop", name="blocks", timeout_s=1)
        stage.gate.wait_until_inside(number + 1)
        stage.pass_time(2.0)
    assert stage.executor.lost_threads == limit
    held = [stage.submit(ran, mode="loop", name="blocks") for _ in range(2)]
    assert stage.done.wait_for(stage.submit(ran, mode="loop", name="another")).value == "ran"
    assert stage.executor.queued == 2
    assert caplog.text.count("'blocks' is held back") == 1
    assert not any(stage.done.outcomes[key] for key in held)

    stage.gate.open()
    assert [stage.done.wait_for(key).value for key in held] == ["ran"] * 2
    end_of_lost_threads(stage.executor)


def test_there_is_an_end_to_how_many_loops_are_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_loop, "_LOST_MAX", 2)
    for number in range(3):
        stage.submit(block(stage.gate), mode="loop", name=f"blocks-{number}")
        stage.gate.wait_until_inside(number + 1)
        stage.pass_time(6.0)
    waits = stage.submit(ran, mode="loop")
    stage.pass_time(60.0)
    assert stage.executor.lost_threads == 2
    assert not stage.done.outcomes[waits]
    stage.gate.open()
    assert stage.done.wait_for(waits).value == "ran"


def test_closing_does_not_wait_for_loops_that_were_given_up(stage: Stage, clock: ManualClock) -> None:
    blocks = stage.submit(block(stage.gate), mode="loop")
    stage.gate.wait_until_inside(1)
    stage.pass_time(6.0)
    stage.done.wait_for(stage.submit(ran, mode="loop"))
    assert stage.executor.close(clock.elapsed()) == (blocks,)


def test_a_loop_that_only_waits_is_not_woken(
    submit: Submit, done: Reports, pass_time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Lock()
    monkeypatch.setattr(steps_loop.LoopThread, "ask", lambda _: asked.acquire())
    begun = threading.Event()
    ends: list[Any] = []

    async def waits() -> str:
        end = asyncio.Event()
        ends.extend((asyncio.get_running_loop(), end))
        asyncio.get_running_loop().call_later(0.05, begun.set)
        await end.wait()
        return "ended"

    key = submit(waits, mode="loop")
    assert begun.wait(DEAD_MAN_S)
    pass_time(25.0)
    ends[0].call_soon_threadsafe(ends[1].set)
    assert done.wait_for(key).value == "ended"
    assert not asked.locked()
