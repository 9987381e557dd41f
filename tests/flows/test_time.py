"""Time: never early, only the remainder after a restart, whatever the calendar does meanwhile."""

from datetime import UTC, datetime, timedelta

import pytest
from persistasaurus.flows import (
    Flow,
    Retry,
    events,
    flow,
    gather,
    now,
    random,
    sleep,
    sleep_until,
    step,
    uuid4,
)
from stories import EPOCH, SECOND, Story, same_at_every_prefix

LATER = datetime.fromtimestamp(EPOCH / SECOND, UTC) + timedelta(hours=1)


class Sleeper(Flow):
    @flow
    async def nap(self, seconds: float) -> None:
        await sleep(seconds)

    @flow
    async def until(self, instant: datetime) -> None:
        await sleep_until(instant)

    @flow
    async def race(self) -> list[str]:
        self.order: list[str] = []
        await gather(self.branch(10), self.branch(5), self.branch(7))
        return self.order

    async def branch(self, seconds: int) -> None:
        await sleep(seconds)
        self.order.append(str(seconds))

    @flow
    async def values(self) -> list[str]:
        first = [now().isoformat(), str(random()), str(uuid4())]
        await self.do()
        return [*first, now().isoformat(), str(random()), str(uuid4())]

    @flow
    async def stubborn(self) -> None:
        await self.breaks()

    @step
    def do(self) -> None: ...

    @step(retry=Retry(max_attempts=2, initial=timedelta(seconds=10), jitter=0))
    def breaks(self) -> None:
        raise OSError("broken")


@pytest.mark.parametrize("jump", [3600, -3600])
def test_the_time_until_the_next_attempt_goes_by_whatever_the_calendar_does(jump) -> None:
    story = Story(Sleeper.stubborn).start()
    story.run()
    story.advance(9.9, jump=jump)
    assert story.tick() == []
    story.advance(0.1)
    assert story.tick() == ["step_attempted"]


def test_a_sleep_is_never_early_when_the_calendar_jumps_forward() -> None:
    story = Story(Sleeper.nap, 60).start()
    story.advance(59.9, jump=10 * 365 * 86_400)
    assert story.tick() == []
    story.advance(0.1)
    assert story.tick() == ["timer_fired", "flow_completed"]


def test_a_sleep_is_not_late_when_the_calendar_jumps_backward() -> None:
    story = Story(Sleeper.nap, 60).start()
    story.advance(60, jump=-86_400)

    assert story.tick() == ["timer_fired", "flow_completed"]


def test_after_a_restart_only_the_remainder_is_waited_for() -> None:
    story = Story(Sleeper.nap, 60).start().restart(down=20)

    assert story.machine.alarm.remaining(story.moment) == pytest.approx(40)


def test_after_a_restart_with_a_calendar_set_back_no_more_than_the_whole_is_waited_for() -> None:
    story = Story(Sleeper.nap, 60).start().restart(down=0, jump=-86_400)

    assert story.machine.alarm.remaining(story.moment) == pytest.approx(60)


def test_a_date_on_the_calendar_follows_the_calendar() -> None:
    story = Story(Sleeper.until, LATER).start()
    story.advance(1, jump=3598)
    assert story.tick() == []
    story.advance(1)
    assert story.tick() == ["timer_fired", "flow_completed"]


def test_what_became_due_while_nobody_looked_happens_in_the_order_of_time() -> None:
    story = Story(Sleeper.race).start().restart(down=100)
    story.tick()

    assert story.result == ["5", "7", "10"]
    same_at_every_prefix(story, ends=False)


def test_alarms_are_the_earliest_first() -> None:
    story = Story(Sleeper.race).start()

    assert story.machine.alarm.wall == EPOCH + 5 * SECOND


@pytest.mark.parametrize("wait", [timedelta.max, timedelta(days=10_000_000)])
def test_a_sleep_for_ever_has_a_date(wait) -> None:
    class For(Flow):
        @flow
        async def ever(self) -> None:
            await sleep(wait)

    due = Story(For.ever).start().of(events.TimerSet)[0].due
    assert datetime.fromtimestamp(0, UTC) + timedelta(microseconds=due) == datetime.max.replace(tzinfo=UTC)


def test_now_random_and_uuid4_are_the_same_in_each_replay() -> None:
    story = Story(Sleeper.values).start()
    story.advance(5)
    story.finish()

    assert story.result[0] == "2023-11-14T22:13:20+00:00"
    assert story.result[3] > story.result[0]
    assert len(set(story.result)) == 6
    resumed = story.restart(story.commits[0])
    resumed.finish()
    assert resumed.result[:3] == story.result[:3]
    assert resumed.result[4:] == story.result[4:]


@pytest.mark.parametrize("bad", [float("nan"), "soon", None])
def test_a_bad_duration_fails_at_the_await(bad) -> None:
    class Bad(Flow):
        @flow
        async def go(self) -> str:
            try:
                await sleep(bad)
            except (TypeError, ValueError) as error:
                return type(error).__name__
            return "slept"

    assert Story(Bad.go).start().result in ("TypeError", "ValueError")


def test_a_date_without_a_zone_is_refused() -> None:
    class Bad(Flow):
        @flow
        async def go(self) -> None:
            await sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001 - on purpose

    assert "time zone" in Story(Bad.go).start().error.message
