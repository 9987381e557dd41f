"""What an error says when a body does what it must not: what happened, where, and what to write instead."""

import asyncio
import functools
import gc
import sys
import types

import anyio
import httpx
import pytest
from persistasaurus.flows import Flow, flow, gather, query, signal, step, wait_for
from persistasaurus.flows.errors import FlowFailed, StepError
from persistasaurus.flows.events import Failure
from persistasaurus.flows.values.origin import use_of_library
from stories import Story

HERE = "test_error_messages.py"


def story_of(code):
    """Run a flow whose body is `code`, which begins with the line that is wrong."""

    class Made(Flow):
        @flow
        async def go(self) -> object:
            return await code(self)

        @flow(name="base")
        async def base(self) -> int: ...

        @step
        def work(self, x: int = 1) -> int:
            return x

        @step
        def fails(self) -> None:
            raise ConnectionResetError("down")

        @step
        def wrapped(self) -> int:
            return returns_one()

        @signal
        def ask(self, x: int) -> int:
            return x

        @query
        def peek(self) -> int:
            return 1

        def plain(self) -> str:
            return "x"

    story = Story(Made.go).start().finish()
    gc.collect()
    return story


def failure_of(code):
    return story_of(code).error


async def returns_one() -> int:
    return 1


@flow
async def other(x: int) -> int:
    return x


# ---------------------------------------------------------------------- asyncio, and what is built on it
async def timeout(self):
    async with asyncio.timeout(1):
        await self.work()


async def semaphore(self):
    held = asyncio.Semaphore(1)

    async def one() -> None:
        async with held:
            await self.work()

    await gather(one(), one())


async def lock(self):
    held = asyncio.Lock()

    async def one() -> None:
        async with held:
            await self.work()

    await gather(one(), one())


async def condition(self):
    held = asyncio.Condition()
    async with held:
        await held.wait()


async def task_group(self):
    async with asyncio.TaskGroup() as group:
        group.create_task(self.work())


async def client(self):
    async with httpx.AsyncClient() as http:
        await http.get("http://localhost:1/")


async def anyio_group(self):
    async with anyio.create_task_group() as group:
        group.start_soon(self.work)


async def anyio_limit(self):
    with anyio.fail_after(1):
        await self.work()


async def executor(self):
    await asyncio.get_running_loop().run_in_executor(None, print)


LIMIT, GATHER, TURNS, IO = "@step(timeout=", "persistasaurus.gather()", "need no lock", "in a step"


@pytest.mark.filterwarnings("ignore:coroutine.*never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    ("code", "used", "instead"),
    [
        (timeout, "asyncio.timeout", LIMIT),
        (lambda self: asyncio.wait_for(self.work(), 1), "asyncio.wait_for", LIMIT),
        (semaphore, "asyncio.Semaphore", TURNS),
        (lock, "asyncio.Lock", TURNS),
        (condition, "asyncio.Condition", TURNS),
        (lambda self: asyncio.Event().wait(), "asyncio.Event", "@signal"),
        (lambda self: asyncio.Queue().get(), "asyncio.Queue", "@signal"),
        (task_group, "asyncio.TaskGroup", GATHER),
        (lambda self: asyncio.gather(self.work()), "asyncio.gather", GATHER),
        (lambda self: asyncio.wait([self.work()]), "asyncio.wait", GATHER),
        (lambda self: asyncio.ensure_future(self.work()), "asyncio.ensure_future", GATHER),
        (lambda self: asyncio.create_task(returns_one()), "asyncio.create_task", GATHER),
        (lambda self: asyncio.sleep(1), "asyncio.sleep", "persistasaurus.sleep()"),
        (lambda self: asyncio.to_thread(print), "asyncio.to_thread", "`def` step"),
        (executor, "run_in_executor", "`def` step"),
        (lambda self: asyncio.open_connection("localhost", 1), "asyncio.open_connection", IO),
        (lambda self: asyncio.create_subprocess_exec("true"), "asyncio.create_subprocess_exec", IO),
        (client, "httpx.AsyncClient", IO),
        (lambda self: anyio.sleep(1), "anyio.sleep", "persistasaurus.sleep()"),
        (anyio_group, "anyio.create_task_group", GATHER),
        (anyio_limit, "anyio.fail_after", LIMIT),
        (lambda self: asyncio.run(returns_one()), "asyncio.run", IO),
    ],
)
def test_what_only_works_under_asyncio_is_named_with_its_line_and_what_to_write(code, used, instead) -> None:
    failure = failure_of(code)

    assert failure.line.startswith(f"{HERE}:")
    if code.__name__ != "<lambda>":
        lines = [line for *_, line in code.__code__.co_lines() if line]
        assert min(lines) <= int(failure.line.partition(":")[2]) <= max(lines)
    assert used in failure.message
    assert instead in failure.message


def test_a_library_is_named_and_not_what_it_uses_and_an_installed_application_is_none(tmp_path) -> None:
    def module(name, folder, source):
        file = tmp_path / folder / f"{name.replace('.', '_')}.py"
        made = types.ModuleType(name)
        exec(compile(source, str(file), "exec"), made.__dict__)
        return made

    fetch = module("driver.wire", "site-packages", "def fetch(look):\n    return look()\n").fetch
    pool = module(
        "pool", "site-packages", "class Pool:\n    def get(self, f, look):\n        return f(look)\n"
    ).Pool
    body = module("shop.flows", "site-packages", "def body(p, f, look):\n    return p.get(f, look)\n").body
    drive = module(
        "persistasaurus.flows.drives", "site-packages", "def drive(f, *a):\n    return f(*a)\n"
    ).drive

    def look():
        return use_of_library(sys._getframe(2))

    installed = drive(body, pool(), fetch, look)
    here = pool().get(fetch, look)

    assert (installed.package, installed.name, installed.location.line) == ("pool", "Pool", 2)
    assert installed.location.file.endswith("shop_flows.py")
    assert (here.package, here.name, here.location.file) == ("pool", "Pool", __file__)
    assert use_of_library(None) == ("", "", ("", 0))


# ------------------------------------------------------------------------------------------------ awaits
async def truth(self):
    return 1 if self.work() else 2


async def items(self):
    return list(self.work())


async def attribute(self):
    return self.work().real


async def item(self):
    return self.work()["x"]


async def spread(self):
    return await gather([self.work(), self.work()])


async def uncalled(self):
    return await self.work


async def caught(self):
    try:
        await self.fails()
    except ConnectionError:
        return "not reached"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (truth, ["<call of step 'work'", "`(await ...)`"]),
        (items, ["<call of step 'work'", "`(await ...)`"]),
        (attribute, ["<call of step 'work'", "'real'", "`(await ...)`"]),
        (item, ["<call of step 'work'", "`(await ...)`"]),
        (spread, ["gather()", "list", "gather(*"]),
        (lambda self: gather(self.work(i) for i in range(2)), ["gather()", "generator", "gather(*"]),
        (lambda self: gather({"a": self.work()}), ["gather()", "dict", "gather(*"]),
        (lambda self: gather(self.work(), [self.work()]), ["gather()", "a list, in place 2"]),
        (lambda self: gather(5), ["gather()", "builtins.int", "calls of steps"]),
        (lambda self: gather(self.plain), ["gather()", "Call it"]),
        (lambda self: gather(self.work), ["'work'", "without being called"]),
        (uncalled, ["'work'", "await self.work(...)"]),
        (lambda self: self.base(), ["<flow 'base'>", "super().base()", "plain `async def` method"]),
        (lambda self: other(1), ["<flow 'other'>", "plain `async def` method"]),
        (lambda self: gather(other(1)), ["<flow 'other'>", "plain `async def` method"]),
        (lambda self: self.plain(), ["await", "@step", "drop the `await`"]),
        (lambda self: self.peek(), ["await", "drop the `await`"]),
        (lambda self: None, ["await", "@step"]),
        (lambda self: self.ask(3), ["'ask'", "without arguments", "handle.signal"]),
        (lambda self: self.ask(x=3), ["'ask'", "without arguments"]),
    ],
)
def test_what_is_awaited_wrongly_is_told_with_its_line_and_what_to_write(code, said) -> None:
    failure = failure_of(code)

    assert failure.line.startswith(f"{HERE}:")
    for part in said:
        assert part in failure.message


def test_an_error_of_ones_own_gets_no_advice() -> None:
    async def code(self) -> None:
        raise TypeError("own")

    async def without_a_traceback(self) -> None:
        raise RuntimeError("own")

    assert failure_of(code).message == "own"
    assert failure_of(without_a_traceback).message == "own"


def test_a_call_that_is_returned_without_await_is_told_with_the_flow() -> None:
    async def code(self):
        return self.work()

    failure = failure_of(code)

    assert "the result of flow 'Made.go'" in failure.message
    assert "<call of step 'work'; await it>: write `await`" in failure.message
    assert failure.line.startswith(f"{HERE}:")


def test_a_step_that_returns_a_coroutine_has_done_nothing_and_says_what_to_write() -> None:
    failure = failure_of(lambda self: self.wrapped())

    for part in ("step 'wrapped' at ", HERE, "returns_one()", "`async def`", "decorator", "nothing of it"):
        assert part.replace("nothing of it", "of which nothing has run") in failure.message


def test_a_coroutine_under_a_decorator_that_runs_it_is_a_plain_step() -> None:
    def run(function):
        @functools.wraps(function)
        def call(*args):
            try:
                function(*args).send(None)
            except StopIteration as stop:
                return stop.value

        return call

    class Runs(Flow):
        @flow
        async def go(self) -> int:
            return await self.work()

        @step
        @run
        async def work(self) -> int:
            return 7

    assert Story(Runs.go).start().finish().result == 7


def test_a_flow_that_is_awaited_outside_of_any_says_how_it_is_started() -> None:
    async def main() -> None:
        await other(1)

    with pytest.raises(TypeError, match="run_async"):
        asyncio.run(main())


# ---------------------------------------------------------------------------------- errors of steps, by kind
class Declined(ValueError):
    pass


class Expired(Declined):
    pass


def raised(error):
    """Return what a flow catches when its step has raised an error."""
    caught = []

    class Charges(Flow):
        @flow
        async def go(self) -> None:
            try:
                await self.charge()
            except StepError as step_error:
                caught.append(step_error)

        @step
        def charge(self) -> None:
            raise error

    story = Story(Charges.go).start().finish()
    story.fork()
    live, replayed = caught
    return live, replayed


@pytest.mark.parametrize(
    ("error", "kinds", "others"),
    [
        (
            ConnectionResetError(),
            (ConnectionError, OSError, Exception, BaseException),
            (TimeoutError, ValueError),
        ),
        (Expired(), (Expired, Declined, ValueError, Exception, BaseException), (OSError, KeyError)),
        (Declined(), (Declined, ValueError), (Expired,)),
        (TimeoutError(), (TimeoutError, asyncio.TimeoutError, OSError), (ConnectionError,)),
        (httpx.ConnectTimeout("late"), (httpx.TimeoutException, httpx.HTTPError), (TimeoutError, OSError)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_of_a_step_is_of_its_class_and_of_those_above_live_and_replayed(
    error, kinds, others
) -> None:
    for caught in raised(error):
        assert all(caught.is_a(kind) for kind in kinds)
        assert not any(caught.is_a(kind) for kind in others)
        assert caught.is_a((KeyError, kinds[0]))
        assert not caught.is_a(others)
        assert caught.line.startswith(f"{HERE}:")


@pytest.mark.parametrize("kind", ["ConnectionError", OSError(), int, None, (OSError, "ValueError")])
def test_what_is_no_class_of_errors_is_refused(kind) -> None:
    caught, _ = raised(ValueError())

    with pytest.raises(TypeError, match=r"is_a\(ConnectionError\)"):
        caught.is_a(kind)


def test_a_class_of_another_module_is_another_though_it_has_the_same_name() -> None:
    class ConnectionError(Exception):  # noqa: A001 - on purpose
        pass

    caught, _ = raised(ConnectionError())

    assert caught.is_a(ConnectionError)
    assert not caught.is_a(__builtins__["ConnectionError"])


@pytest.mark.parametrize("script", ["__main__", "__mp_main__"])
def test_a_class_of_a_script_is_the_same_when_the_script_is_imported_as_a_module(script) -> None:
    there = type("Declined", (ValueError,), {"__module__": script})

    assert raised(there())[0].is_a(Declined)
    assert raised(Declined())[0].is_a(there)


def test_records_from_before_classes_were_recorded_go_by_the_name_of_the_class() -> None:
    old = StepError(1, "charge", Failure("ConnectionResetError", "down"))
    own = StepError(1, "charge", Failure("Declined", "no"))

    assert old.is_a(ConnectionError)
    assert not old.is_a(ValueError)
    assert own.is_a(Declined)
    assert own.is_a(Exception)
    assert not own.is_a(ValueError)
    assert old.line == ""


# --------------------------------------------------------------------------------------------- where it was
def test_a_failure_names_the_innermost_line_of_the_users_code() -> None:
    async def deeper(self) -> None:
        await self.fails()

    async def code(self) -> None:
        await deeper(self)

    failure = failure_of(code)
    error = FlowFailed("ada", failure)

    line = deeper.__code__.co_firstlineno + 1
    assert failure.line == error.line == f"{HERE}:{line}"
    assert f"flow 'ada' failed at {HERE}:{line}: StepError: step 1 'fails' failed" in str(error)
    assert "except StepError as error" in str(error)
    assert "error.is_a(" in str(error)
    assert error.is_a(StepError)
    assert not error.is_a(ConnectionError)


def test_an_error_that_is_not_of_a_step_is_told_without_that_advice() -> None:
    error = FlowFailed("ada", Failure("ValueError", "no"))

    assert str(error) == "flow 'ada' failed: ValueError: no"


def test_an_error_within_a_library_is_told_with_the_line_that_called_it() -> None:
    async def code(self) -> None:
        types.new_class("Bad", (int, str))

    assert failure_of(code).line == f"{HERE}:{code.__code__.co_firstlineno + 1}"


def test_except_connection_error_around_a_step_says_why_it_has_not_caught() -> None:
    error = FlowFailed("ada", failure_of(caught))

    assert "StepError" in str(error)
    assert "`error.is_a(ConnectionError)`" in str(error)


def test_waiting_is_not_mistaken_for_anything() -> None:
    assert story_of(lambda self: wait_for("never")).status == "waiting"
