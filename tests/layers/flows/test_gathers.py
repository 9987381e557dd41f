"""Gathers of any depth and width: what they start, in which order, and how they end."""

from typing import Any

import pytest
from persistasaurus.flows import Flow, flow, gather, step
from persistasaurus.flows.errors import NotDurableError, StepError
from stories import Story

DEEP = 3_000
WIDE = 10_000


class Gathers(Flow):
    @flow
    async def nested_by_helpers(self, depth: int) -> str:
        return await self.level(depth)

    async def level(self, depth: int) -> str:
        if not depth:
            return await self.work("at the bottom")
        (found,) = await gather(self.level(depth - 1))
        return found

    @flow
    async def nested_directly(self, depth: int) -> str:
        nested: Any = self.work("at the bottom")
        for _ in range(depth):
            nested = gather(nested)
        return innermost(await nested)

    @flow
    async def fails_at_the_bottom(self, depth: int) -> str:
        nested: Any = self.fail()
        for _ in range(depth):
            nested = gather(nested)
        try:
            await nested
        except StepError as error:
            return f"caught {error.type}"
        return "nothing"

    @flow
    async def returns_the_error_half_way(self, depth: int) -> str:
        nested: Any = self.fail()
        for _ in range(depth):
            nested = gather(nested)
        nested = gather(nested, return_exceptions=True)
        for _ in range(depth):
            nested = gather(nested)
        return innermost(await nested).type

    @flow
    async def wide(self, width: int) -> int:
        return len(await gather(*(self.work(str(number)) for number in range(width))))

    @flow
    async def tree(self) -> list[Any]:
        return innermost_lists(
            await gather(
                self.work("a"),
                gather(self.work("b"), self.branch("c", "d"), gather()),
                self.branch("e", "f"),
                self.work("g"),
            )
        )

    async def branch(self, *names: str) -> list[str]:
        first = gather(*(self.work(name) for name in names))
        return [*await first, await self.work(f"after {names}")]

    @flow
    async def not_awaitable_in_the_middle(self) -> list[str]:
        kept: list[str] = []
        try:
            await gather(
                self.work("a"),
                gather(self.work("b"), gather(5)),  # pyright: ignore[reportArgumentType]
                self.work("never"),
            )
        except NotDurableError as error:
            kept.append(type(error).__name__)
        return [*kept, await self.work("z")]

    @step
    def work(self, name: str) -> str:
        return name

    @step
    def fail(self) -> str:
        raise ValueError("on purpose")


def innermost(nested: Any) -> Any:
    while isinstance(nested, tuple):
        (nested,) = nested
    return nested


def innermost_lists(nested: Any) -> Any:
    return [innermost_lists(part) for part in nested] if isinstance(nested, tuple | list) else nested


@pytest.mark.parametrize("flow", [Gathers.nested_by_helpers, Gathers.nested_directly])
def test_gathers_may_be_nested_deeper_than_python_recurses(flow) -> None:
    story = Story(flow, DEEP).start().finish()

    assert story.result == "at the bottom"
    assert story.fork().result == "at the bottom"


@pytest.mark.parametrize(
    ("flow", "result"),
    [
        (Gathers.fails_at_the_bottom, "caught ValueError"),
        (Gathers.returns_the_error_half_way, "ValueError"),
    ],
)
def test_an_error_comes_up_from_any_depth(flow, result) -> None:
    story = Story(flow, DEEP).start().finish()

    assert story.result == result
    assert story.fork().result == result


def test_thousands_may_be_gathered_at_once() -> None:
    story = Story(Gathers.wide, WIDE).start()

    assert len(story.runs) == WIDE
    assert story.fork().status == "running"


def test_what_is_gathered_starts_in_order_and_depth_first() -> None:
    story = Story(Gathers.tree).start()

    assert [story.runs[number].run.arguments().name for number in sorted(story.runs)] == list("abcdefg")
    assert story.finish().result == [
        "a",
        ["b", ["c", "d", "after ('c', 'd')"], []],
        ["e", "f", "after ('e', 'f')"],
        "g",
    ]


def test_what_cannot_be_awaited_fails_the_outermost_gather_and_the_rest_is_not_started() -> None:
    story = Story(Gathers.not_awaitable_in_the_middle).start()

    names = [story.runs[number].run.arguments().name for number in sorted(story.runs)]
    assert names == ["a", "b", "z"]
    assert story.finish().result == ["NotDurableError", "z"]
