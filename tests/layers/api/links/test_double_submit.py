"""The double-submit cache: who asks twice hears the same; what failed is tried again; memory stays small."""

from __future__ import annotations

import asyncio

import pytest
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.api.links.double_submit import DoubleSubmitCache


class Counter:
    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> str | None:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_who_asks_again_hears_the_same() -> None:
    visits: DoubleSubmitCache[str] = DoubleSubmitCache(ManualClock())
    act = Counter("done")

    async def twice() -> list[str | None]:
        return [await visits.once("a", act), await visits.once("a", act)]

    assert asyncio.run(twice()) == ["done", "done"]
    assert act.calls == 1


def test_who_asks_while_it_is_being_done_waits_for_the_same_answer() -> None:
    visits: DoubleSubmitCache[str] = DoubleSubmitCache(ManualClock())
    act = Counter("done")

    async def at_once() -> list[str | None]:
        act.gate = asyncio.Event()
        asked = [asyncio.ensure_future(visits.once("a", act)) for _ in range(5)]
        await asyncio.wait(asked, timeout=0)
        act.gate.set()
        return list(await asyncio.gather(*asked))

    assert asyncio.run(at_once()) == ["done"] * 5
    assert act.calls == 1


@pytest.mark.parametrize("nothing", [None, ValueError("no")])
def test_what_came_to_nothing_is_tried_again_and_not_remembered(nothing: Exception | None) -> None:
    visits: DoubleSubmitCache[str] = DoubleSubmitCache(ManualClock())
    act = Counter(nothing, "done")

    async def try_twice() -> list[object]:
        return [
            *await asyncio.gather(visits.once("a", act), return_exceptions=True),
            await visits.once("a", act),
        ]

    assert asyncio.run(try_twice()) == [nothing, "done"]


def test_who_waited_for_a_request_that_was_given_up_acts_himself() -> None:
    visits: DoubleSubmitCache[str] = DoubleSubmitCache(ManualClock())
    act = Counter("done")

    async def give_up() -> str | None:
        act.gate = asyncio.Event()
        first, second = (asyncio.ensure_future(visits.once("a", act)) for _ in range(2))
        await asyncio.wait([first, second], timeout=0)
        first.cancel()
        act.gate.set()
        return await second

    assert asyncio.run(give_up()) == "done"
    assert act.calls == 2


def test_visits_are_forgotten_in_time_and_when_there_are_too_many() -> None:
    clock = ManualClock()
    visits: DoubleSubmitCache[str] = DoubleSubmitCache(clock)

    async def visit(count: int) -> None:
        for number in range(count):
            await visits.once(f"{clock.elapsed()} {number}", Counter("done"))

    asyncio.run(visit(1500))
    assert len(visits) == 1000
    clock.advance(601)
    asyncio.run(visit(1))
    assert len(visits) == 1
