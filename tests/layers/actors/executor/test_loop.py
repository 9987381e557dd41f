from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
from executor.doubles import Reports, Submit, step_threads


def test_coroutines_run_on_one_loop_in_one_thread(submit: Submit, done: Reports) -> None:
    async def where() -> tuple[int, int]:
        await asyncio.sleep(0)
        return threading.get_ident(), id(asyncio.get_running_loop())

    keys = [submit(where, mode="loop") for _ in range(50)]

    assert len({done.wait_for(key).value for key in keys}) == 1
    assert [thread.name for thread in step_threads()] == ["persistasaurus-step-loop"]


def test_coroutines_run_at_the_same_time(submit: Submit, done: Reports) -> None:
    met: list[asyncio.Event] = []

    async def meet() -> int:
        if not met:
            met.append(asyncio.Event())
        me = len(met)
        met.append(asyncio.Event())
        if len(met) == 101:
            met[0].set()
        await met[0].wait()
        return me

    keys = [submit(meet, mode="loop") for _ in range(100)]

    assert sorted(done.wait_for(key).value for key in keys) == list(range(1, 101))


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
)
def test_whatever_a_coroutine_raises_is_its_own_error_and_the_loop_goes_on(
    error: type[BaseException], submit: Submit, done: Reports
) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error("on purpose")

    async def fine() -> str:
        return "fine"

    assert type(done.wait_for(submit(fail, mode="loop")).error) is error
    assert done.wait_for(submit(fine, mode="loop")).value == "fine"


def test_a_call_that_raises_before_there_is_a_coroutine_is_reported(submit: Submit, done: Reports) -> None:
    def fail() -> None:
        raise SystemExit("no coroutine")

    assert isinstance(done.wait_for(submit(fail, mode="loop")).error, SystemExit)


def test_a_system_exit_in_a_task_that_a_step_made_does_not_stop_the_loop(
    submit: Submit, done: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    async def exits() -> None:
        raise SystemExit("of the inner task")

    async def undisturbed() -> str:
        for _ in range(20):
            await asyncio.sleep(0)
        return "undisturbed"

    async def outer() -> str:
        bystander = asyncio.create_task(undisturbed())
        with pytest.raises(SystemExit):
            await asyncio.create_task(exits())
        return await bystander

    assert done.wait_for(submit(outer, mode="loop")).value == "undisturbed"
    assert "A task has tried to stop the loop" in caplog.text


def test_a_step_that_cancels_all_tasks_leaves_none_unreported(submit: Submit, done: Reports) -> None:
    async def cancel_all() -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    async def nothing() -> None:
        await asyncio.Event().wait()

    block, held = threading.Event(), threading.Event()

    async def hold() -> None:
        held.set()
        block.wait(20)

    submit(hold, mode="loop")
    assert held.wait(20)
    keys = [submit(cancel_all, mode="loop"), *(submit(nothing, mode="loop") for _ in range(5))]
    block.set()

    for key in keys[1:]:
        assert done.wait_for(key).error is not None


def test_each_coroutine_has_a_context_of_its_own(submit: Submit, done: Reports) -> None:
    variable = contextvars.ContextVar("variable", default="untouched")

    async def touch() -> str:
        before = variable.get()
        variable.set("touched")
        await asyncio.sleep(0)
        return before

    assert done.wait_for(submit(touch, mode="loop")).value == "untouched"
    assert done.wait_for(submit(touch, mode="loop")).value == "untouched"


def test_a_coroutine_does_not_see_the_context_of_who_submits_it(submit: Submit, done: Reports) -> None:
    variable = contextvars.ContextVar("variable", default="untouched")

    async def look() -> str:
        return variable.get()

    done.wait_for(submit(look, mode="loop"))
    variable.set("the submitter's")

    assert done.wait_for(submit(look, mode="loop")).value == "untouched"
