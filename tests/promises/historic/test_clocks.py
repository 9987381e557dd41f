"""What clocks have done to the schedulers of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from historic.flows import Appointment, Errand, effects
from persistasaurus import SupervisorRules
from persistasaurus.actors.testing.simulation import Simulation

HOUR = 3600.0
YEAR = 365 * 24 * HOUR


@pytest.fixture(autouse=True)
def _no_effects() -> None:
    effects.clear()


def _turns(simulation: Simulation) -> int:
    return simulation.schedule.turns


# apscheduler #339, #752, celery #3685: the clock went back, and nothing ran any more. apscheduler #526: it
# went ten years ahead, and each missed turn was made up for.
@pytest.mark.parametrize("jump", [-10 * YEAR, -HOUR, -1.0, 1.0, HOUR, 10 * YEAR])
def test_a_clock_that_jumps_stops_nothing_and_is_not_made_up_for(jump: float) -> None:
    with Simulation([Errand]) as simulation:
        simulation.insist(lambda system: system.start(Errand.run, 600.0, flow_id="one"))
        simulation.system.flow("one").signal(Errand.word, "hello", signal_id="w")
        simulation.advance(300)
        simulation.clock.jump_wall(jump)
        before = _turns(simulation)
        simulation.insist(lambda system: system.start(Errand.run, 600.0, flow_id="two"))
        simulation.system.flow("two").signal(Errand.word, "hello", signal_id="w")

        assert simulation.system.flow("one").result(timeout=3 * HOUR) == "hello"
        assert simulation.system.flow("two").result(timeout=3 * HOUR) == "hello"
        assert _turns(simulation) - before < 5_000
        assert effects["one/arrive"] == effects["two/arrive"] == 1


# celery #1604, apscheduler #120: in the hour that comes twice, what was due came twice.
@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("crash_first", [False, True])
def test_in_the_hour_that_comes_twice_an_appointment_comes_once(fold: int, crash_first: bool) -> None:  # noqa: FBT001
    zone = ZoneInfo("Europe/Berlin")
    with Simulation([Appointment]) as simulation:
        start = datetime.fromtimestamp(simulation.clock.now() / 1e6, UTC)
        switch = datetime(start.year + 1, 10, 31, 2, 30, tzinfo=zone)
        while (switch.replace(fold=0)).utcoffset() == switch.replace(fold=1).utcoffset():
            switch -= timedelta(days=1)
        at = switch.replace(fold=fold)
        simulation.clock.jump_wall((at.astimezone(UTC) - start).total_seconds() - 2 * HOUR)
        simulation.insist(lambda system: system.start(Appointment.run, at, flow_id="one"))
        for _ in range(int(2 * HOUR / 600) - 1):
            simulation.advance(600)
            if crash_first:
                simulation.crash()
        assert simulation.system.flow("one").status == "waiting"
        simulation.advance(2 * HOUR)

        assert simulation.system.flow("one").result(timeout=1) == 1
        assert effects["one/meet"] == 1


# Ours, found by the machine of timers: after a second jump a duration took longer, by what was jumped.
def test_a_sleep_at_rest_keeps_its_instant_through_two_jumps() -> None:
    with Simulation([Errand], rules=SupervisorRules(idle_s=1)) as simulation:
        _ = simulation.system
        simulation.clock.jump_wall(90)
        simulation.advance(60)
        simulation.insist(lambda system: system.start(Errand.run, 900.0, flow_id="one"))
        simulation.system.flow("one").signal(Errand.word, "hello", signal_id="w")
        began = simulation.clock.elapsed()
        simulation.advance(300)
        simulation.clock.jump_wall(-3600)

        assert simulation.system.flow("one").result(timeout=2 * HOUR) == "hello"
        assert simulation.clock.elapsed() - began < 901
