from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from executor.doubles import DEAD_MAN_S, Gate, MakeExecutor, Reports, Submit, step_threads
from persistasaurus.actors.steps.executor import StepExecutor, StepTask
from persistasaurus.flows.errors import SystemClosed
from system.doubles import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.steps.task import StepMode


def test_nothing_is_left_of_an_idle_executor(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment
) -> None:
    async def nothing() -> None:
        return None

    done.wait_for(submit(int))
    done.wait_for(submit(nothing, mode="loop"))
    done.wait_for(submit(mode="process", target=("executor.isolated_targets", "Echo")))
    assert len(step_threads()) == 3

    assert executor.close(environment.clock.elapsed() + 5) == ()

    assert step_threads() == []


def test_an_executor_that_was_never_used_can_be_closed_twice(
    executor: StepExecutor, environment: Environment
) -> None:
    assert executor.close(environment.clock.elapsed()) == ()
    assert executor.close(environment.clock.elapsed()) == ()


@pytest.mark.parametrize("mode", ["thread", "loop", "process"])
def test_nothing_is_taken_after_close(
    mode: StepMode, executor: StepExecutor, done: Reports, environment: Environment
) -> None:
    executor.close(environment.clock.elapsed())

    with pytest.raises(SystemClosed):
        executor.submit(StepTask(key=1, mode=mode, name="x"), done)


def test_what_runs_may_end_before_the_deadline(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment, gate: Gate
) -> None:
    key = submit(lambda: gate.pass_through("finished"))
    gate.wait_until_inside(1)
    unfinished = []
    closer = threading.Thread(
        target=lambda: unfinished.append(executor.close(environment.clock.elapsed() + 60))
    )
    closer.start()
    gate.open()
    closer.join(DEAD_MAN_S)

    assert unfinished == [()]
    assert done.outcomes[key][0].value == "finished"
    assert step_threads() == []


def test_a_stuck_step_does_not_hold_up_closing_and_is_never_reported(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment, gate: Gate
) -> None:
    stuck = submit(gate.pass_through)
    gate.wait_until_inside(1)
    (thread,) = step_threads()
    begun = environment.clock.elapsed()

    assert executor.close(begun + 0.05) == (stuck,)

    assert environment.clock.elapsed() - begun < 2
    assert executor.leaked == 1
    gate.open()
    thread.join(DEAD_MAN_S)
    assert not thread.is_alive()
    assert not done.outcomes[stuck]


def test_stuck_coroutines_are_cancelled_by_the_deadline(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment
) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    key = submit(hang, mode="loop")
    assert begun.wait(DEAD_MAN_S)

    assert executor.close(environment.clock.elapsed()) == (key,)

    assert cancelled.is_set()
    assert step_threads() == []
    assert not done.outcomes[key]


def test_a_blocked_loop_does_not_hold_up_closing(
    submit: Submit, executor: StepExecutor, environment: Environment, gate: Gate
) -> None:
    async def block() -> None:
        gate.pass_through()

    key = submit(block, mode="loop")
    gate.wait_until_inside(1)
    begun = environment.clock.elapsed()

    assert executor.close(begun) == (key,)

    assert environment.clock.elapsed() - begun < 5
    (loop,) = step_threads()
    gate.open()
    loop.join(DEAD_MAN_S)


def test_a_coroutine_that_refuses_to_be_cancelled_does_not_hold_up_closing(
    submit: Submit, executor: StepExecutor, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    begun = threading.Event()

    async def stubborn() -> None:
        begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    key = submit(stubborn, mode="loop")
    assert begun.wait(DEAD_MAN_S)

    assert executor.close(environment.clock.elapsed()) == (key,)

    assert step_threads() == []


def test_stuck_processes_are_killed_by_the_deadline(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    key = submit(mode="process", target=("executor.isolated_targets", "LoopForEver"), payload=bytes(told))
    wait_until(told.exists)

    assert executor.close(environment.clock.elapsed()) == (key,)

    assert step_threads() == []
    assert not done.outcomes[key]


def test_what_waits_is_not_started_any_more_and_not_named(
    make_executor: MakeExecutor, submit: Submit, done: Reports, environment: Environment, gate: Gate
) -> None:
    executor = make_executor(max_threads=1)
    running = submit(gate.pass_through, to=executor)
    gate.wait_until_inside(1)
    ran = threading.Event()
    submit(ran.set, to=executor)
    closer = threading.Thread(target=lambda: executor.close(environment.clock.elapsed() + 60))
    closer.start()
    while not executor._is_closed or executor._threads._waiting:
        pass
    gate.open()
    closer.join(DEAD_MAN_S)

    assert done.outcomes[running]
    assert not ran.is_set()


def test_a_step_may_close_the_executor_it_runs_on(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment
) -> None:
    key = submit(lambda: executor.close(environment.clock.elapsed()))

    while not executor._is_closed or executor.running():
        pass

    assert not done.outcomes[key]


def test_every_task_is_reported_or_named_or_never_started_when_closing_races_with_submitting(
    make_executor: MakeExecutor, done: Reports, environment: Environment
) -> None:
    for _ in range(30):
        done.outcomes.clear()

        close_while_submitting(make_executor(max_threads=4), done, environment)


def close_while_submitting(executor: StepExecutor, done: Reports, environment: Environment) -> None:
    started: set[tuple[int, int]] = set()
    barrier = threading.Barrier(4)

    def submit_many(who: int) -> None:
        barrier.wait(DEAD_MAN_S)
        with contextlib.suppress(SystemClosed):
            for n in range(200):
                call = partial(started.add, (who, n))
                executor.submit(StepTask(key=(who, n), mode="thread", name="x", call=call), done)

    callers = [threading.Thread(target=submit_many, args=(who,)) for who in range(3)]
    for caller in callers:
        caller.start()
    barrier.wait(DEAD_MAN_S)
    unfinished = executor.close(environment.clock.elapsed() + 5)
    for caller in callers:
        caller.join(DEAD_MAN_S)

    assert unfinished == ()
    assert started == set(done.outcomes)
