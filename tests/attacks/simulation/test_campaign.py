"""Random flows, random clients, and everything that can go wrong: nothing acknowledged is ever lost.

# for a while
PERSISTASAURUS_RUNS=100000 pytest -n 2 -rP tests/attacks/simulation/test_campaign.py -k campaign
PERSISTASAURUS_SEED=4711 pytest tests/attacks/simulation/test_campaign.py -k one_seed  # what went wrong
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest
from simulation.campaign import failures, play, traced

RUNS = 160
CHUNKS = 16
"""A campaign comes in so many tests, which several processes can share."""


@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_campaign_finds_nothing(chunk: int, runs: int | None, seed: int | None) -> None:
    each = -(-(runs or RUNS) // CHUNKS)
    first = (seed or 0) + chunk * each

    began = perf_counter()
    found = next(failures(each, first), None)

    speed = each / (perf_counter() - began)
    print(f"runs {first} to {first + each - 1}, {speed:.0f}/s")  # noqa: T201 - seeds are told
    assert found is None, str(found)


def test_one_seed_finds_nothing(seed: int | None) -> None:
    found = play(seed or 0)

    assert found is None, str(found)


TRACE = """
import sys
sys.path.insert(0, sys.argv[1])
from simulation.campaign import traced
print(traced(40, 12))
"""


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    tests = str(Path(__file__).parent.parent)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", TRACE, tests],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    here = str(traced(40, 12))

    for child in children:
        told, _ = child.communicate(timeout=100)
        assert told.strip() == here


def test_another_seed_gives_another_run() -> None:
    assert len(set(traced(0, 12))) == 12
