"""Whatever the order in which things happen: a replay of any prefix does the same, and ends the same."""

from collections import Counter
from datetime import timedelta
from random import Random

import pytest
from persistasaurus.flows import Flow, Retry, flow, gather, now, random, signal, sleep, step, uuid4, wait_for
from persistasaurus.flows.errors import StepError
from persistasaurus.flows.machine.messages import Interrupt, PauseRequested, ResumeRequested
from stories import Story

FAILURES = Counter()


class Mixed(Flow):
    """Branches of every kind, whose order shows in the state of the flow."""

    @flow
    async def go(self, shape: int) -> list[str]:
        self.seen: list[str] = []
        if shape == 0:
            await gather(self.branch("a", 3), self.branch("b", 2), self.branch("c", 4))
        elif shape == 1:
            await gather(
                gather(self.work("x"), self.branch("d", 2)),
                self.sleeper(),
                self.work("y"),
                self.listener("one"),
                self.listener("two"),
            )
        elif shape == 2:
            found = await gather(self.bad("p"), self.branch("e", 3), self.bad("q"), return_exceptions=True)
            self.seen += [type(f).__name__ for f in found]
        elif shape == 3:
            try:
                await gather(self.branch("f", 3), self.bad("r"), self.branch("g", 3))
            except StepError as error:
                self.seen.append(error.name)
            await self.work("after")
        else:
            await gather(self.approver(), self.approver(), self.branch("h", 2), self.sleeper())
            self.seen.append(str(uuid4()))
        return self.seen

    async def branch(self, name: str, count: int) -> None:
        for i in range(count):
            self.seen.append(await self.work(f"{name}{i}"))
            if random() < 0.3:
                await gather(self.work(f"{name}{i}-left"), self.flaky(f"{name}{i}-right"))

    async def sleeper(self) -> None:
        await sleep(3)
        self.seen.append("slept")
        await self.late("z")
        assert now().tzinfo is not None

    async def listener(self, name: str) -> None:
        self.seen.append(f"{name} got {await wait_for('news', int)}")
        await self.work(name)

    async def approver(self) -> None:
        self.seen.append(await self.approve())

    @step
    def work(self, what: str) -> str:
        return what.upper()

    @step(delay=timedelta(seconds=2))
    def late(self, what: str) -> str:
        return what

    @step
    def bad(self, what: str) -> str:
        raise ValueError(what)

    @step(retry=Retry(max_attempts=3))
    def flaky(self, what: str) -> str:
        FAILURES[what] += 1
        if FAILURES[what] % 2:
            raise OSError(what)
        return what

    @signal
    def approve(self, by: str) -> str:
        return f"approved by {by}"


def happen(story, rng, *, pauses=False, restarts=False):
    """Let things happen in a random order until the flow has ended."""
    signals = [lambda i=i: story.send("news", i) for i in range(2)]
    signals += [lambda who=who: story.signal(Mixed.approve(who)) for who in ("bob", "eve")]
    rng.shuffle(signals)
    paused = False
    for _ in range(500):
        if story.machine.ended is not None:
            return story
        doings = [lambda n=n: story.run(n) for n in story.runs] + signals[:1]
        if story.machine.alarm is not None:
            doings.append(story.wait)
        doing = rng.choice(doings) if doings else None
        if signals and doing is signals[0]:
            signals.pop(0)
        if doing is not None:
            doing()
        if pauses and story.machine.ended is None and (doing is None or rng.random() < 0.4):
            story.tell(ResumeRequested() if paused else PauseRequested())
            paused = not paused
    raise AssertionError("no end")


@pytest.mark.parametrize("shape", range(5))
@pytest.mark.parametrize("seed", range(12))
def test_a_replay_at_every_prefix_goes_on_as_the_flow_did(shape, seed) -> None:
    rng = Random(seed)
    story = happen(Story(Mixed.go, shape).start(), rng, pauses=rng.random() < 0.5)

    assert story.status == "completed"
    for length in story.commits:
        whole = story.fork(length)
        statuses = whole.status
        rest = whole.restart()
        assert rest.machine.version >= length
        if statuses == "completed":
            assert rest.result == story.result
        rest.machine.close()
        whole.machine.close()


@pytest.mark.parametrize("shape", range(5))
@pytest.mark.parametrize("seed", range(6))
def test_a_flow_that_is_restarted_anywhere_ends_well(shape, seed) -> None:
    rng = Random(seed)
    story = happen(Story(Mixed.go, shape).start(), rng)

    for length in rng.sample(story.commits, min(len(story.commits), 12)):
        resumed = story.restart(length)
        resumed.entry = 100
        if resumed.machine.ended is None:
            for i in range(2):
                resumed.send("news", i)
                resumed.signal(Mixed.approve("zoe"))
        resumed.finish(rng)
        assert resumed.status == "completed"
        if shape in (0, 2, 3):
            assert sorted(resumed.result) == sorted(story.result) or shape == 3
        assert resumed.fork().status == "completed"


@pytest.mark.parametrize("shape", range(5))
@pytest.mark.parametrize("seed", range(8))
def test_a_shutdown_may_leave_several_facts_that_the_code_has_not_seen(shape, seed) -> None:
    rng = Random(seed)
    story = Story(Mixed.go, shape).start()
    for _ in range(rng.randrange(4)):
        if story.runs:
            story.run(rng.choice(list(story.runs)))
    story.machine.drain()
    for number in list(story.runs):
        if rng.random() < 0.8:
            story.run(number)
    story.send("news", 1)
    story.tell(Interrupt())
    if rng.random() < 0.5 and story.machine.ended is None:
        story.tell(PauseRequested())

    resumed = story.restart()
    if resumed.status == "paused":
        assert not resumed.runs
        resumed.tell(ResumeRequested())
    resumed.signal(Mixed.approve("a"))
    resumed.signal(Mixed.approve("b"))
    resumed.send("news", 2)
    resumed.finish(rng)

    assert resumed.status == "completed"
    assert resumed.fork().status == "completed"
    for length in resumed.commits:
        resumed.fork(length)


def test_a_pause_changes_nothing_but_time() -> None:
    plain = Story(Mixed.go, 1).start()
    paused = Story(Mixed.go, 1).start()

    def do(story) -> None:
        story.send("news", 1)
        story.run(1)
        story.send("news", 2)
        story.run(2)

    do(plain)
    paused.tell(PauseRequested())
    do(paused)
    assert "step_started" not in paused.kinds[-5:]
    paused.tell(ResumeRequested())

    def begun(story):
        return [
            (e.step, e.name, bytes(e.args))
            for r in story.log
            if (e := r.event) and hasattr(e, "args") and hasattr(e, "step")
        ]

    assert begun(plain) == begun(paused)
