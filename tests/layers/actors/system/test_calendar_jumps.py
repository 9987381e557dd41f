"""A duration on a calendar that jumps: never shorter, and no longer where that can be told."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - flows read their annotations

import pytest
from persistasaurus import Flow, SupervisorRules, flow, sleep, sleep_until, step, wait_for
from persistasaurus.actors.flows.client import from_microseconds
from persistasaurus.actors.flows.clock import JumpAwareClock
from persistasaurus.actors.runtime.primitives import MICROSECONDS, ManualClock
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows.machine.pending import Due


class Nap(Flow):
    @flow
    async def main(self) -> None:
        await sleep(10)

    @flow
    async def until(self, when: datetime) -> None:
        await sleep_until(when)


class Works(Flow):
    @flow
    async def main(self) -> None:
        await self.work()

    @step
    def work(self) -> None: ...


class Waits(Flow):
    @flow
    async def main(self) -> int:
        return await wait_for("go", int)


def remaining(jump_aware: JumpAwareClock, due: Due) -> float:
    """Tell what is left for whoever has nothing but the log, and what this process knows of jumps."""
    moment = jump_aware.now()
    due.arm(moment)
    return due.remaining(moment)


def minute(clock: ManualClock) -> Due:
    return Due(clock.now() + 60 * MICROSECONDS, clock.now())


@pytest.mark.parametrize("jump", [-3600, -90, 90, 3600])
def test_a_sleep_is_not_early_that_begins_when_a_jump_is_first_noticed(jump: int) -> None:
    with Simulation([Nap]) as simulation:
        _ = simulation.system
        simulation.clock.jump_wall(jump)
        simulation.insist(lambda system: system.start(Nap.main, flow_id="nap"))
        simulation.advance(9.9)
        assert simulation.system.flow("nap").status == "waiting"
        simulation.advance(0.1)
        assert simulation.system.flow("nap").status == "completed"


def test_a_sleep_at_rest_takes_no_longer_for_a_calendar_that_is_put_right_in_the_meantime() -> None:
    with Simulation([Nap], rules=SupervisorRules(idle_s=0.1, horizon_s=8.0)) as simulation:
        _ = simulation.system
        simulation.clock.jump_wall(3)
        simulation.insist(lambda system: system.start(Nap.main, flow_id="nap"))
        simulation.advance(7)
        simulation.clock.jump_wall(-3)
        simulation.advance(2.9)
        assert simulation.system.flow("nap").status == "waiting"
        simulation.advance(0.1)

        assert simulation.system.flow("nap").status == "completed"


@pytest.mark.parametrize("jump", [4, 20])
def test_a_date_that_a_jump_has_brought_nearer_is_kept_also_by_a_flow_at_rest(jump: int) -> None:
    with Simulation([Nap], rules=SupervisorRules(idle_s=0.1, horizon_s=8.0)) as simulation:
        when = from_microseconds(simulation.clock.now() + 12 * MICROSECONDS)
        handle = simulation.system.start(Nap.until, when)
        simulation.advance(7)  # it is looked for each 4 seconds, so it is known
        simulation.clock.jump_wall(jump)
        simulation.advance(1)

        assert handle.status == "completed"


def test_a_sleep_is_not_early_where_the_calendar_shows_an_instant_again() -> None:
    clock = ManualClock()
    jump_aware = JumpAwareClock(clock)
    for _ in range(2):
        clock.advance(10)
        clock.jump_wall(-90)
        jump_aware.now()
    clock.advance(1)
    due = minute(clock)
    assert remaining(jump_aware, due) == pytest.approx(60)

    clock.advance(20)

    assert remaining(jump_aware, due) == pytest.approx(40)


@pytest.mark.parametrize("jumps", [(-90, 300), (300, -90), (300, 300), (-90, -90), (-5, -5), (300, -295)])
def test_a_sleep_through_several_jumps_takes_its_time(jumps: tuple[int, int]) -> None:
    clock = ManualClock()
    jump_aware = JumpAwareClock(clock)
    due = minute(clock)
    for jump in jumps:
        clock.advance(10)
        clock.jump_wall(jump)
        jump_aware.now()

    assert 40 <= remaining(jump_aware, due) <= 60
    assert jumps in ((-5, -5), (300, -295)) or remaining(jump_aware, due) == pytest.approx(40)


def test_of_a_date_in_its_future_a_process_waits_for_the_duration_and_counts_its_own_time() -> None:
    clock = ManualClock()
    due = minute(clock)
    clock.jump_wall(-3600)
    jump_aware = JumpAwareClock(clock)
    assert remaining(jump_aware, due) == pytest.approx(60)
    clock.advance(10)
    clock.jump_wall(-90)

    assert remaining(jump_aware, due) == pytest.approx(50)


@pytest.mark.parametrize("jump", [0, -90, 90])
@pytest.mark.parametrize("gone", [0.5, 10])
def test_a_duration_that_began_in_this_run_is_waited_for_however_long_the_process_has_been_up(
    gone: float, jump: int
) -> None:
    clock = ManualClock()
    jump_aware = JumpAwareClock(clock)
    clock.advance(3600)
    due = minute(clock)
    clock.advance(gone)
    clock.jump_wall(jump)

    assert remaining(jump_aware, due) == pytest.approx(60 - gone)


@pytest.mark.parametrize("idle_s", [0.0, 1000.0], ids=["at rest", "live"])
@pytest.mark.parametrize("later", [0.0, 30 * 86_400.0], ids=["set back", "set back and right again"])
def test_a_restart_on_a_calendar_that_was_set_back_strands_no_flow(idle_s: float, later: float) -> None:
    with Simulation([Nap, Works, Waits], rules=SupervisorRules(idle_s=idle_s)) as simulation:
        simulation.insist(lambda system: system.start(Nap.main, flow_id="nap"))
        simulation.insist(lambda system: system.start(Works.main, flow_id="works"))
        simulation.insist(lambda system: system.start(Waits.main, flow_id="waits"))
        simulation.insist(lambda system: system.flow("waits").signal("go", 1, signal_id="go"))
        simulation.crash()
        simulation.clock.jump_wall(-30 * 86_400.0)
        simulation.run_until_idle()
        assert simulation.system.flow("works").status == "completed"
        assert simulation.system.flow("waits").status == "completed"
        simulation.advance(5)
        simulation.clock.jump_wall(later)
        assert simulation.system.flow("nap").status == "waiting"
        simulation.advance(20)
        assert simulation.system.flow("nap").status == "completed"
