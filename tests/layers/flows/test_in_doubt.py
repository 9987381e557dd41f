"""Steps whose attempt is recorded, and whose outcome is not, when the process has died."""

from datetime import timedelta

import pytest
from persistasaurus.flows import Done, Flow, Limits, Retry, events, flow, gather, step
from persistasaurus.flows.errors import FlowEnded
from persistasaurus.flows.machine.in_doubt import NONE, Evidence
from persistasaurus.flows.machine.messages import (
    Interrupt,
    MayRunAlone,
    PauseRequested,
    Reconciled,
    ResumeRequested,
    StepSucceeded,
)
from stories import SECOND, Story

FOUND: dict[str, object] = {}


def find_out(self, what: str):
    found = FOUND[what]
    if isinstance(found, Exception):
        raise found
    return found


class Doubtful(Flow):
    @flow
    async def go(self) -> str:
        return await self.work("a")

    @flow
    async def once(self) -> str:
        return await self.at_most_once("a")

    @flow
    async def reconciled(self) -> str:
        return await self.findable("a")

    @flow
    async def both(self) -> list[str]:
        return list(await gather(self.work("a"), self.work("b")))

    @flow
    async def beside(self) -> list[str]:
        return list(await gather(self.findable("a"), self.at_most_once("b"), self.at_most_once("c")))

    @step
    def work(self, what: str) -> str:
        return what

    @step(on_crash="park")
    def at_most_once(self, what: str) -> str:
        return what

    @step(reconcile=find_out, on_crash="park")
    def findable(self, what: str) -> str:
        return what


def crashed(definition, times=1, **options):
    story = Story(definition, **options).start()
    for _ in range(times):
        story = story.restart()
        for number in list(story.turns):
            story.turn(number)
    return story


def test_by_default_a_step_in_doubt_runs_again() -> None:
    story = crashed(Doubtful.go)

    assert story.kinds[-1] == "step_attempted"
    assert story.finish().result == "a"


def test_a_second_suspect_waits_for_its_turn() -> None:
    story = crashed(Doubtful.go).restart()

    assert story.turns == [1]
    assert not story.runs
    assert story.machine.is_busy
    story.turn(1)
    assert list(story.runs) == [1]


def test_a_step_that_kills_the_process_three_times_is_parked_as_poisoned() -> None:
    story = crashed(Doubtful.go, times=3)

    assert story.machine.parked.reason == "poisoned"
    assert not story.runs
    assert not story.machine.is_busy


class Apart(Flow):
    @flow
    async def go(self) -> str:
        return await self.encode()

    @step(isolated=True)
    def encode(self) -> str:
        return "encoded"


def test_an_isolated_step_is_never_blamed_for_the_death_of_the_engine() -> None:
    story = Story(Apart.go, limits=Limits(poison_after=1)).start()
    for _ in range(5):
        story = story.restart()

    assert story.turns == []
    assert story.finish().result == "encoded"


def test_a_repair_allows_one_attempt_and_no_more() -> None:
    story = crashed(Doubtful.once)
    assert story.machine.parked.reason == "in_doubt"

    repaired = story.repair()
    assert list(repaired.runs) == [1]
    assert repaired.restart().status == "parked"  # at most once for each word of a person


def test_a_poisoned_step_is_parked_again_after_a_repair_and_three_more_deaths() -> None:
    story = crashed(Doubtful.go, times=3).repair()
    for _ in range(3):
        assert story.machine.parked is None
        story = story.restart()
        for number in list(story.turns):
            story.turn(number)

    assert story.machine.parked.reason == "poisoned"


def test_a_step_that_fails_between_its_deaths_has_not_killed_the_process() -> None:
    class Flaky(Flow):
        @flow
        async def go(self) -> None:
            await self.fails()

        @step(retry=Retry(max_attempts=10, initial=timedelta(seconds=1), jitter=0))
        def fails(self) -> None:
            raise OSError("broken")

    story = Story(Flaky.go, limits=Limits(poison_after=2)).start()
    for _ in range(3):
        story = story.restart()
        for number in list(story.turns):
            story.turn(number)
        story.run()
        story.wait()

    assert story.machine.parked is None


def test_an_orderly_shutdown_does_not_count_as_a_death() -> None:
    story = Story(Doubtful.go).start()
    for _ in range(5):
        assert story.tell(Interrupt()) == ["step_interrupted"]
        assert story.tell(Interrupt()) == []
        story = story.restart()

    assert list(story.runs) == [1]


def test_a_step_in_doubt_that_has_not_run_is_not_interrupted() -> None:
    story = Story(Doubtful.go).start()
    story.tell(PauseRequested())
    story = story.restart()

    assert story.tell(Interrupt()) == []


def test_a_turn_that_comes_during_a_pause_is_asked_for_again() -> None:
    story = crashed(Doubtful.go).restart()
    story.tell(PauseRequested())
    story.tell(MayRunAlone(1))
    assert not story.runs
    story.turns.clear()
    story.tell(ResumeRequested())

    assert story.turns == [1]


@pytest.mark.parametrize(
    ("found", "status", "ran"),
    [(Done("found"), "completed", False), (None, "running", True), (OSError("no net"), "parked", False)],
)
def test_reconcile_finds_out(found, status, ran) -> None:
    FOUND["a"] = found
    story = Story(Doubtful.reconciled).start().restart()
    assert list(story.reconciles) == [1]
    story.reconcile(1)

    assert story.status == status
    assert bool(story.runs) is ran
    assert story.fork().status == status
    if status == "completed":
        assert story.result == "found"


def test_a_step_that_has_not_run_as_was_found_out_runs_alone_if_it_may_have_killed_the_process_twice() -> (
    None
):
    FOUND["a"] = None
    story = Story(Doubtful.reconciled).start().restart()
    story.reconcile(1)
    story = story.restart()
    story.reconcile(1)

    assert story.turns == [1]
    assert not story.runs


def test_a_reconciled_result_of_the_wrong_type_parks_the_flow() -> None:
    story = Story(Doubtful.reconciled).start().restart()
    story.tell(Reconciled(1, b"[1]"))

    assert story.machine.parked.reason == "in_doubt"


def test_reconcile_can_be_repaired() -> None:
    FOUND["a"] = OSError("no net")
    story = Story(Doubtful.reconciled).start().restart()
    story.reconcile(1)

    assert story.repair().finish().result == "a"


def test_who_can_find_out_is_asked_also_when_a_person_has_approved_of_a_step_beside_it() -> None:
    FOUND["a"] = Done("found")
    story = Story(Doubtful.beside).start().restart()
    assert story.status == "parked"
    assert not story.reconciles

    story = story.repair()

    assert list(story.reconciles) == [1]
    assert set(story.runs) == {2, 3}
    assert story.finish().result == ["found", "b", "c"]


def test_whoever_approves_has_been_told_of_each_step_that_waits_for_it() -> None:
    story = Story(Doubtful.beside).start().restart()

    assert "step 2 'at_most_once'" in story.machine.parked.message
    assert "step 3 'at_most_once'" in story.machine.parked.message


def test_what_is_reconciled_during_a_pause_waits_for_its_end() -> None:
    FOUND["a"] = None
    story = Story(Doubtful.reconciled).start().restart()
    story.tell(PauseRequested())
    story.reconcile(1)
    assert not story.runs
    story.tell(ResumeRequested())

    assert list(story.reconciles) == [1]


def test_a_late_outcome_of_an_earlier_attempt_is_ignored() -> None:
    story = crashed(Doubtful.go)

    assert story.tell(StepSucceeded(1, 1, b'"old"', "old")) == []
    assert not story.machine.is_running(1, 1)
    assert story.machine.is_running(1, 2)


def test_attempts_that_this_process_still_makes_are_not_in_doubt() -> None:
    story = Story(Doubtful.both).start().fork()
    story.take(story.machine.recovered(story.moment, running={(1, 1)}))

    assert list(story.runs) == [2]
    assert story.tell(StepSucceeded(1, 1, b'"x"', "x")) == ["step_completed"]


@pytest.mark.parametrize("deaths", [1, 2])
def test_poison_after_is_a_limit(deaths) -> None:
    story = crashed(Doubtful.go, times=deaths, limits=Limits(poison_after=deaths))

    assert story.machine.parked.reason == "poisoned"


def test_an_ended_flow_refuses_to_pause_and_to_go_on() -> None:
    story = Story(Doubtful.go).start().finish()

    for message in (PauseRequested(), ResumeRequested()):
        with pytest.raises(FlowEnded):
            story.tell(message)
    assert story.tell(StepSucceeded(1, 1, b'"x"', "x")) == []


def test_a_flow_that_waits_for_the_next_attempt_is_not_busy() -> None:
    class Flaky(Flow):
        @flow
        async def go(self) -> None:
            await self.call()

        @step(retry=Retry(max_attempts=3))
        def call(self) -> None:
            raise OSError

    story = Story(Flaky.go).start()
    assert story.machine.is_busy
    story.run()

    assert not story.machine.is_busy
    story.wait()
    assert story.machine.is_busy


def test_a_parked_flow_takes_its_signals_as_long_as_its_history_has_room() -> None:
    story = crashed(Doubtful.once)
    assert story.machine.parked is not None

    assert story.send("later", 1) == ["signal_received"]
    assert story.fork().status == "parked"


def test_a_failure_during_retries_keeps_its_count_over_restarts() -> None:
    class Flaky(Flow):
        @flow
        async def go(self) -> None:
            await self.call()

        @step(retry=Retry(max_attempts=3, initial=timedelta(seconds=10), jitter=0))
        def call(self) -> None:
            raise OSError

    story = Story(Flaky.go).start()
    story.run()
    story = story.restart()
    story.wait()
    story.run()
    story = story.restart(down=1)
    assert round(story.machine.alarm.remaining(story.moment)) == 19
    story.wait()
    assert story.run() == ["step_failed", "flow_failed"]
    assert [e.attempt for e in story.of(events.StepFailed)] == [1, 2, 3]


def died(story: Story, evidence: Evidence) -> Story:
    """Let the process die once more, and the next one know how."""
    story.evidence = evidence
    story = story.restart()
    for number in list(story.turns):
        story.turn(number)
    return story


def test_a_process_that_was_told_to_end_was_not_killed_by_its_steps() -> None:
    story = Story(Doubtful.both).start()
    for _ in range(10):
        story = died(story, Evidence(is_blameless=True))
    assert story.status == "running"
    assert story.kinds.count("step_interrupted") == 20
    story = died(died(died(story, NONE), NONE), NONE)
    assert story.status == "parked"


def test_a_paused_flow_takes_no_note_of_how_the_process_has_ended() -> None:
    story = Story(Doubtful.go).start()
    story.tell(PauseRequested())
    story = died(story, Evidence(is_blameless=True))
    assert "step_interrupted" not in story.kinds


def test_a_step_that_was_never_begun_is_still_not_in_doubt_when_the_process_was_told_to_end() -> None:
    story = Story(Doubtful.once).start()
    story.tell(Interrupt(frozenset({(1, 1)})))
    story = died(story, Evidence(is_blameless=True))
    assert story.status == "running"


def test_a_step_that_had_run_for_long_each_time_is_parked_after_three_times_as_many_deaths() -> None:
    story = Story(Doubtful.go).start()
    for deaths in range(9):
        assert story.status == "running", f"after {deaths} deaths"
        story = died(story, Evidence(alive_at=story.wall + SECOND))
    assert story.status == "parked"
    assert "died 9 times" in story.machine.parked.message
    assert "Limits(poison_after=3)" in story.machine.parked.message


def test_one_death_soon_after_the_start_is_enough_when_there_were_others() -> None:
    story = Story(Doubtful.go).start()
    for _ in range(3):
        story = died(story, Evidence(alive_at=story.wall + SECOND))
    assert story.status == "running"
    assert died(story, Evidence(alive_at=story.wall + SECOND - 1)).status == "parked"
