"""Processes that are killed for good at every commit, and flows that do not notice.

A few dozen lives by default. `PERSISTASAURUS_KILLS=500` lives that many more, at random, and all
kinds of clients at every commit.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from itertools import count, repeat
from typing import TYPE_CHECKING

import pytest
from kills.signup_life import Life
from persistasaurus.flows import events

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CAMPAIGN = int(os.environ.get("PERSISTASAURUS_KILLS", "0"))
KINDS = [("hello", "nobody"), ("signup", "eager"), ("signup", "trusting")]
if CAMPAIGN:
    KINDS.append(("signup", "patient"))
SEEDS = range(4 + CAMPAIGN)


@pytest.fixture(name="life")
def _life(tmp_path: Path) -> Callable[..., Life]:
    """Begin a life in a file of its own."""
    numbers = count()
    return lambda *kind, **more: Life(tmp_path / str(next(numbers)), *kind, **more)


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
@pytest.mark.parametrize("side", [1, -1], ids=["after", "before"])
@pytest.mark.timeout(600)
def test_a_kill_at_any_commit_changes_nothing(
    life: Callable[..., Life], kind: tuple[str, str], side: int
) -> None:
    for number in count(1):
        this = life(*kind)
        this.live([side * number])
        this.assert_whole()
        if not this.kills:
            break

    assert number > 6


@pytest.mark.parametrize("kind", [("hello", "nobody"), ("signup", "trusting")], ids="-".join)
def test_kills_after_the_second_commit_of_each_incarnation_cost_nothing_but_time(
    life: Callable[..., Life], kind: tuple[str, str]
) -> None:
    this = life(*kind)

    this.live(repeat(2))

    assert this.kills >= 3
    this.assert_whole()


def test_an_idempotent_client_gets_a_flow_through_that_is_killed_after_each_third_commit(
    life: Callable[..., Life],
) -> None:
    # Sending the confirmation again is a commit, and so is a step's next attempt: a process may die
    # more than three times during one step without the step being to blame.
    this = life("signup", "patient", poison_after=100)

    this.live(repeat(3))

    assert this.kills >= 2
    this.assert_whole()


def test_a_step_during_which_the_process_always_dies_parks_its_flow(life: Callable[..., Life]) -> None:
    this = life("hello")

    this.live([-2] * 5)

    assert "poisoned" in this.ending["parked"]
    assert this.kills == 3
    assert this.effects == Counter({"step 1": 3})
    parked = this.history()[-1][1]
    assert isinstance(parked, events.Parked)
    assert parked.reason == "poisoned"


@pytest.mark.parametrize("seed", SEEDS)
def test_kills_at_random_change_nothing(life: Callable[..., Life], seed: int) -> None:
    chance = random.Random(seed)
    # At random, one step may well be hit more than three times.
    this = life(*chance.choice(KINDS), poison_after=100)

    this.live(chance.choice((1, -1)) * chance.randint(1, 6) for _ in range(chance.randint(2, 8)))

    this.assert_whole()
