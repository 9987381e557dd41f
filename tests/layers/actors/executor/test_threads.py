from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from executor.doubles import DEAD_MAN_S, Faults, Gate, MakeExecutor, Reports, Submit, step_threads
from persistasaurus.actors.steps import thread_pool
from persistasaurus.actors.steps.executor import StepCrashed, StepExecutor, StepTask

if TYPE_CHECKING:
    from persistasaurus.actors.runtime.environment import Environment


def test_what_the_call_returns_is_reported_once_on_a_thread_of_the_executor(
    submit: Submit, done: Reports
) -> None:
    key = submit(lambda: 42)

    assert done.wait_for(key).value == 42
    assert done.wait_for(key).error is None
    assert done.threads[0].startswith("persistasaurus-step-thread")


def test_no_thread_is_started_before_the_first_step(executor: StepExecutor) -> None:
    assert step_threads() == []


def test_importing_the_executor_loads_neither_asyncio_nor_multiprocessing() -> None:
    program = (
        "import sys, persistasaurus.actors.steps.executor\n"
        "print([m for m in ('asyncio', 'multiprocessing', 'concurrent.futures') if m in sys.modules])"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)

    assert told.stdout.strip() == b"[]"


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration]
)
def test_whatever_a_step_raises_is_that_steps_error_and_the_thread_lives_on(
    error: type[BaseException], submit: Submit, done: Reports
) -> None:
    def fail() -> None:
        raise error("on purpose")

    threads = [submit(threading.get_ident)]
    threads.append(done.wait_for(threads[0]).value)
    failed = submit(fail)

    assert type(done.wait_for(failed).error) is error
    assert done.wait_for(submit(threading.get_ident)).value == threads[1]


def test_steps_that_come_one_by_one_are_run_by_the_same_thread(submit: Submit, done: Reports) -> None:
    used = {done.wait_for(submit(threading.get_ident)).value for _ in range(200)}

    assert len(used) == 1


def test_64_steps_that_block_run_all_at_once(submit: Submit, gate: Gate, executor: StepExecutor) -> None:
    for _ in range(64):
        submit(gate.pass_through)

    gate.wait_until_inside(64)
    assert len(executor.running()) == 64


def test_the_thread_of_the_alarms_is_not_held_up_by_starting_many(
    make_executor: MakeExecutor, short_environment: Environment, faults: Faults, submit: Submit, gate: Gate
) -> None:
    executor = make_executor(short_environment)
    for _ in range(64):
        submit(gate.pass_through, to=executor)
    gate.wait_until_inside(64)

    assert len(faults.starters) == 64
    assert faults.starters.count("persistasaurus-alarms") < 20


def test_no_more_steps_run_at_once_than_allowed_and_the_rest_follows_in_order(
    make_executor: MakeExecutor, submit: Submit, gate: Gate, done: Reports
) -> None:
    executor = make_executor(max_threads=2)
    order: list[int] = []
    blocked = [submit(gate.pass_through, to=executor) for _ in range(2)]
    gate.wait_until_inside(2)
    waiting = [submit(lambda n=n: order.append(n), to=executor) for n in range(5)]

    assert len(executor.running()) == 2
    gate.open()

    for key in blocked + waiting:
        done.wait_for(key)
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_short_steps_get_through_while_others_block(submit: Submit, gate: Gate, done: Reports) -> None:
    for _ in range(10):
        submit(gate.pass_through)
    gate.wait_until_inside(10)

    for number in range(100):
        assert done.wait_for(submit(lambda n=number: n)).value == number

    assert len(step_threads()) <= 20


def test_a_step_queued_behind_one_that_begins_to_block_is_run_by_another(
    submit: Submit, gate: Gate, done: Reports
) -> None:
    blocked = submit(gate.pass_through)
    behind = [submit(lambda: "ran") for _ in range(10)]

    for key in behind:
        assert done.wait_for(key).value == "ran"
    assert not done.outcomes[blocked]


def test_steps_that_wait_for_each_other_are_not_left_waiting(submit: Submit, done: Reports) -> None:
    barrier = threading.Barrier(32)

    keys = [submit(lambda: barrier.wait(DEAD_MAN_S)) for _ in range(32)]

    assert sorted(done.wait_for(key).value for key in keys) == list(range(32))


def test_idle_threads_end(make_executor: MakeExecutor, submit: Submit, done: Reports, gate: Gate) -> None:
    executor = make_executor(idle_s=0.01)
    for _ in range(4):
        submit(gate.pass_through, to=executor)
    gate.wait_until_inside(4)
    threads = step_threads()
    gate.open()

    for thread in threads:
        thread.join(DEAD_MAN_S)
        assert not thread.is_alive()
    assert done.wait_for(submit(lambda: "again", to=executor)).value == "again"


def test_steps_come_through_while_threads_come_and_go(
    make_executor: MakeExecutor, submit: Submit, done: Reports
) -> None:
    executor = make_executor(idle_s=0.0001, max_threads=3)

    for number in range(500):
        assert done.wait_for(submit(lambda n=number: n, to=executor)).value == number


def test_steps_submitted_from_many_threads_and_from_done_all_run_once(
    executor: StepExecutor, done: Reports
) -> None:
    def again(task: StepTask, outcome: Any) -> None:
        done(task, outcome)
        if task.key[2] < 3:
            executor.submit(
                StepTask(key=(*task.key[:2], task.key[2] + 1), mode="thread", name="x", call=int), again
            )

    def submit_many(who: int) -> None:
        for n in range(200):
            executor.submit(StepTask(key=(who, n, 0), mode="thread", name="x", call=int), again)

    callers = [threading.Thread(target=submit_many, args=(who,)) for who in range(8)]
    for caller in callers:
        caller.start()
    done.wait_for_all(8 * 200 * 4)
    for caller in callers:
        caller.join(DEAD_MAN_S)

    assert len(done.outcomes) == 8 * 200 * 4
    assert all(len(outcomes) == 1 for outcomes in done.outcomes.values())


def test_a_step_leaves_nothing_in_the_context_of_the_next(submit: Submit, done: Reports) -> None:
    variable = contextvars.ContextVar("variable", default="untouched")

    done.wait_for(submit(lambda: variable.set("touched")))

    assert done.wait_for(submit(variable.get)).value == "untouched"


def test_running_tells_key_name_and_since_when(
    submit: Submit, gate: Gate, executor: StepExecutor, environment: Environment
) -> None:
    before = environment.clock.elapsed()
    key = submit(gate.pass_through, name="charge")
    gate.wait_until_inside(1)

    (step,) = executor.running()

    assert (step.key, step.name) == (key, "charge")
    assert before <= step.since <= environment.clock.elapsed()


def test_an_idle_thread_holds_nothing_of_its_last_step(executor: StepExecutor, done: Reports) -> None:
    class Held:
        def __call__(self) -> None:
            raise ValueError("with a traceback that leads to this object")

    held = Held()
    seen = weakref.ref(held)
    executor.submit(StepTask(key=1, mode="thread", name="x", call=held), done)
    done.wait_for(1)
    done.outcomes.clear()
    del held
    # The thread lets go of the step when it waits for the next; another step shows that it does.
    executor.submit(StepTask(key=2, mode="thread", name="x", call=int), done)
    done.wait_for(2)

    gc.disable()
    try:
        assert seen() is None
    finally:
        gc.enable()


def test_a_done_that_raises_is_logged_and_harms_nobody(
    executor: StepExecutor,
    submit: Submit,
    done: Reports,
    environment: Environment,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(task: StepTask, outcome: Any) -> None:
        raise SystemExit("from done")

    executor.submit(StepTask(key="x", mode="thread", name="charge", call=int), broken)

    assert done.wait_for(submit(lambda: "next")).value == "next"
    executor.close(environment.clock.elapsed() + 5)
    assert "The outcome of step 'charge' could not be reported" in caplog.text


def test_a_thread_that_is_ended_from_outside_is_replaced_and_its_step_reported(
    make_executor: MakeExecutor,
    submit: Submit,
    done: Reports,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    executor = make_executor(max_threads=1)
    monkeypatch.setattr(thread_pool.Worker, "_work", die_in_a_step(thread_pool.Worker._work))
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    first = submit(lambda: "first", to=executor, name="doomed")
    second = submit(lambda: "second", to=executor)

    assert isinstance(done.wait_for(first).error, StepCrashed)
    assert done.wait_for(second).value == "second"


def die_in_a_step(work: Any) -> Any:
    deaths = iter([True])

    def dying(worker: Any) -> bool:
        if next(deaths, False):
            worker.pool.take(worker)
            raise SystemError("thrown into the thread")
        return work(worker)

    return dying
