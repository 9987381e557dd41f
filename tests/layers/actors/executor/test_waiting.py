"""Steps that wait for what other steps must do first: there is always a thread for those."""

from __future__ import annotations

import asyncio
import logging
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from executor.doubles import DEAD_MAN_S, Gate, MakeExecutor, Reports, Submit, step_threads
from persistasaurus.actors.runtime.futures import PooledFuture, Reply
from persistasaurus.actors.steps import thread_pool
from persistasaurus.actors.steps.executor import StepTimeout
from pykka import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.steps.executor import StepExecutor

THREADS = 2


@pytest.fixture
def executor(make_executor: MakeExecutor) -> StepExecutor:
    return make_executor(max_threads=THREADS, idle_s=0.05)


def wait_for(reply: PooledFuture[Any]) -> Any:
    return reply.get()


def await_in_a_loop_of_its_own(reply: PooledFuture[Any]) -> Any:
    async def awaited() -> Any:
        return await reply

    return asyncio.run(awaited())


@pytest.mark.parametrize("wait", [wait_for, await_in_a_loop_of_its_own])
def test_however_many_steps_wait_others_run(
    wait: Callable[[Any], Any], submit: Submit, done: Reports, executor: StepExecutor
) -> None:
    number = 300 if wait is wait_for else 30
    reply: Reply[str] = Reply()
    waiting = [submit(lambda: wait(reply)) for _ in range(number)]
    answering = submit(lambda: reply.resolve("answered"))

    assert done.wait_for(answering).value is True
    assert {done.wait_for(key).value for key in waiting} == {"answered"}
    assert executor.blocked == 0


def test_a_chain_of_steps_each_of_which_waits_for_the_next_comes_to_its_end(
    submit: Submit, done: Reports
) -> None:
    replies: list[Reply[int]] = [Reply() for _ in range(100)]
    keys = [submit(lambda n=n: replies[n].resolve(replies[n + 1].get() + 1)) for n in range(99)]
    submit(lambda: replies[99].resolve(0))

    for key in keys:
        assert done.wait_for(key).value is True
    assert replies[0].get() == 99


def test_what_was_needed_while_others_waited_ends_afterwards(
    submit: Submit, done: Reports, executor: StepExecutor
) -> None:
    reply: Reply[None] = Reply()
    keys = [submit(reply.get) for _ in range(50)]
    while executor.blocked < 50:
        done.wait_for(submit(int))
    reply.resolve()
    for key in keys:
        done.wait_for(key)

    while len(step_threads()) > THREADS:
        done.wait_for(submit(int))


def test_no_more_steps_are_started_than_allowed_by_those_that_have_waited(
    submit: Submit, done: Reports, executor: StepExecutor, gate: Gate
) -> None:
    reply: Reply[None] = Reply()
    keys = [submit(reply.get) for _ in range(20)]
    while executor.blocked < 20:
        done.wait_for(submit(int))
    for _ in range(THREADS):
        submit(gate.pass_through)
    gate.wait_until_inside(THREADS)
    queued = [submit(gate.pass_through) for _ in range(10)]
    reply.resolve()
    for key in keys:
        done.wait_for(key)

    assert len(executor.running()) == THREADS
    assert executor.queued == len(queued)


def test_a_brief_wait_takes_no_other_thread(
    submit: Submit, done: Reports, executor: StepExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "_BRIEF_S", DEAD_MAN_S)
    replies: list[Reply[None]] = [Reply(), Reply()]
    keys = [submit(reply.get) for reply in replies]
    while len(executor.running()) < THREADS:
        continue
    behind = submit(lambda: "ran")
    assert executor.blocked == 0
    assert not done.outcomes[behind]

    replies[0].resolve()

    assert done.wait_for(behind).value == "ran"
    replies[1].resolve()
    done.wait_for(keys[1])


@pytest.mark.parametrize("timeout", [0, 0.001, 0.05])
def test_a_wait_ends_when_its_time_is_over(timeout: float, submit: Submit, done: Reports) -> None:
    reply: Reply[None] = Reply()

    key = submit(lambda: reply.get(timeout=timeout))

    assert isinstance(done.wait_for(key).error, Timeout)


def test_a_step_that_is_given_up_while_it_waits_is_lost_and_found(
    submit: Submit, done: Reports, executor: StepExecutor
) -> None:
    reply: Reply[str] = Reply()
    key = submit(reply.get, timeout_s=0.1)

    assert isinstance(done.wait_for(key).error, StepTimeout)
    assert (executor.leaked, executor.blocked) == (1, 0)
    reply.resolve("late")
    while executor.leaked:
        done.wait_for(submit(int))
    assert len(done.outcomes[key]) == 1


def test_an_executor_that_closes_leaves_those_that_wait_in_vain(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment
) -> None:
    reply: Reply[str] = Reply()
    key = submit(reply.get)
    while not executor.blocked:
        done.wait_for(submit(int))
    begun = environment.clock.elapsed()

    assert executor.close(begun + 0.1) == (key,)

    assert environment.clock.elapsed() - begun < 5
    reply.resolve("late")
    for thread in step_threads():
        thread.join(DEAD_MAN_S)
    assert not done.outcomes[key]


def test_a_wait_that_ends_as_the_executor_closes_is_waited_for(
    submit: Submit, done: Reports, executor: StepExecutor, environment: Environment
) -> None:
    reply: Reply[str] = Reply()
    key = submit(reply.get)
    while not executor.blocked:
        done.wait_for(submit(int))
    closed: list[Any] = []
    closer = threading.Thread(target=lambda: closed.append(executor.close(environment.clock.elapsed() + 60)))
    closer.start()
    while not executor._is_closed:
        continue
    reply.resolve("in time")
    closer.join(DEAD_MAN_S)

    assert closed == [()]
    assert done.outcomes[key][0].value == "in time"
    assert step_threads() == []


def test_a_standstill_that_the_engine_cannot_see_through_is_reported(
    make_executor: MakeExecutor,
    manual_environment: Environment,
    submit: Submit,
    gate: Gate,
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock: Any = manual_environment.clock
    executor = make_executor(manual_environment, max_threads=THREADS)
    for number in count(1):
        submit(gate.pass_through, name="asks again and again", to=executor)
        clock.advance(0.01)
        if number == THREADS + 3:
            break
    gate.wait_until_inside(THREADS)

    with caplog.at_level(logging.WARNING, "persistasaurus"):
        clock.advance(40)
        clock.advance(40)

    reports = [
        record.getMessage() for record in caplog.records if "as many run as may" in record.getMessage()
    ]
    assert reports
    assert "3 steps wait" in reports[0]
    assert "2 x 'asks again and again'" in reports[0]
