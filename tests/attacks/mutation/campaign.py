"""Has the tests judge mutants of what must not be wrong: those that nobody notices are told.

    python tests/attacks/mutation/campaign.py  # all modules that coverage looks at
    python tests/attacks/mutation/campaign.py persistasaurus.flows.machine.in_doubt     # one of them
    # so many, chosen by PERSISTASAURUS_SEED
    PERSISTASAURUS_RUNS=200 python tests/attacks/mutation/campaign.py
    # by the tests of a folder only
    PERSISTASAURUS_JUDGES=layers/flows python tests/attacks/mutation/campaign.py

A mutant is judged by the tests that reach its line: those nearby, then the quickest that fit in some seconds.
Those that survive are judged again, by many more of them.
Survivors that cannot be told from the original, or whose difference is no promise, are in `survivors.toml`.
"""

# ruff: noqa: E402 - where the tests are has to be known before they are imported

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

TESTS = Path(__file__).parents[2]
sys.path.insert(0, str(TESTS / "attacks"))

from mutation import grafting
from mutation.grafting import Graft
from mutation.judging import Case, survives
from mutation.mutants import Mutant, mutants
from mutation.reach import Reach, read, write

if TYPE_CHECKING:
    from collections.abc import Iterator

EXPLAINED: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_name("survivors.toml").read_text(encoding="utf-8")
)
"""The reasons why mutants need not be noticed, by module and name of the mutant."""

JUDGES = (
    "layers/flows",
    "promises/histories",
    "layers/conformance",
    "layers/store",
    "layers/actors/system",
    "layers/actors/dispatcher",
    "attacks/machines",
    "promises/historic",
    "attacks/faults",
    "attacks/model",
    # Not those that run pytest themselves, which does not work in each fork of one that runs already.
    "layers/actors/testing/test_checking.py",
    "layers/actors/testing/test_kits.py",
    "layers/actors/testing/test_sameness.py",
    "layers/actors/testing/test_simulation.py",
    "layers/actors/testing/test_state.py",
    "layers/actors/testing/test_world.py",
    "attacks/simulation/test_campaign.py",
    "attacks/simulation/test_references.py",
    "attacks/power_cuts/test_engine.py",
    "attacks/fuzz/test_decoders.py",
    "layers/api/cli/test_looking.py",
    "layers/api/cli/test_doctor.py",
    "layers/api/cli/test_keeping.py",
)
PROCESSES = 2
SLOW_S = 4.0
"""A test that takes so long, and traced at that, could be taken for one that hangs."""


class Choice(NamedTuple):
    """How many tests are to notice a mutant."""

    nearest: int
    """So many files with tests come first, those that reach its line with most of them,"""
    first: int
    """but no more than so many tests,"""
    enough_s: float
    """then as many of the others as run in so many seconds."""
    limit_s: float
    """Whoever has not ended after so many seconds hangs, which is noticed."""


QUICK = Choice(nearest=2, first=40, enough_s=5.0, limit_s=30.0)
THOROUGH = Choice(nearest=6, first=200, enough_s=20.0, limit_s=180.0)


class Suspect(NamedTuple):
    """A mutant of a module."""

    module: str
    number: int
    mutant: Mutant

    def __str__(self) -> str:
        return f"{self.module}:{self.mutant.line} ({self.number}) {self.mutant.name}"


def modules() -> list[str]:
    """Return the names of the modules whose branches coverage counts."""
    root = TESTS.parent
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["coverage"]["run"]["include"]
    found = (path for pattern in patterns for path in root.glob(pattern.removeprefix("*/")))
    paths = sorted(path for path in found if path.suffix == ".py")
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in paths]
    return [f"persistasaurus.{name}" for name in names if not name.endswith("__init__")]


def source_of(module: str) -> Path:
    """Return the file of a module, as it is installed."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def suspects(names: list[str]) -> list[Suspect]:
    """Return all mutants of the modules that nobody has explained; or as many as were asked for."""
    found = [
        Suspect(name, number, mutant)
        for name in names
        for number, mutant in enumerate(mutants(source_of(name).read_text(encoding="utf-8")))
        if mutant.name not in EXPLAINED.get(name, {})
    ]
    wanted = int(os.environ.get("PERSISTASAURUS_RUNS", len(found)))
    rng = Random(int(os.environ.get("PERSISTASAURUS_SEED", "0")))
    return rng.sample(found, min(wanted, len(found)))


def stale(names: list[str]) -> list[str]:
    """Name what is explained in these modules, and is not a mutant of them any more."""
    found = {name: {m.name for m in mutants(source_of(name).read_text(encoding="utf-8"))} for name in names}
    return [f"{name} {key}" for name in names for key in EXPLAINED.get(name, {}) if key not in found[name]]


def tests_of(reach: Reach, path: Path, line: int, choice: Choice) -> list[str]:
    """Return the tests that are to notice a mutant: of the files that know its line best, then quick ones."""
    tests = reach.of(str(path), line)
    known = Counter(test.partition("::")[0] for test in tests)
    nearest = {file for file, _ in known.most_common(choice.nearest)}
    first = [test for test in tests if test.partition("::")[0] in nearest][: choice.first]
    # What happens when a module is imported, no test is known to reach.
    first += [test for test in reach.seconds if is_named_after(path, test) and test not in first]
    return first + within(choice.enough_s, [test for test in tests if test not in first], reach)


def is_named_after(path: Path, test: str) -> bool:
    """Tell whether a test is in the file for the tests of a module."""
    return Path(test.partition("::")[0]).name == f"test_{path.stem}.py"


def within(seconds: float, tests: list[str], reach: Reach) -> list[str]:
    """Return as many of the tests as run in so much time."""
    ends = accumulate(reach.seconds[test] for test in tests)
    return [test for test, end in zip(tests, ends, strict=True) if end <= seconds]


def controls(reach: Reach, names: list[str]) -> dict[str, list[str]]:
    """Return the tests of each module as it is: where they fail, nothing is said of its mutants."""
    return {name: tests for name in names if (tests := reach.of(str(source_of(name)), 0)[: QUICK.first])}


def judged_twice(found: list[Suspect], reach: Reach) -> Iterator[tuple[Suspect, bool]]:
    """Yield each mutant, and whether it survives; those that do at first are judged again at the end."""
    alive: list[Suspect] = []
    for suspect, is_alive in judged(found, reach, QUICK):
        if is_alive:
            alive.append(suspect)
        else:
            yield suspect, False
    yield from judged(alive, reach, THOROUGH)


def judged(found: list[Suspect], reach: Reach, choice: Choice) -> Iterator[tuple[Suspect, bool]]:
    """Yield each mutant, and whether it survives, as soon as it is known."""
    grafts = [graft for key, suspect in enumerate(found) if (graft := as_graft(key, suspect, reach, choice))]
    others = set(range(len(found))) - {graft.key for graft in grafts}
    for key, is_alive in grafting.judged(grafts, judges(), PROCESSES):
        if is_alive is None:
            others.add(key)
        else:
            yield found[key], is_alive
    cases = {key: as_case(found[key], reach, choice) for key in sorted(others)}
    for key, is_alive in each_alone(cases):
        yield found[key], is_alive


def as_graft(key: int, suspect: Suspect, reach: Reach, choice: Choice) -> Graft | None:
    """Return how a mutant is judged that is in a function; None: it is in none."""
    path = source_of(suspect.module)
    if grafting.function_of(path.read_text(encoding="utf-8"), suspect.mutant) is None:
        return None
    tests = tests_of(reach, path, suspect.mutant.line, choice)
    return Graft(key, str(path), suspect.number, tests, choice.limit_s)


def as_case(suspect: Suspect, reach: Reach, choice: Choice) -> Case:
    """Return how a mutant is judged that changes what happens when its module is imported."""
    path = source_of(suspect.module)
    tests = tests_of(reach, path, suspect.mutant.line, choice)
    # All tests of a round are collected before the first of them runs, which takes longer than most tests.
    rounds = [some for some in (tests[: choice.first], tests[choice.first :]) if some]
    return Case(suspect.module, str(path), suspect.number, rounds, choice.limit_s)


def each_alone(cases: dict[int, Case]) -> Iterator[tuple[int, bool]]:
    """Yield the key of each case, and whether its mutant survives."""
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        under_way = {pool.submit(survives, case): key for key, case in cases.items()}
        for done in as_completed(under_way):
            yield under_way[done], done.result()


def judges() -> list[str]:
    """Return the paths of the tests that judge."""
    names = os.environ.get("PERSISTASAURUS_JUDGES", "").split() or JUDGES
    return [str(TESTS / name) for name in names]


def reached() -> Reach:
    """Find out which tests reach what; or read what was found out before, if there is such a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(os.environ.get("PERSISTASAURUS_REACH", f"{folder}/reach.json"))
        if not path.exists():
            command = [sys.executable, str(TESTS / "attacks" / "mutation" / "reach.py"), str(path)]
            subprocess.run([*command, *judges()], check=False, cwd=TESTS.parent)
            write(path, fit(read(path)))
        return read(path)


def fit(reach: Reach) -> Reach:
    """Leave out the tests that are slow, and those that fail in a fork although nothing is changed there."""
    tests = sorted(test for test, seconds in reach.seconds.items() if seconds < SLOW_S)
    grafts = [Graft(key, "", None, [test], QUICK.limit_s) for key, test in enumerate(tests)]
    fates = grafting.judged(grafts, judges(), PROCESSES)
    return Reach({tests[key]: reach.seconds[tests[key]] for key, is_fit in fates if is_fit}, reach.lines)


def main(*names: str) -> int:
    """Judge, and print what survives."""
    chosen, reach = list(names) or modules(), reached()
    if unsound := [name for name, is_sound in fates_of_originals(chosen, reach) if not is_sound]:
        print(f"Their tests fail as they are: {unsound}")  # noqa: T201 - what it is for
        return 2
    for name in stale(chosen):
        print(f"EXPLAINED, AND NO MUTANT ANY MORE {name}")  # noqa: T201
    return report(judged_twice(suspects(chosen), reach))


def fates_of_originals(names: list[str], reach: Reach) -> list[tuple[str, bool]]:
    """Return for each module whether it survives as it is, in both ways in which mutants are judged."""
    tests = controls(reach, names)
    paths = {name: str(source_of(name)) for name in tests}
    limit_s = QUICK.limit_s
    grafts = [Graft(key, paths[name], None, tests[name], limit_s) for key, name in enumerate(tests)]
    cases = {key: Case(name, paths[name], None, [tests[name]], limit_s) for key, name in enumerate(tests)}
    fates = [*grafting.judged(grafts, judges(), PROCESSES), *each_alone(cases)]
    return [(list(tests)[key], bool(is_sound)) for key, is_sound in fates]


def report(fates: Iterator[tuple[Suspect, bool]]) -> int:
    """Print who survives, and how many do not; 1: somebody does."""
    survivors = number = 0
    for number, (suspect, is_alive) in enumerate(fates, 1):
        survivors += is_alive
        if is_alive:
            print(f"SURVIVES {suspect}", flush=True)  # noqa: T201
        if number % 50 == 0:
            print(f"{number - survivors} of {number} killed", flush=True)  # noqa: T201
    print(f"{number - survivors} of {number} killed, and {explained()} are explained")  # noqa: T201
    return int(bool(survivors))


def explained() -> int:
    """Count the mutants that need not be noticed."""
    return sum(len(reasons) for reasons in EXPLAINED.values())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
