"""There is one live actor for each flow, and whoever starts a second one hears of it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from persistasaurus import Flow, flow, wait_for
from persistasaurus.actors.flows.active_flow import ActiveFlow
from persistasaurus.actors.testing.simulation import Simulation
from system.doubles import supervisor_of

if TYPE_CHECKING:
    import pytest


class Waits(Flow):
    @flow
    async def main(self) -> int:
        return await wait_for("go", int)


def test_a_second_actor_of_a_flow_does_not_begin(caplog: pytest.LogCaptureFixture) -> None:
    with Simulation([Waits]) as simulation:
        system = simulation.system
        system.start(Waits.main, flow_id="flow")
        simulation.run_until_idle()
        supervisor = supervisor_of(system)
        second = ActiveFlow("flow")
        second.begin(1000)

        supervisor._launch(second, *system.store.load(["flow"]))
        simulation.run_until_idle()

        assert second.ref is not None
        assert not second.ref.is_alive()
        assert "two live actors of 'flow'" in caplog.text


def test_the_next_actor_of_a_flow_begins_where_the_last_has_left(caplog: pytest.LogCaptureFixture) -> None:
    with Simulation([Waits]) as simulation:
        system = simulation.system
        system.start(Waits.main, flow_id="flow")
        simulation.advance(60)
        assert not supervisor_of(system)._active
        system.flow("flow").signal("go", 1)

        assert system.flow("flow").result(timeout=1) == 1
        assert "two live actors" not in caplog.text
