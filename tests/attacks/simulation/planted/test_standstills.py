"""The scenarios of carriers that are held see each bug that was planted there, and nothing without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from persistasaurus import PersistasaurusError
from pykka import Timeout
from simulation.planted.holdups import Wrong
from simulation.planted.of_the_carriers import STANDSTILLS
from simulation.planted.standstills import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable


def played(scenario: Callable[[], None]) -> str | None:
    """Play a scenario; tell what is wrong."""
    try:
        scenario()
    except (Wrong, Timeout, PersistasaurusError, AssertionError) as wrong:
        return f"{type(wrong).__name__}: {wrong}"
    return None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_without_a_bug_nothing_is_wrong(scenario) -> None:
    assert played(scenario) is None


@pytest.mark.parametrize("name", STANDSTILLS)
def test_a_planted_bug_is_caught(name: str) -> None:
    bug, scenario = STANDSTILLS[name]
    with bug.planted():
        found = played(scenario)

    assert found, f"{bug.sentence} Nobody has noticed"
    print(f"{name} ({bug.sentence}): {found}")  # noqa: T201 - shown with -s


def test_each_scenario_catches_something() -> None:
    assert {planted.scenario for planted in STANDSTILLS.values()} == set(SCENARIOS)
    assert all(planted.bug.sentence for planted in STANDSTILLS.values())
