from __future__ import annotations

import asyncio
import random
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from executor.doubles import DEAD_MAN_S, Gate, MakeExecutor, Reports, Submit, step_threads
from persistasaurus.actors.steps.executor import StepExecutor, StepTask, StepTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.runtime.primitives import ManualClock


@pytest.fixture
def executor(make_executor: MakeExecutor, manual_environment: Environment) -> StepExecutor:
    return make_executor(manual_environment, max_threads=2)


def test_a_step_that_runs_too_long_is_reported_as_timed_out(
    submit: Submit, done: Reports, gate: Gate, clock: ManualClock
) -> None:
    key = submit(gate.pass_through, timeout_s=5, name="charge")
    gate.wait_until_inside(1)

    clock.advance(4.9)
    assert not done.outcomes[key]
    clock.advance(0.1)

    error = done.wait_for(key).error
    assert isinstance(error, StepTimeout)
    assert isinstance(error, TimeoutError)
    assert str(error) == (
        "step 'charge' ran longer than 5 s; its thread continues, and its late result is discarded"
    )


def test_a_late_result_is_discarded_and_its_thread_ends(
    submit: Submit, done: Reports, gate: Gate, clock: ManualClock, executor: StepExecutor
) -> None:
    key = submit(lambda: gate.pass_through("late"), timeout_s=5)
    gate.wait_until_inside(1)
    (thread,) = step_threads()
    clock.advance(5)
    assert executor.leaked == 1
    assert executor.running() == ()

    gate.open()
    thread.join(DEAD_MAN_S)

    assert executor.leaked == 0
    assert len(done.outcomes[key]) == 1


def test_hung_threads_do_not_lessen_what_the_pool_can_run(
    submit: Submit, done: Reports, gate: Gate, clock: ManualClock, executor: StepExecutor
) -> None:
    for _ in range(3):
        for _ in range(2):
            submit(gate.pass_through, timeout_s=5)
            clock.advance(1)
        clock.advance(10)

    gate.wait_until_inside(6)
    assert executor.leaked == 6
    assert done.wait_for(submit(lambda: "room")).value == "room"


def test_what_waits_behind_hung_steps_is_run_when_they_time_out(
    submit: Submit, done: Reports, gate: Gate, clock: ManualClock
) -> None:
    submit(gate.pass_through, timeout_s=5)
    clock.advance(1)
    submit(gate.pass_through, timeout_s=5)
    gate.wait_until_inside(2)
    behind = submit(lambda: "at last")
    clock.advance(1)
    assert not done.outcomes[behind]

    clock.advance(10)

    assert done.wait_for(behind).value == "at last"


def test_the_timeout_counts_from_the_start_and_not_from_submit(
    submit: Submit, done: Reports, gate: Gate, clock: ManualClock
) -> None:
    for _ in range(2):
        submit(gate.pass_through)
        clock.advance(1)
    gate.wait_until_inside(2)
    second_gate = type(gate)()
    waiting = submit(second_gate.pass_through, timeout_s=5)

    clock.advance(100)
    gate.open()
    second_gate.wait_until_inside(1)
    clock.advance(4)

    assert not done.outcomes[waiting]
    second_gate.open()
    assert done.wait_for(waiting).error is None


def test_a_shorter_timeout_is_not_hidden_by_a_longer_one(
    submit: Submit, done: Reports, gate: Gate, clock: ManualClock
) -> None:
    long = submit(gate.pass_through, timeout_s=100)
    clock.advance(1)
    short = submit(gate.pass_through, timeout_s=3)
    gate.wait_until_inside(2)

    clock.advance(3.1)

    assert isinstance(done.wait_for(short).error, StepTimeout)
    assert not done.outcomes[long]
    clock.advance(100)
    assert isinstance(done.wait_for(long).error, StepTimeout)


def test_timeouts_fire_in_real_time_too(
    make_executor: MakeExecutor, submit: Submit, done: Reports, gate: Gate
) -> None:
    key = submit(gate.pass_through, timeout_s=0.02, to=make_executor())

    assert isinstance(done.wait_for(key).error, StepTimeout)


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Have the threads take turns a thousand times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless_threads")
def test_exactly_one_outcome_is_reported_when_finishing_and_timing_out_race(
    executor: StepExecutor, clock: ManualClock, done: Reports
) -> None:
    spins = random.Random(20).randrange
    for number in range(500):
        both, spin = threading.Barrier(2), (spins(5000), spins(5000))

        def step(both: threading.Barrier = both, turns: int = spin[0]) -> None:
            both.wait(DEAD_MAN_S)
            both.wait(DEAD_MAN_S)
            sum(range(turns))

        executor.submit(StepTask(key=number, mode="thread", name="x", call=step, timeout_s=1), done)
        both.wait(DEAD_MAN_S)
        both.wait(DEAD_MAN_S)
        sum(range(spin[1]))
        clock.advance(1)
        done.wait_for(number)

    executor.close(clock.elapsed())
    for thread in step_threads():
        thread.join(DEAD_MAN_S)
    assert all(len(outcomes) == 1 for outcomes in done.outcomes.values())
    assert executor.leaked == 0
    assert {type(outcome.error) for (outcome,) in done.outcomes.values()} == {type(None), StepTimeout}


def test_a_coroutine_that_runs_too_long_is_cancelled(
    submit: Submit, done: Reports, clock: ManualClock, executor: StepExecutor
) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    key = submit(hang, mode="loop", timeout_s=5)
    assert begun.wait(DEAD_MAN_S)
    clock.advance(5)

    assert isinstance(done.wait_for(key).error, StepTimeout)
    assert cancelled.wait(DEAD_MAN_S)


def test_a_coroutine_that_swallows_its_cancellation_is_counted_and_its_result_discarded(
    submit: Submit, done: Reports, clock: ManualClock, executor: StepExecutor
) -> None:
    begun, swallowed = threading.Event(), threading.Event()
    released: list[Any] = []

    async def stubborn() -> str:
        release = asyncio.Event()
        released.append((asyncio.get_running_loop(), release))
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
            await release.wait()
        return "late"

    key = submit(stubborn, mode="loop", timeout_s=5)
    assert begun.wait(DEAD_MAN_S)
    clock.advance(5)
    assert isinstance(done.wait_for(key).error, StepTimeout)
    assert swallowed.wait(DEAD_MAN_S)
    assert executor.leaked == 1

    loop, release = released[0]
    loop.call_soon_threadsafe(release.set)
    while executor.leaked:
        done.wait_for(submit(asyncio_nothing, mode="loop"))
    assert len(done.outcomes[key]) == 1


def test_a_coroutine_that_blocks_the_loop_times_out_all_the_same(
    submit: Submit, done: Reports, clock: ManualClock, gate: Gate
) -> None:
    async def blocking() -> None:
        gate.pass_through()

    key = submit(blocking, mode="loop", timeout_s=5)
    gate.wait_until_inside(1)

    clock.advance(5)

    assert isinstance(done.wait_for(key).error, StepTimeout)


async def asyncio_nothing() -> None:
    return None
