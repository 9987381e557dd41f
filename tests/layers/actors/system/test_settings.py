"""What a system is opened with is looked at before anything is opened."""

from __future__ import annotations

from datetime import timedelta
from math import inf, nan
from typing import TYPE_CHECKING

import pytest
from persistasaurus import Durability, Flow, FlowSystem, Limits, PayloadLimits, SupervisorRules, flow
from persistasaurus.actors.flows.active_flow import RestartRules

if TYPE_CHECKING:
    from pathlib import Path


class Waits(Flow):
    @flow
    async def go(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flows": Waits}, "flows=[Waits]"),
        ({"flows": Waits.go}, "flows=["),
        ({"flows": [Waits()]}, "Give the class"),
        ({"durability": "full"}, "durability=Durability"),
        ({"durability": True}, "durability=Durability"),
        ({"limits": 5}, "limits=Limits(...)"),
        ({"limits": Limits}, "limits=Limits()"),
        ({"limits": PayloadLimits()}, "limits=Limits(...)"),
        ({"rules": {"idle_s": 1}}, "rules=SupervisorRules(...)"),
        ({"workers": 0}, "workers=0"),
        ({"workers": "2"}, "workers='2'"),
        ({"step_threads": -1}, "step_threads=-1"),
        ({"step_threads": 1.5}, "step_threads=1.5"),
        ({"step_threads": True}, "step_threads=True"),
        ({"step_processes": 0}, "step_processes=0"),
        ({"path": None}, "path of the store"),
        ({"path": [Waits]}, "flows=[...]"),
        ({"path": ""}, "':memory:'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_and_nothing_is_opened(tmp_path, options, said) -> None:
    path = tmp_path / "flows.db"

    with pytest.raises((TypeError, ValueError)) as refused:
        FlowSystem(**{"path": path, "flows": [Waits], **options})

    assert said in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        (SupervisorRules, "idle_s", -1.0),
        (SupervisorRules, "idle_s", nan),
        (SupervisorRules, "idle_s", inf),
        (SupervisorRules, "idle_s", "5"),
        (SupervisorRules, "idle_s", timedelta(seconds=5)),
        (SupervisorRules, "horizon_s", True),
        (SupervisorRules, "max_idle", -1),
        (SupervisorRules, "max_idle", 1.0),
        (SupervisorRules, "max_activations", 0),
        (SupervisorRules, "max_active", 0),
        (SupervisorRules, "restart", 3),
        (RestartRules, "initial_s", nan),
        (RestartRules, "maximum_s", None),
        (RestartRules, "period_s", -1),
        (RestartRules, "factor", 0.5),
        (RestartRules, "jitter", -0.1),
        (RestartRules, "max_restarts", -1),
    ],
    ids=str,
)
def test_a_rule_that_makes_no_sense_is_refused_where_it_is_written(kind, option, value) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        kind(**{option: value})

    assert f"{kind.__name__}({option}={value!r}): give" in str(refused.value)


def test_settings_at_their_bounds_are_taken(tmp_path: Path) -> None:
    rules = SupervisorRules(0, 0, 1, RestartRules(0, 1, 0, 0, 0, 0), 0)

    with FlowSystem(
        str(tmp_path / "flows.db"),
        flows=(definition for definition in [Waits]),
        durability=Durability.MAY_LOSE_LAST_COMMITS,
        limits=Limits(payload=PayloadLimits(size=1000)),
        rules=rules,
        workers=1,
        step_threads=1,
        step_processes=1,
    ) as system:
        assert system.run(Waits.go) is None
