"""The tests can see: each planted bug is caught by an oracle of the campaign, which is silent without it.

# how many runs each takes
PERSISTASAURUS_RUNS=2000 pytest tests/attacks/simulation/planted -k from_scratch -s
"""

from __future__ import annotations

import os

import pytest
from simulation.planted.hunting import BUGS, hunt
from simulation.planted.known import CAUGHT
from simulation.planted.planting import slips
from simulation.planted.zombies import GOES_ON, SIGNAL, fate_of_a_zombie

NEARBY = 100
"""So many runs are played from the known one on. It is the first as long as campaigns stay as they are."""
AT_MOST = 2000


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    first = CAUGHT.get(name, 0)

    caught = hunt(BUGS[name], NEARBY, first)

    assert caught is not None, f"{BUGS[name].sentence} Nobody has noticed in {NEARBY} runs from {first} on"
    assert not slips, "the planted code itself is wrong"
    print(f"{name} ({BUGS[name].sentence}), run {caught.seed}: {caught.what}")  # noqa: T201 - shown with -s


@pytest.mark.timeout(24 * 3600)
@pytest.mark.skipif("PERSISTASAURUS_RUNS" not in os.environ, reason="a campaign: set PERSISTASAURUS_RUNS")
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_from_scratch(name: str, seed: int | None) -> None:
    caught = hunt(BUGS[name], AT_MOST, seed or 0)

    assert caught is not None, f"{BUGS[name].sentence} Nobody has noticed in {AT_MOST} runs"
    print(f"{name}: {caught.runs} runs: {caught.what}")  # noqa: T201 - shown with -s


def test_there_are_thirty_bugs_and_more_each_with_a_run_that_catches_it() -> None:
    assert len(BUGS) >= 30
    assert all(bug.sentence for bug in BUGS.values())
    assert set(CAUGHT) == set(BUGS)


@pytest.mark.parametrize("write", [GOES_ON, SIGNAL], ids=["append", "signal"])
def test_a_zombie_that_wakes_up_writes_nothing(write, tmp_path) -> None:
    assert fate_of_a_zombie(tmp_path, write) == "fenced"


@pytest.mark.parametrize("write", [GOES_ON, SIGNAL], ids=["append", "signal"])
def test_it_is_the_fence_that_holds_a_zombie_off(write, tmp_path) -> None:
    assert fate_of_a_zombie(tmp_path, write, has_fence=False) == "written"
