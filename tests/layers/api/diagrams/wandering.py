"""A flow that does everything a flow can do, and what happens to it at random."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from persistasaurus.flows import Flow, Retry, flow, gather, random, signal, sleep, step, wait_for
from persistasaurus.flows.errors import FlowEnded, StepError
from persistasaurus.flows.machine.messages import Interrupt, PauseRequested, ResumeRequested
from stories import Story

if TYPE_CHECKING:
    from random import Random

_LENGTH = 60
SHAPES = range(6)


class Wandering(Flow):
    """Steps of all kinds, waits and gathers; the shape says which."""

    @flow(name="Wandering")
    async def go(self, shape: int) -> int:
        if shape == 0:
            return sum([await self.count(n) for n in range(6)])
        if shape == 1:
            await self.count(1)
            await gather(self.branch(2), self.branch(3), self.late("x"), sleep(3))
            await self.confirm()
        if shape == 2:
            try:
                await gather(self.flaky("a"), self.bad("b"), self.once("c"))
            except StepError:
                await self.late("after")
        if shape == 3:
            await gather(self.confirm(), self.confirm(), self.listen(), self.count(1))
        if shape == 4:
            await self.count(0)
            await self.bad("fatal")
        if shape == 5:
            await self.count(0)
            await self.confirm()
            await self.listen()
        return shape

    async def branch(self, length: int) -> None:
        for n in range(length):
            await self.count(n)
            if random() < 0.4:
                await gather(self.flaky(f"f{n}"), self.once(f"o{n}"))

    async def listen(self) -> None:
        await wait_for("news", int)

    @step
    def count(self, n: int) -> int:
        return n

    @step(delay=timedelta(seconds=2))
    def late(self, what: str) -> str:
        return what

    @step
    def bad(self, what: str) -> str:
        raise ValueError(what)

    @step(retry=Retry(max_attempts=3))
    def flaky(self, what: str) -> str:
        raise OSError(what)

    @step(on_crash="park")
    def once(self, what: str) -> str:
        return what

    @signal
    def confirm(self, by: str) -> str:
        return by


def wander(shape: int, rng: Random) -> Any:
    """Return a story of random length: anything may happen at any time, and more than once."""
    story = Story(Wandering.go, shape).start()
    for _ in range(rng.randrange(_LENGTH)):
        story = _happen(story, rng)
    return story


def _happen(story: Any, rng: Random) -> Any:
    doings = [lambda n=n: story.run(n) for n in story.runs]
    doings += [lambda n=n: story.turn(n) for n in story.turns]
    if story.machine.alarm is not None:
        doings.append(story.wait)
    if rng.random() < 0.3:
        doings.append(lambda: story.send("news", 1))
        doings.append(lambda: story.signal(Wandering.confirm("bob")))
    chance = rng.random()
    if doings and chance < 0.75:
        rng.choice(doings)()
    elif chance < 0.85:
        return story.restart()
    elif chance < 0.9:
        story.tell(Interrupt(frozenset((n, story.runs[n].attempt) for n in list(story.runs)[:1])))
        return story.restart()
    elif chance < 0.95:
        _toggle(story)
    elif story.status in ("failed", "parked"):
        return story.repair()
    return story


def _toggle(story: Any) -> None:
    try:
        story.tell(
            ResumeRequested("ada", "now") if story.status == "paused" else PauseRequested("ada", "later")
        )
    except FlowEnded:
        return
