"""A call is awaited once, as a coroutine is: to do its work again, it is made again."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from persistasaurus.flows import Flow, flow, gather, signal, sleep, step, wait_for
from persistasaurus.flows.errors import AlreadyAwaitedError
from stories import Story

done: list[str] = []


class Twice(Flow):
    async def part(self) -> str:
        return await self.work("part")

    @step
    def work(self, what: str) -> str:
        done.append(what)
        return what

    @signal
    def come(self, what: str) -> str:
        return what

    KINDS: ClassVar[dict[str, Any]] = {
        "step": lambda self: self.work("step"),
        "sleep": lambda _: sleep(0),
        "gather": lambda self: gather(self.work("gather")),
        "coroutine": lambda self: self.part(),
        "signal": lambda self: self.come(),
        "named": lambda _: wait_for("come"),
    }

    @flow
    async def one_after_the_other(self, kind: str) -> str:
        call = self.KINDS[kind](self)
        await call
        try:
            await call
        except RuntimeError as error:
            return str(error)
        return ""

    @flow
    async def in_one_gather(self, kind: str) -> str:
        call = self.KINDS[kind](self)
        fresh = self.work("fresh")
        try:
            await gather(fresh, call, call)
        except AlreadyAwaitedError as error:
            await fresh
            await call
            return str(error)
        return ""

    @flow
    async def in_a_gather_after(self, kind: str) -> str:
        call = self.KINDS[kind](self)
        await call
        try:
            await gather(call)
        except AlreadyAwaitedError as error:
            return str(error)
        return ""

    @flow
    async def in_two_branches(self, kind: str) -> list[str]:
        call = self.KINDS[kind](self)

        async def branch() -> None:
            await call

        found = await gather(branch(), branch(), return_exceptions=True)
        return [str(error) for error in found if isinstance(error, RuntimeError)]

    @flow
    async def in_a_gather_within(self) -> str:
        part = self.part()
        try:
            await gather(part, gather(part))
        except AlreadyAwaitedError as error:
            return str(error)
        return ""


def result_of(definition: Any, *args: Any) -> Any:
    done.clear()
    story = Story(definition, *args).start()
    if args[:1] in (("signal",), ("named",)):
        story.signal(Twice.come("now"))
    story.finish()
    assert story.restart().result == story.result
    assert not story.warnings
    return story.result


@pytest.mark.parametrize("kind", Twice.KINDS)
def test_a_call_that_was_awaited_is_not_awaited_again(kind: str) -> None:
    assert "await" in result_of(Twice.one_after_the_other, kind)
    assert len(done) <= 1


@pytest.mark.parametrize("kind", Twice.KINDS)
def test_what_is_twice_in_a_gather_is_refused_before_anything_has_begun(kind: str) -> None:
    assert "twice" in result_of(Twice.in_one_gather, kind)
    assert done.count("fresh") == 1
    assert len(done) <= 2


@pytest.mark.parametrize("kind", Twice.KINDS)
def test_what_was_awaited_is_refused_by_a_gather(kind: str) -> None:
    assert "was awaited before" in result_of(Twice.in_a_gather_after, kind)


@pytest.mark.parametrize("kind", Twice.KINDS)
def test_of_two_branches_one_awaits_a_call(kind: str) -> None:
    assert len(result_of(Twice.in_two_branches, kind)) == 1
    assert len(done) <= 1


def test_a_coroutine_that_is_under_way_in_one_gather_is_refused_by_another() -> None:
    assert "was awaited before" in result_of(Twice.in_a_gather_within)
