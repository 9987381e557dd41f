"""What the supervisor knows of one flow: the rules that it is kept by, and when it is started anew."""

from __future__ import annotations

import pytest
from persistasaurus import SupervisorRules
from persistasaurus.actors.flows.active_flow import ActiveFlow, RestartRules


def test_flows_are_kept_by_rules_that_do_not_change_by_accident() -> None:
    restart = RestartRules(
        initial_s=0.05, factor=2.0, maximum_s=30.0, jitter=0.2, max_restarts=5, period_s=60.0
    )
    rules = SupervisorRules(idle_s=5.0, max_idle=200, max_activations=64, restart=restart, horizon_s=30.0)

    assert SupervisorRules() == rules


@pytest.mark.parametrize(("times", "mean_s"), [(1, 1.0), (2, 3.0), (3, 5.0)])
def test_the_wait_for_a_restart_is_spread_evenly_about_what_the_rules_say(times: int, mean_s: float) -> None:
    rules = RestartRules(initial_s=1.0, factor=3.0, maximum_s=5.0, jitter=0.2)
    waits: list[float | None] = []
    for chance in (0.0, 0.5, 1.0):
        crashing = ActiveFlow("bad")
        waits.append([crashing.note_crash(0.0, rules, chance) for _ in range(times)][-1])

    assert waits == pytest.approx([0.8 * mean_s, mean_s, 1.2 * mean_s])
