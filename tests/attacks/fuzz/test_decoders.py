"""Bytes from anywhere are read, or refused with the error that is promised; nothing else, on any stack.

PERSISTASAURUS_INPUTS=1000000 pytest tests/attacks/fuzz is a campaign;
PERSISTASAURUS_SEED=7 chooses another one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
from fuzz.mutation import mutated
from fuzz.targets import targets

if TYPE_CHECKING:
    from fuzz.targets import Target

INPUTS = int(os.environ.get("PERSISTASAURUS_INPUTS", "2500"))
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
NAMES = [
    "events",
    "arguments",
    "signals",
    "payloads",
    "requests",
    "responses",
    "tokens",
    "exports",
    "diagrams",
]
SLOW = {"exports": 10, "diagrams": 3}
SMALL_STACK = Path(__file__).with_name("small_stack.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    found = targets(tmp_path_factory.mktemp("corpus"))
    assert sorted(found) == sorted(NAMES)
    return found


@pytest.mark.timeout(0 if INPUTS > 100_000 else 120)
@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_read_is_taken_or_refused_as_promised(made: dict[str, Target], name: str) -> None:
    target, rng = made[name], Random(f"{SEED}-{name}")
    for data in target.corpus:
        target.read(data)
    refused, count = 0, INPUTS // SLOW.get(name, 1)
    for number in range(count):
        data = mutated(rng, target.corpus)
        try:
            target.read(data)
        except target.may_raise:
            refused += 1
        except BaseException as error:  # noqa: BLE001 - whatever it is, it was not promised
            pytest.fail(f"{name} {number} of PERSISTASAURUS_SEED={SEED}: {error!r} for {data[:500]!r}")
    assert refused or name == "tokens", "it takes everything"
    assert refused < count, "it takes nothing: the mutations are too wild to show much"


def test_on_a_small_stack_nothing_dies_either(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, SMALL_STACK, tmp_path, str(SEED), str(INPUTS // 5)],
        env={**os.environ, "PYTHONPATH": tests},
        capture_output=True,
        text=True,
        timeout=None if INPUTS > 100_000 else 100,
        check=False,
    )
    assert done.returncode == 0, f"died with {done.returncode}: {done.stderr[-2000:]}"
    assert done.stdout.split()[-len(NAMES) :] == NAMES  # after what the flows have printed
