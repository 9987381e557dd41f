"""Time: never early, only the remainder after a restart, whatever the calendar does meanwhile."""

from datetime import UTC, datetime, timedelta, timezone

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
from persistasaurus.flows.machine.pending import Due
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


def test_what_is_no_date_is_refused() -> None:
    class Bad(Flow):
        @flow
        async def go(self) -> None:
            await sleep_until(1234)

    assert "give a datetime" in Story(Bad.go).start().error.message


FAR = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""


@pytest.mark.parametrize(
    ("instant", "due"),
    [
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), FAR),
        (datetime.max.replace(tzinfo=UTC), FAR),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), -62_135_596_800_000_000),
        (datetime(1969, 1, 1, tzinfo=UTC), -365 * 86_400_000_000),
    ],
)
def test_dates_that_no_datetime_in_utc_can_hold_become_the_nearest_that_one_can(
    instant: datetime, due: int
) -> None:
    story = Story(Sleeper.until, instant).start()
    (timer,) = [r.event for r in story.log if isinstance(r.event, events.TimerSet)]
    assert timer.due == due


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, timedelta.max.total_seconds() * 2])
def test_a_sleep_without_end_ends_with_the_calendar(seconds: float) -> None:
    story = Story(Sleeper.nap, 1).start()
    assert story.machine.alarm is not None
    assert repr(sleep(seconds)) == repr(sleep(timedelta.max))


@pytest.mark.parametrize("seconds", [float("-inf"), -1e300, -1.5, 0])
def test_a_sleep_of_less_than_nothing_is_none(seconds: float) -> None:
    assert repr(sleep(seconds)) == repr(sleep(timedelta()))


def test_a_sleep_of_no_number_of_seconds_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match=r"sleep\(nan\): a duration is"):
        sleep(float("nan"))


def test_a_due_date_that_an_earlier_version_recorded_beyond_time_is_brought_back() -> None:
    assert Due(FAR + 10, 0).wall == FAR
