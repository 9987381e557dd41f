"""What a flow at rest is to be woken for is in its header, also when it is due as its last signal came."""

from __future__ import annotations

import pytest
from persistasaurus import Flow, SupervisorRules, flow, sleep, sleep_until, wait_for
from persistasaurus.actors.flows.client import from_microseconds
from persistasaurus.actors.testing.mortal import Death
from persistasaurus.actors.testing.simulation import Simulation


class Naps(Flow):
    @flow
    async def main(self, at: int) -> str:
        await wait_for("go", int)
        await (sleep_until(from_microseconds(at)) if at else sleep(0))
        return "rested"


@pytest.mark.parametrize("at", [0, 1_700_000_010_000_000], ids=["sleep", "sleep_until"])
def test_a_timer_due_at_the_instant_of_the_signal_survives_a_crash(at: int) -> None:
    rules = SupervisorRules(idle_s=0.0)
    deaths = [Death(3, is_durable=True)]  # started, delivered, consumed with the timer set
    with Simulation([Naps], rules=rules, deaths=deaths) as simulation:
        simulation.insist(lambda system: system.start(Naps.main, at, flow_id="naps"))
        simulation.advance(10)

        simulation.insist(lambda system: system.flow("naps").signal("go", 1, signal_id="go"))
        simulation.advance(1)

        assert simulation.crashes == 1
        assert simulation.system.flow("naps").result(timeout=1) == "rested"
