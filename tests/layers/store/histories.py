"""Random histories of flows, made by the flow machine, with everything that can happen to a flow."""

from __future__ import annotations

import random
from datetime import timedelta

from flows.stories import Story
from persistasaurus.flows import Flow, Retry, events, flow, gather, signal, sleep, step, wait_for
from persistasaurus.flows.errors import StepError
from persistasaurus.flows.machine.messages import Interrupt, PauseRequested, ResumeRequested

LETTERS = "ssdrtppzwc"


class Chance:
    """Decides whether a risky step fails, and whether the flow's own code does."""

    rng = random.Random(0)
    code_fails = False


class Anything(Flow):
    """Does what a plan says, one letter after the other; behind a `g`, what `|` parts at the same time."""

    @flow(name="anything")
    async def follow(self, plan: str) -> int:
        total = await self.do(plan)
        if Chance.code_fails:
            raise ZeroDivisionError("the code fails")
        return total

    async def do(self, plan: str) -> int:
        total = 0
        for number, letter in enumerate(plan):
            if letter == "g":
                return total + sum(await gather(*(self.do(part) for part in plan[number + 1 :].split("|"))))
            total += await getattr(self, f"do_{letter}")(number)
        return total

    async def do_s(self, number: int) -> int:
        return await self.sure(number)

    async def do_d(self, number: int) -> int:
        return await self.later(number)

    async def do_r(self, number: int) -> int:
        return await self.risky(number)

    async def do_t(self, number: int) -> int:
        try:
            return await self.risky(number)
        except StepError:
            return await self.sure(number)

    async def do_p(self, number: int) -> int:
        try:
            return await self.risky(number)
        except StepError as error:
            await self.later(number)
            await gather(self.sure(number), self.do_z(number))
            raise RuntimeError("excused") from error

    async def do_z(self, number: int) -> int:
        await sleep(timedelta(seconds=number))
        return 0

    async def do_w(self, number: int) -> int:
        return await wait_for("more", int)

    async def do_c(self, number: int) -> int:
        return await self.confirm()

    @step
    def sure(self, number: int) -> int:
        return number

    @step(delay=timedelta(seconds=2))
    def later(self, number: int) -> int:
        return number

    @step(retry=Retry(max_attempts=2))
    def risky(self, number: int) -> int:
        if Chance.rng.random() < 0.6:
            raise OSError(f"step {number} is broken")
        return number

    @signal
    def confirm(self, number: int) -> int:
        return number


def random_story(seed: int) -> Story:
    """Let chance do things to a flow until it has completed, or for a while."""
    rng = Chance.rng = random.Random(seed)
    Chance.code_fails = False
    story = Story(Anything.follow, plan_for(rng), flow_id=f"seed-{seed}").start()
    for _ in range(rng.randrange(5, 60)):
        if story.status == "completed":
            break
        Chance.code_fails = rng.random() < 0.2 and story.status != "failed"
        story = rng.choice(doings(story))(story, rng)
    Chance.code_fails = False
    return story


def plan_for(rng: random.Random) -> str:
    """Return letters, some of them to be done at the same time."""
    parts = ["".join(rng.choices(LETTERS, k=rng.randrange(1, 5))) for _ in range(4)]
    return parts[0] + rng.choice(["", "g" + "|".join(parts[1:])])


def doings(story: Story) -> list:
    """Tell what can happen now; what happens often stands there more than once."""
    if story.status in ("failed", "parked"):
        return [repair, more, run] if story.runs else [repair, more]
    found = [
        more,
        confirm,
        restart,
        restart,
        restart,
        shut_down,
        pause if story.status != "paused" else resume,
    ]
    found += [run] * 8 if story.runs else []
    found += [wait] * 4 if story.machine.alarm is not None else []
    return found + ([turn] * 8 if story.turns else [])


def run(story, rng):
    story.run(rng.choice(sorted(story.runs)))
    return story


def wait(story, rng):
    story.wait()
    return story


def turn(story, rng):
    story.turn(story.turns[0])
    return story


def more(story, rng):
    story.advance(0.25)
    story.send("more", rng.randrange(9))
    return story


def confirm(story, rng):
    story.signal(Anything.confirm(rng.randrange(9)))
    return story


def pause(story, rng):
    story.tell(PauseRequested("ada", "lunch"))
    return story


def resume(story, rng):
    story.tell(ResumeRequested("ada", "back"))
    return story


def restart(story, rng):
    return story.restart(down=1.5)


def shut_down(story, rng):
    story.machine.drain()
    not_begun = frozenset((r.run.number, r.attempt) for r in story.runs.values() if rng.random() < 0.5)
    story.tell(Interrupt(not_begun))
    return story.restart(down=60)


def repair(story, rng):
    story.advance(1)
    Chance.code_fails = False
    return story.repair()


__all__ = ["Anything", "events", "random_story"]
