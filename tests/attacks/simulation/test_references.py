"""Each thing that a flow can say, with a crash before and after each of its commits: the same comes of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from persistasaurus.actors.testing.mortal import Death
from persistasaurus.actors.testing.schedule import PROMPT, Pace
from simulation.references import references
from simulation.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 7
LONG = 12
LATE = Pace(0.3, 0.01)
NAMES = [scenario.name for scenario in references()]


def play(
    name: str, *deaths: Death, pace: Pace = LATE, seed: int = SEED, shortage: Callable[[], float] = float
) -> Run:
    (scenario,) = (scenario for scenario in references() if scenario.name == name)
    run = Run(scenario, seed, pace=pace, deaths=deaths)
    run.simulation.shortage = shortage
    try:
        run.play()
    except Exception as error:
        error.add_note(f"{name!r} with seed {seed}, {pace}, and {deaths or 'no deaths'}")
        raise
    return run


@pytest.mark.parametrize("name", NAMES)
def test_undisturbed_it_comes_to_its_end(name: str) -> None:
    for seed, pace in enumerate((PROMPT, LATE, Pace(0.5, 1.0))):
        play(name, pace=pace, seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_a_crash_at_any_commit_changes_nothing(name: str) -> None:
    commits = play(name).simulation.commits
    assert commits > 1

    for commit in range(1, commits + 1):
        # Of a long one, each commit is either lost, or the next process dies as well.
        if commits < LONG or commit % 2:
            assert play(name, Death(commit, is_durable=False)).simulation.crashes
        if commits < LONG or not commit % 2:
            assert play(name, Death(commit, is_durable=True), Death(commit + 1, is_durable=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_shortage_of_threads_and_processes_changes_nothing_but_when(name: str) -> None:
    for seed in range(3):
        rng = random.Random(seed)
        run = play(name, seed=seed, shortage=lambda rng=rng: rng.choice((0.0, 0.05, 5.0)))
        commit = rng.randint(1, run.simulation.commits)
        for is_durable in (False, True):
            play(
                name,
                Death(commit, is_durable=is_durable),
                seed=seed,
                shortage=lambda rng=rng: rng.choice((0.0, 0.05, 5.0)),
            )


def test_there_is_a_reference_for_each_thing_that_a_flow_can_say() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 12
