"""Context variables of a flow: each branch has its own, as tasks of asyncio do, and nobody else sees them."""

import asyncio
from contextvars import ContextVar, Token, copy_context
from decimal import Decimal, getcontext, localcontext
from typing import Any

from persistasaurus.flows import Flow, flow, gather, query, sleep, step
from stories import Story

word: ContextVar[str] = ContextVar("word", default="nothing")
closed: list[str] = []


async def says(text: str) -> str:
    """Set the variable, and tell after a while what it is."""
    seen = word.get()
    word.set(text)
    await sleep(1)
    return f"{seen}, {word.get()}"


async def divides(digits: int) -> str:
    with localcontext() as context:
        context.prec = digits
        await sleep(1)
        return str(Decimal(1) / Decimal(3))


class Says:
    """What is neither a coroutine nor the engine's, and can be awaited."""

    def __await__(self) -> Any:
        return says("an object").__await__()


class Speaking(Flow):
    def __init__(self) -> None:
        self.seen = word.get()
        word.set("the flow")

    @flow
    async def side_by_side(self) -> list[str]:
        found = await gather(says("one"), says("two"), Says(), gather(says("three"), self.tell()))
        return [*map(str, found), word.get()]

    @flow
    async def inherit(self) -> list[Any]:
        word.set("the body")
        first = await says("what it awaits itself")
        word.set("before the branches")
        found = await gather(says("one"), says("two"))
        word.set("after the branches")
        return [first, *found, *(await gather(says("three")))]

    @flow
    async def divide(self) -> list[str]:
        with localcontext() as context:
            context.prec = 3
            found = await gather(divides(5), divides(4), sleep(2))
            return [str(part) for part in [*found, Decimal(1) / Decimal(3)]]

    @flow
    async def look(self) -> str:
        await sleep(1)
        return f"{self.seen}, {word.get()}"

    @flow
    async def clean_up(self) -> None:
        token: Token[str] = word.set("for a while")
        try:
            await gather(self.clean_up_as_well(), sleep(1))
        finally:
            word.reset(token)
            closed.append(f"the body: {word.get()}")

    async def clean_up_as_well(self) -> None:
        token: Token[str] = word.set("for another while")
        try:
            await sleep(1)
        finally:
            word.reset(token)
            closed.append(f"the branch: {word.get()}")

    @step
    def tell(self) -> str:
        return word.get()

    @query
    def ask(self) -> str:
        seen = word.get()
        word.set("a query")
        return seen


def result_of(definition: Any) -> Any:
    story = Story(definition).start()
    story.finish()
    assert story.restart().result == story.result
    return story.result


def test_a_branch_does_not_see_what_another_sets_nor_does_who_gathers_them() -> None:
    assert result_of(Speaking.side_by_side) == [
        "the flow, one",
        "the flow, two",
        "the flow, an object",
        "('the flow, three', 'nothing')",
        "the flow",
    ]


def test_a_branch_begins_with_what_who_gathers_it_has_set_by_then() -> None:
    assert result_of(Speaking.inherit) == [
        "the body, what it awaits itself",
        "before the branches, one",
        "before the branches, two",
        "after the branches, three",
    ]


def test_it_is_the_same_with_the_tasks_of_asyncio() -> None:
    async def says(text: str) -> str:
        seen = word.get()
        word.set(text)
        await asyncio.sleep(0)
        return f"{seen}, {word.get()}"

    async def main() -> list[str]:
        word.set("before the branches")
        found = await asyncio.gather(says("one"), says("two"))
        word.set("after the branches")
        return [*found, *(await asyncio.gather(says("three")))]

    assert asyncio.run(main()) == result_of(Speaking.inherit)[1:]


def test_a_precision_that_is_held_over_an_await_is_one_branchs_own() -> None:
    assert result_of(Speaking.divide) == ["0.33333", "0.3333", "None", "0.333"]


def test_a_flow_sees_nothing_of_its_thread_and_leaves_nothing_behind() -> None:
    def drive() -> str:
        word.set("the thread")
        return f"{result_of(Speaking.look)}; {word.get()}"

    assert copy_context().run(drive) == "nothing, the flow; the thread"


def test_a_query_sees_nothing_and_leaves_nothing_behind() -> None:
    story = Story(Speaking.look).start()

    assert [story.machine.query(Speaking.ask.query, (), {}) for _ in range(2)] == ["nothing"] * 2
    assert word.get() == "nothing"


def test_a_branch_that_is_dropped_cleans_up_in_its_own_context() -> None:
    closed.clear()
    story = Story(Speaking.clean_up).start()

    story.machine.close()

    assert sorted(closed) == ["the body: the flow", "the branch: for a while"]
    assert getcontext().prec == 28
