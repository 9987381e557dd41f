"""Has the tests judge the mutants of a module: which of them nobody notices. See `mutants.py`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from mutation.mutants import Finder, mutants

_LIMIT_S = 300.0


def survives(name: str, number: int, tests: list[str]) -> bool:
    """Run the tests against one mutant; True: none of them has noticed."""
    command = [sys.executable, __file__, name, "--mutant", str(number), *tests]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main(name: str, *tests: str) -> None:
    """Judge the mutants of a module; PERSISTASAURUS_RUNS: no more than so many, chosen at random."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    all_of_them = [what for what, _ in mutants(Path(spec.origin).read_text(encoding="utf-8"))]
    numbers = list(range(len(all_of_them)))
    wanted = int(os.environ.get("PERSISTASAURUS_RUNS", len(numbers)))
    chosen = sorted(Random(0).sample(numbers, min(wanted, len(numbers))))
    killed = 0
    for judged, number in enumerate(chosen, 1):
        is_killed = not survives(name, number, list(tests))
        killed += is_killed
        fate = "killed" if is_killed else "SURVIVES"
        told = (
            f"{killed} of {judged} killed: mutant {number} of {len(numbers)}, {all_of_them[number]}: {fate}"
        )
        print(told, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    if sys.argv[2:3] == ["--mutant"]:
        sys.meta_path.insert(0, Finder(sys.argv[1], int(sys.argv[3])))
        sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *sys.argv[4:]]))
    main(*sys.argv[1:])
