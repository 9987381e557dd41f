"""What a flow must not do is refused where it does it, with the durable replacement."""

import asyncio
import contextvars
import gc
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from types import coroutine
from typing import Never

import pytest
from persistasaurus.flows import Flow, flow, gather, now, query, sleep, step, wait_for
from persistasaurus.flows.errors import FlowStateError, NotInFlowError, PayloadError, StepError
from persistasaurus.flows.machine.messages import (
    PauseRequested,
    ResumeRequested,
    StartRequested,
    StepSucceeded,
)
from stories import Story

VARIABLE = contextvars.ContextVar("VARIABLE", default="nothing")


@coroutine
def foreign():
    yield object()


def body(code):
    """Make a flow of a body."""

    class Made(Flow):
        @flow
        async def go(self) -> object:
            return await code(self)

        @step
        def a(self, x: int = 1) -> int:
            return x

        @step
        def assigns(self) -> None:
            self.y = 1

        @step
        def deletes(self) -> None:
            del self.x

        @step
        def calls(self) -> None:
            self.a()

        @query
        def peek(self):
            return self.x

        @query
        def poke(self) -> None:
            self.x = 2

    return Story(Made.go).start().finish()


async def items():
    for i in range(3):
        yield i


async def awaits_a_future(self) -> None:
    await asyncio.Future(loop=LOOPS[""])


async def makes_a_future(self) -> None:
    await asyncio.Future()


async def times_out(self) -> None:
    async with asyncio.timeout(1):
        await self.a()


LOOPS = {}


@pytest.mark.parametrize(
    ("code", "instead"),
    [
        (lambda self: asyncio.sleep(0), "sleep()"),
        (lambda self: asyncio.sleep(1), "persistasaurus.sleep()"),
        (lambda self: asyncio.gather(self.a(), self.a()), "persistasaurus.gather()"),
        (lambda self: asyncio.wait_for(self.a(), 1), "persistasaurus"),
        (lambda self: asyncio.create_task(sleep(1)), "persistasaurus.gather()"),
        (lambda self: asyncio.to_thread(print), "step"),
        (times_out, "asyncio"),
        (makes_a_future, "asyncio"),
        (awaits_a_future, "not durable"),
        (lambda self: foreign(), "builtins.object"),
        (lambda self: gather(self.a(), 5), "builtins.int"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine.*never awaited:RuntimeWarning")
def test_what_is_not_durable_is_refused(code, instead) -> None:
    loop = LOOPS[""] = asyncio.new_event_loop()
    story = body(code)
    loop.close()
    gc.collect()

    assert story.status == "failed"
    assert story.error.type in ("NotDurableError", "TypeError")
    assert instead in story.error.message


def test_plain_asynchronous_iteration_is_fine() -> None:
    async def code(self):
        return [i async for i in items()]

    assert body(code).result == [0, 1, 2]


def test_the_loop_of_the_caller_is_there_again_afterwards() -> None:
    async def main():
        loop = asyncio.get_running_loop()
        body(lambda self: asyncio.sleep(1))
        return loop is asyncio.get_running_loop()

    assert asyncio.run(main())


def test_an_awaitable_that_awaits_something_durable_is_durable() -> None:
    class Wrapped:
        def __init__(self, inner) -> None:
            self.inner = inner

        def __await__(self):
            return self.inner.__await__()

    async def code(self):
        return [await Wrapped(self.a(5)), *await gather(Wrapped(self.a(6)), self.a(7))]

    assert body(code).result == [5, 6, 7]


@pytest.mark.parametrize("name", ["assigns", "deletes"])
def test_a_step_may_not_change_the_state_of_its_flow(name) -> None:
    async def code(self) -> None:
        self.x = 1
        await getattr(self, name)()

    error = body(code).error
    assert error.type == "StepError"
    assert "FlowStateError" in error.message
    assert "Return the value" in error.message


def test_a_query_sees_the_state_and_may_not_change_it() -> None:
    async def code(self) -> None:
        self.x = 1
        await wait_for("never")

    story = body(code)
    owner = story.definition.owner
    assert story.machine.query(owner.peek().query, (), {}) == 1
    with pytest.raises(FlowStateError):
        story.machine.query(owner.poke().query, (), {})
    with pytest.raises(NotInFlowError):
        Story(body(code).definition).start().machine.query(owner.peek().query, (), {})


def test_a_step_is_called_in_a_flow_only() -> None:
    async def code(self) -> None:
        await self.calls()

    assert "NotInFlowError" in body(code).error.message

    class Lone(Flow):
        @step
        def a(self) -> None: ...

    with pytest.raises(NotInFlowError, match="inside a running flow only"):
        Lone().a()


def test_a_step_of_another_instance_is_refused() -> None:
    async def code(self) -> None:
        await type(self)().a()

    assert "not the flow that is running" in body(code).error.message


def test_a_forgotten_await_is_told_with_its_place() -> None:
    async def code(self) -> None:
        self.a()
        sleep(3)
        await self.a()

    story = body(code)
    line = code.__code__.co_firstlineno
    assert f"<call of step 'a'; await it> was dropped at test_guards.py:{line + 1}" in story.warnings[0]
    assert f"test_guards.py:{line + 2}" in story.warnings[1]
    assert not story.fork().warnings


def test_a_call_that_is_awaited_later_is_not_forgotten() -> None:
    async def code(self):
        calls = [self.a(1), self.a(2)]
        await sleep(1)
        return [await call for call in calls]

    story = body(code)
    assert story.result == [1, 2]
    assert not story.warnings


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError])
def test_whatever_leaves_a_body_fails_that_flow_only(error) -> None:
    async def code(self) -> Never:
        raise error("bye")

    story = body(code)
    assert (story.error.type, story.error.message) == (error.__name__, "bye")
    assert story.fork().status == "failed"


def test_endless_recursion_fails_the_flow() -> None:
    async def code(self):
        return await code(self)

    assert body(code).error.type == "RecursionError"


@pytest.mark.parametrize("text", ["\ud800 alone", "x" * 1_000_000])
def test_an_error_that_could_not_be_stored_is_made_storable(text) -> None:
    async def code(self) -> Never:
        raise ValueError(text)

    assert len(body(code).error.message) < 10_000


def test_an_error_that_cannot_be_shown_is_stored_all_the_same() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    async def code(self) -> Never:
        raise Odd

    assert body(code).error.type == "Odd"


def test_context_variables_do_not_leak_out_of_a_flow_and_stay_within_it() -> None:
    async def code(self):
        VARIABLE.set("mine")
        await self.a()
        return VARIABLE.get()

    assert body(code).result == "mine"
    assert VARIABLE.get() == "nothing"


def test_a_failed_init_fails_the_flow_and_leaks_no_context() -> None:
    class Bad(Flow):
        def __init__(self) -> None:
            VARIABLE.set("leaked")
            raise OSError("no")

        @flow
        async def go(self) -> None: ...

    story = Story(Bad.go).start()
    assert story.error.type == "OSError"
    assert VARIABLE.get() == "nothing"
    assert story.fork().status == "failed"


def test_a_dropped_flow_runs_finally_blocks_that_can_do_nothing() -> None:
    seen = []

    async def code(self) -> None:
        try:
            await wait_for("never")
        finally:
            seen.append("finally")
            await self.a()
            seen.append("not reached")

    async def stubborn(self) -> None:
        try:
            await wait_for("never")
        finally:
            await asyncio.sleep(0)

    story = body(code)
    before = story.machine.version
    story.machine.close()
    assert seen == ["finally"]
    assert story.machine.version == before
    body(stubborn).machine.close()
    gc.collect()


def test_a_dropped_flow_that_catches_everything_does_not_spin(capfd: pytest.CaptureFixture[str]) -> None:
    rounds = 0

    async def code(self) -> None:
        nonlocal rounds

        async def for_ever() -> None:
            nonlocal rounds
            while True:
                try:
                    try:
                        await self.a()
                        now()
                        await wait_for("never")
                    except:  # noqa: E722
                        rounds += 1
                except:  # noqa: E722
                    rounds += 1

        self.kept = for_ever()
        await gather(self.kept, for_ever())

    story = body(code)
    story.machine.close()
    del story
    gc.collect()
    assert 0 < rounds < 1000
    body(code).machine.close()
    assert rounds < 2000
    assert capfd.readouterr().err == ""


def test_a_process_ends_although_a_dropped_flow_catches_everything_and_keeps_itself(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        dedent(
            """
            from threading import Semaphore

            from persistasaurus import Flow, FlowSystem, flow, gather, step, wait_for

            begun = Semaphore(0)

            class Stubborn(Flow):
                @step
                def a(self) -> None:
                    begun.release()

                @flow
                async def go(self) -> None:
                    async def for_ever() -> None:
                        while True:
                            try:
                                await self.a()
                                await wait_for("never")
                            except:
                                pass

                    self.kept = for_ever()
                    await gather(self.kept, for_ever())

            with FlowSystem("flows.db", flows=[Stubborn]) as system:
                system.start(Stubborn.go)
                assert begun.acquire(timeout=60)
                assert begun.acquire(timeout=60)
            """
        )
    )

    ended = subprocess.run(
        [sys.executable, "-P", "stubborn.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_slots_and_dataclasses_can_be_flows() -> None:
    @dataclass
    class Counter(Flow):
        count: int = 0
        seen: list[int] = field(default_factory=list)

        @flow
        async def go(self) -> int:
            self.count += await self.add(2)
            self.seen.append(self.count)
            return await self.add(self.count)

        @step
        def add(self, x: int) -> int:
            return x + self.count

    assert Story(Counter.go).start().finish().result == 4

    class Slotted(Flow):
        __slots__ = ("count",)

        @flow
        async def go(self) -> int:
            self.count = 3
            return await self.see()

        @step
        def see(self) -> int:
            return self.count

    assert Story(Slotted.go).start().finish().result == 3


def test_a_failed_step_is_raised_at_the_await_and_can_be_caught() -> None:
    class Catching(Flow):
        @flow
        async def go(self) -> str:
            try:
                await self.fails()
            except StepError as error:
                return f"{error.step} {error.name} {error.type} {error.message}"
            return ""

        @step
        def fails(self) -> None:
            raise LookupError("gone")

    story = Story(Catching.go).start().finish()
    assert story.result == "1 fails LookupError gone"
    assert story.fork().status == "completed"


def test_an_init_that_takes_a_second_start_begins_one_flow() -> None:
    story = body(lambda self: wait_for("never"))

    assert story.tell(StartRequested(story.call.data, 1)) == []


def test_a_long_flow_holds_no_more_than_what_is_pending() -> None:
    class Long(Flow):
        @flow
        async def go(self) -> None:
            while True:
                await gather(self.do(), self.branch())

        async def branch(self) -> None:
            await self.do()

        @step
        def do(self) -> None: ...

    story = Story(Long.go).start()

    def size():
        gc.collect()
        return len(gc.get_objects())

    for _ in range(200):
        story.run()
    story.log.clear()
    story.commits.clear()
    before = size()
    machine = story.machine
    number = max(story.runs)
    runs = dict(story.runs)
    for _ in range(500):
        command = runs.pop(next(iter(runs)))
        decision = machine.handle(StepSucceeded(command.run.number, 1, b"null", None), story.moment)
        runs.update({c.run.number: c for c in decision.effects})
    del decision, command
    story.runs = runs
    assert number < max(runs)
    assert size() < before + 50
    assert sys.getsizeof(machine._execution.queue.branches) < 1000


def test_what_cannot_be_stored_is_refused_at_the_call_live_and_in_each_replay():
    class Careless(Flow):
        @flow
        async def go(self) -> list[int]:
            try:
                await self.take({1, 2})
            except PayloadError as error:
                return await self.take([len(error.path)])
            return []

        @step
        def take(self, values: object) -> list[int]:
            return values

    story = Story(Careless.go).start().finish()

    assert story.kinds == ["flow_started", "step_started", "step_completed", "flow_completed"]
    assert story.result == [len("$.values")]
    for length in story.commits:
        story.fork(length)


def test_a_step_gets_its_arguments_as_they_were_at_the_call_live_and_after_a_restart():
    class Changing(Flow):
        @flow
        async def go(self) -> list[int]:
            values = [1]
            first, _ = await gather(self.take(values), self.changes(values))
            return first

        async def changes(self, values) -> None:
            values.append(2)

        @step
        def take(self, values: list[int]) -> list[int]:
            return values

    story = Story(Changing.go).start()
    restarted = story.restart().finish()

    assert story.finish().result == restarted.result == [1]


def test_branches_that_are_left_when_the_flow_ends_do_nothing_more_live_or_replayed():
    class Leaves(Flow):
        @flow
        async def go(self) -> str:
            try:
                await gather(self.fails(), self.branch())
            except StepError:
                return await self.last()
            return ""

        async def branch(self) -> None:
            await self.last()
            await self.last()

        @step
        def fails(self) -> None:
            raise OSError

        @step
        def last(self) -> str:
            return "last"

    story = Story(Leaves.go).start()
    story.run(1)
    story.tell(PauseRequested())
    story.run(3)
    story.run(2)
    story.tell(ResumeRequested())

    assert story.kinds[-2:] == ["resumed", "flow_completed"]
    assert not story.runs
    for length in story.commits:
        story.fork(length)

    drained = Story(Leaves.go).start()
    drained.run(1)
    drained.machine.drain()
    drained.run(3)
    drained.run(2)
    restarted = drained.restart()
    assert restarted.kinds[-2:] == ["step_completed", "flow_completed"]
    assert restarted.fork().status == "completed"
