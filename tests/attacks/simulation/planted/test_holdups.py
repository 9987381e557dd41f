"""The scenarios of code that blocks or kills see each bug that was planted there, and nothing without it."""

from __future__ import annotations

import pytest
from simulation.planted.holdups import SCENARIOS, played
from simulation.planted.of_the_watchdog import HOLDUPS

SEEDS = range(5)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_without_a_bug_nothing_is_wrong(scenario) -> None:
    assert [played(scenario, seed) for seed in SEEDS] == [None] * len(SEEDS)


@pytest.mark.parametrize("name", HOLDUPS)
def test_a_planted_bug_is_caught(name: str) -> None:
    bug, scenario = HOLDUPS[name]
    with bug.planted():
        found = [played(scenario, seed) for seed in SEEDS]

    assert any(found), f"{bug.sentence} Nobody has noticed"
    print(f"{name} ({bug.sentence}): {next(filter(None, found))}")  # noqa: T201 - shown with -s


def test_each_scenario_catches_something() -> None:
    assert {planted.scenario for planted in HOLDUPS.values()} == set(SCENARIOS)
    assert all(planted.bug.sentence for planted in HOLDUPS.values())
