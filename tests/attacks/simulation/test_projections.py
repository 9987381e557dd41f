"""Projections under everything that can go wrong: each event is in their tables once, and in order.

PERSISTASAURUS_RUNS=20000 pytest -n 2 tests/attacks/simulation/test_projections.py -k finds_nothing
PERSISTASAURUS_SEED=4711 pytest tests/attacks/simulation/test_projections.py -k one_seed  # what went wrong
"""

from __future__ import annotations

import pytest
from simulation.planted.of_the_projections import PROJECTION_BUGS
from simulation.planted.planting import slips
from simulation.projected import REPLAY, play_projected

RUNS = 60
AT_MOST = 100


@pytest.mark.timeout(24 * 3600)
def test_a_campaign_with_projections_finds_nothing(runs: int | None, seed: int | None) -> None:
    first = seed or 0

    for number in range(first, first + (runs or RUNS)):
        found = play_projected(number)
        assert found is None, f"{found.what}\nreplay: {REPLAY.format(number)}"


def test_one_seed_with_projections_finds_nothing(seed: int | None) -> None:
    found = play_projected(seed or 0)

    assert found is None, found.what


@pytest.mark.parametrize("name", PROJECTION_BUGS)
def test_a_planted_bug_of_projections_is_caught(name: str) -> None:
    bug = PROJECTION_BUGS[name]

    for seed in range(AT_MOST):
        with bug.planted():
            failure = play_projected(seed)
        if failure is not None:
            assert not slips, "the planted code itself is wrong"
            print(f"{name} ({bug.sentence}), run {seed}: {failure.what}")  # noqa: T201 - shown with -s
            return
    pytest.fail(f"{bug.sentence} Nobody has noticed in {AT_MOST} runs")
