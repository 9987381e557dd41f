"""Hunting: campaigns over a planted bug, until an oracle says what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from simulation import run as running
from simulation.campaign import play
from simulation.planted import of_the_actors, of_the_entities, of_the_machine, of_the_poller, of_the_record
from simulation.planted.planting import BUGS

if TYPE_CHECKING:
    from simulation.campaign import Failure
    from simulation.planted.planting import Bug

__all__ = ["BUGS", "Catch", "hunt", "impatiently"]

_FIELDS = (of_the_record, of_the_machine, of_the_actors, of_the_entities, of_the_poller)
"""The modules that plant bugs: they are imported for that."""
_TURNS_MAX = 5_000
"""A bug that has the engine go round in circles is not watched for as long as a campaign would."""


class Catch(NamedTuple):
    """How a bug was caught: in which run, after how many, and what the oracle said."""

    seed: int
    runs: int
    what: str


def impatiently(seed: int) -> Failure | None:
    """Play a run that is given up sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "TURNS_MAX", _TURNS_MAX)
        return play(seed)


def hunt(bug: Bug, runs: int, first: int = 0) -> Catch | None:
    """Play runs with the bug in force, from a number on, until one goes wrong that goes well without it."""
    for number in range(runs):
        seed = first + number
        with bug.planted():
            failure = impatiently(seed)
        if failure is not None and impatiently(seed) is None:
            return Catch(seed, number + 1, failure.what)
    return None
