"""What `retry` makes of a flow that has failed, or is parked: completed steps are not run again."""

import gc
from collections import Counter

import pytest
from persistasaurus.flows import Flow, Limits, Retry, events, flow, gather, now, sleep, step
from persistasaurus.flows.errors import FlowEnded, NondeterminismError, StepError
from stories import EPOCH, SECOND, Story

BROKEN: set[str] = set()
RAN = Counter()


@pytest.fixture(autouse=True)
def _clean() -> None:
    BROKEN.clear()
    RAN.clear()


class Shop(Flow):
    @flow
    async def plain(self) -> str:
        await self.do("reserve")
        await self.do("charge")
        return await self.do("ship")

    @flow
    async def careful(self) -> str:
        await self.do("reserve")
        try:
            await self.do("charge")
        except StepError as error:
            await self.do("release")
            raise RuntimeError("no money") from error
        return await self.do("ship")

    @flow
    async def tidy(self) -> str:
        try:
            return await self.do("charge")
        finally:
            RAN["tidied up"] += 1

    @flow
    async def many(self) -> list[str]:
        return list(await gather(self.do("a"), self.do("b"), self.do("c"), self.long("d")))

    @flow
    async def patient(self) -> list[str]:
        found = await gather(self.do("a"), self.long("b"), self.long("c"), return_exceptions=True)
        errors = [f for f in found if isinstance(f, Exception)]
        if errors:
            await self.do("apologise")
            raise ExceptionGroup("some", errors)
        return [str(f) for f in found]

    @flow
    async def buggy(self) -> str:
        await self.do("a")
        if "body" in BROKEN:
            raise ZeroDivisionError
        await self.do("b")
        if "body again" in BROKEN:
            raise ZeroDivisionError
        return await self.do("c")

    async def long(self, name: str) -> str:
        return await self.do(f"{name}1") + await self.do(f"{name}2")

    @step
    def do(self, what: str) -> str:
        RAN[what] += 1
        if what in BROKEN:
            raise OSError(what)
        return what


def steps_never_reuse_a_number(story) -> None:
    numbers = [e.step for e in story.of(events.StepStarted)]
    assert len(numbers) == len(set(numbers))


def replays_everywhere(story, *, fixed_code=False) -> None:
    """With fixed code, the prefixes from the last repair on: no other code can replay those before."""
    first = max(i for i, kind in enumerate(story.kinds, 1) if kind == "repaired") if fixed_code else 0
    for length in [c for c in story.commits if c >= first]:
        story.fork(length)
        resumed = story.restart(length)
        resumed.finish()
        resumed.fork()
    steps_never_reuse_a_number(story)


def fail(definition, *broken):
    BROKEN.update(broken)
    story = Story(definition).start().finish()
    assert story.status == "failed"
    return story


def test_a_failed_step_is_tried_again_and_completed_ones_are_not() -> None:
    story = fail(Shop.plain, "charge")

    BROKEN.clear()
    repaired = story.repair()
    assert list(repaired.runs) == [2]
    repaired.finish()

    assert repaired.result == "ship"
    assert RAN == {"reserve": 1, "charge": 2, "ship": 1}
    replays_everywhere(repaired)


def test_a_repair_twice_in_a_row() -> None:
    story = fail(Shop.plain, "charge")
    again = story.repair().finish()
    assert again.status == "failed"
    BROKEN.clear()
    BROKEN.add("ship")
    third = again.repair().finish()
    assert third.status == "failed"
    BROKEN.clear()
    fourth = third.repair().finish()

    assert fourth.result == "ship"
    assert RAN == {"reserve": 1, "charge": 3, "ship": 2}
    replays_everywhere(fourth)


def test_what_a_flow_did_about_the_failure_is_void() -> None:
    story = fail(Shop.careful, "charge")
    BROKEN.clear()
    repaired = story.repair().finish()

    assert repaired.result == "ship"
    assert RAN == {"reserve": 1, "charge": 2, "release": 1, "ship": 1}
    assert [e.step for e in repaired.of(events.StepStarted)] == [1, 2, 3, 4]  # 3 was the release
    replays_everywhere(repaired)


def test_a_compensation_is_done_anew_when_the_step_fails_again() -> None:
    story = fail(Shop.careful, "charge").repair().finish()

    assert story.status == "failed"
    assert RAN == {"reserve": 1, "charge": 2, "release": 2}
    BROKEN.clear()
    repaired = story.repair().finish()
    assert repaired.result == "ship"
    replays_everywhere(repaired)


@pytest.mark.parametrize("order", [[1, 2, 3, 4], [2, 1, 3, 4], [4, 3, 2, 1], [3, 4, 5, 2, 1]])
def test_branches_of_a_gather_that_fail_one_after_another_are_all_tried_again(order) -> None:
    BROKEN.update("abc")
    story = Story(Shop.many).start()
    for number in order:
        if number in story.runs:
            story.run(number)
    story.finish()
    assert story.status == "failed"

    BROKEN.clear()
    repaired = story.repair().finish()

    assert repaired.result == ["a", "b", "c", "d1d2"]
    assert RAN["d1"] == 1
    replays_everywhere(repaired)


def test_other_branches_keep_all_that_they_have_done() -> None:
    story = fail(Shop.patient, "a")
    BROKEN.clear()
    repaired = story.repair().finish()

    assert repaired.result == ["a", "b1b2", "c1c2"]
    assert RAN == {"a": 2, "b1": 1, "b2": 1, "c1": 1, "c2": 1, "apologise": 1}
    replays_everywhere(repaired)


def test_several_failures_in_a_group_are_repaired_one_by_one() -> None:
    story = fail(Shop.patient, "a", "c1")
    BROKEN.clear()
    for _ in range(2):
        if story.status == "failed":
            story = story.repair().finish()

    assert story.result == ["a", "b1b2", "c1c2"]
    assert RAN["b2"] == 1
    replays_everywhere(story)


def test_a_bug_in_the_body_is_repaired_with_the_fixed_code() -> None:
    story = fail(Shop.buggy, "body", "body again")
    assert story.error.type == "ZeroDivisionError"
    BROKEN.remove("body")
    story = story.repair().finish()
    assert story.status == "failed"
    BROKEN.clear()
    repaired = story.repair().finish()

    assert repaired.result == "c"
    assert RAN == {"a": 1, "b": 1, "c": 1}
    replays_everywhere(repaired, fixed_code=True)


def test_code_that_is_not_fixed_fails_again() -> None:
    story = fail(Shop.buggy, "body").repair()

    assert story.status == "failed"
    assert story.kinds[-2:] == ["repaired", "flow_failed"]
    assert story.repair().status == "failed"


def test_a_policy_of_retry_starts_afresh() -> None:
    class Tenacious(Flow):
        @flow
        async def go(self) -> None:
            await self.call()

        @step(retry=Retry(max_attempts=2))
        def call(self) -> None:
            RAN["call"] += 1
            raise OSError

    story = Story(Tenacious.go).start().finish().repair().finish()

    assert RAN["call"] == 4
    assert [e.attempt for e in story.of(events.StepFailed)] == [1, 2, 3, 4]
    replays_everywhere(story)


def test_a_sleep_begins_when_the_repair_lets_it() -> None:
    class Sleepy(Flow):
        @flow
        async def go(self) -> None:
            await self.do()
            if "body" in BROKEN:
                raise ZeroDivisionError
            await sleep(10)

        @step
        def do(self) -> None: ...

    story = fail(Sleepy.go, "body")
    BROKEN.clear()
    story.advance(1000)
    repaired = story.repair()

    assert repaired.of(events.TimerSet)[0].due >= EPOCH + 1010 * SECOND
    assert repaired.machine.alarm.remaining(repaired.moment) == pytest.approx(10)
    assert repaired.tick() == []
    assert repaired.wait() == ["timer_fired", "flow_completed"]
    replays_everywhere(repaired, fixed_code=True)


def test_sleeps_of_the_code_that_goes_on_have_numbers_that_none_has_had() -> None:
    class Sleepy(Flow):
        @flow
        async def go(self) -> None:
            if "body" in BROKEN:
                await sleep(1)
                raise ZeroDivisionError
            await gather(self.nap(10), self.nap(20))

        async def nap(self, seconds: int) -> None:
            await sleep(seconds)
            await sleep(seconds)

    story = fail(Sleepy.go, "body")
    BROKEN.clear()
    repaired = story.repair().finish()

    numbers = [e.timer for e in repaired.of(events.TimerSet)]
    assert len(numbers) == 4
    assert numbers == sorted(set(numbers))
    replays_everywhere(repaired, fixed_code=True)


def test_attempts_that_are_still_being_made_are_not_in_doubt_after_a_repair() -> None:
    BROKEN.add("a")
    story = Story(Shop.many).start()
    story.run(1)
    assert story.status == "failed"
    machine = story.new_machine()

    decision = machine.repair(story.log, "ada", "", story.moment, running={(2, 1), (3, 1)})

    assert [c.run.number for c in decision.effects] == [1, 4]


def test_a_completed_flow_cannot_be_repaired() -> None:
    story = Story(Shop.plain).start().finish()

    with pytest.raises(FlowEnded):
        story.repair()


def test_other_code_than_the_recorded_is_no_repair() -> None:
    class Other(Flow):
        @flow
        async def go(self) -> None:
            await self.something_else()

        @step
        def something_else(self) -> None: ...

    story = fail(Shop.plain, "charge")

    with pytest.raises(NondeterminismError, match="something_else"):
        story.repair(Other.go)


def test_a_flow_parked_for_its_length_runs_on_with_higher_limits() -> None:
    story = Story(Shop.plain, limits=Limits(events=4)).start().finish()
    assert story.machine.parked.reason == "history_limit"
    assert not story.runs

    story.limits = Limits()
    repaired = story.repair().finish()

    assert repaired.result == "ship"
    replays_everywhere(repaired)


def test_the_time_of_the_code_does_not_go_back() -> None:
    class Clock(Flow):
        @flow
        async def go(self) -> list[str]:
            first = now()
            await self.do("a")
            return [str(first < now())]

        @step
        def do(self, what: str) -> str:
            if what in BROKEN:
                raise OSError
            return what

    story = fail(Clock.go, "a")
    BROKEN.clear()
    assert story.repair().finish().result == ["True"]


def test_a_repair_retries_what_has_failed_since_the_last_one() -> None:
    story = fail(Shop.plain, "charge").repair()
    story.run()
    assert story.status == "failed"
    BROKEN.clear()
    repaired = story.repair()

    failures = [r.version for r in repaired.log if isinstance(r.event, events.StepFailed)]
    assert [e.retried for e in repaired.of(events.Repaired)] == [(version,) for version in failures]
    assert repaired.finish().result == "ship"


def test_the_code_that_a_repair_has_tried_out_ends_with_it() -> None:
    BROKEN.add("charge")
    story = Story(Shop.tidy).start()
    story.run()
    assert RAN["tidied up"] == 1

    gc.disable()
    try:
        story.repair()
        assert RAN["tidied up"] == 2
    finally:
        gc.enable()
