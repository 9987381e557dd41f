"""Measure, beside the disk and beside others, and print what was found.

    python tests/benchmarks/run.py                            # everything, 3 rounds: some ten minutes
    python tests/benchmarks/run.py --quick                    # a look at all of it, in two minutes
    python tests/benchmarks/run.py alone long --rounds 9      # workloads, for everybody
    python tests/benchmarks/run.py waiting_flows --waiting 1000000
    python tests/benchmarks/run.py --rounds 9 --write docs    # and write docs/performance.md

Each measurement runs in a process and a folder of its own, on the disk of the working directory. They take
turns in each round, so that a neighbour's load falls on all of them. Those who take long take part in the
first round of three only, or of nine. Figures are medians of rounds, and ratios are medians of the ratios
within a round. What cannot start is left out, with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from contenders import ALL, CONTENDERS
from contenders.postgres import postgres
from page import comparison, listed, write
from provenance import load, provenance
from reach import REACH, derived
from results import Results

HERE = Path(__file__).parent
MEASURES = {
    "counts": 1,
    "open_close": 1,
    "beside_spinning": 1,
    "core_import": 1,
    "actors": 3,
    "reader_beside": 3,
    "http_confirm": 3,
    "long_history": 9,
    "waiting_flows": 9,
    "timers": 9,
    "beside_floods": 9,
}
"""What is measured of the engine alone, and in one round of how many."""
SKIPPED = 75
SPENT = ("/cpu_us", "/switches", "/commits")
"""Which figures of contenders are printed beside those that are compared; `--save` keeps them all."""
MISSED = 3
"""Exit code: everything was measured, and something was not reached. A failure to measure exits with 1."""


class Task(NamedTuple):
    """One process that measures. `workloads` is empty for a measure of the engine alone."""

    name: str
    workloads: tuple[str, ...]
    every: int


def main() -> int:
    """Run rounds and print what they found. The exit code is MISSED when something was not reached."""
    chosen = read(sys.argv[1:])
    results = measured(chosen) if chosen.load is None else Results.load(chosen.load)
    if chosen.save is not None:
        results.save(chosen.save)
    code = report(results)
    if chosen.write is not None:
        write(results, chosen.write)
    return code


def read(arguments: list[str]) -> argparse.Namespace:
    """Read the command line: what to measure, how often, and where to put it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*ALL, *CONTENDERS, *MEASURES]
    # Not `choices`: with them, the parser of Python 3.11 refuses the default of a list that may be empty.
    parser.add_argument("what", nargs="*", help=f"some of {', '.join(known)}; default: all")
    parser.add_argument("--rounds", type=int, help="default: 3, and 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="do less of everything")
    parser.add_argument("--waiting", type=int, help="how many waiting flows; default: 100,000")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="write performance.md and its charts")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the figures of all rounds as JSON")
    parser.add_argument("--load", type=Path, metavar="FILE", help="measure nothing: take what was saved")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.what if name not in known]
    if unknown:
        parser.error(f"there is no {unknown[0]!r} to measure; there are {', '.join(known)}")
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 3)
    return chosen


def tasks(what: list[str], *, quick: bool) -> list[Task]:
    """Return what a round runs, in its order: a workload with all contenders, then the next."""
    named = set(what)
    contenders = {
        name: entry
        for name, entry in CONTENDERS.items()
        if (name in named or not named & CONTENDERS.keys()) and (entry.quick or not quick or name in named)
    }
    workloads = [name for name in ALL if name in named or not named & set(ALL)]
    if named and not named & (CONTENDERS.keys() | set(ALL)):
        contenders = {}
    found = [
        Task(name, (workload,), entry.every)
        for workload in workloads
        for name, entry in contenders.items()
        if not entry.together and workload in entry.workloads
    ]
    found += [
        Task(name, tuple(workload for workload in workloads if workload in entry.workloads), entry.every)
        for name, entry in contenders.items()
        if entry.together
    ]
    return found + [Task(name, (), every) for name, every in MEASURES.items() if not named or name in named]


def measured(chosen: argparse.Namespace) -> Results:
    """Run all rounds."""
    results = Results()
    folder = Path.cwd()
    planned = tasks(chosen.what, quick=chosen.quick)
    before = load()
    with postgres(folder, wanted=any("postgres" in task.name for task in planned)) as variables:
        for number in range(chosen.rounds):
            for task in planned:
                if number % task.every == 0 and task.name not in results.skipped:
                    say(f"round {number + 1} of {chosen.rounds}: {task.name} {' '.join(task.workloads)}")
                    take(task, number, chosen, results, variables)
    say("")
    results.provenance = provenance(folder) | {
        "rounds": str(chosen.rounds) + (", a quick look" if chosen.quick else ""),
        "load": f"{before:.1f} before, {load():.1f} after",
    }
    return results


def say(text: str) -> None:
    """Say what is being done, to a person who waits."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def take(
    task: Task, number: int, chosen: argparse.Namespace, results: Results, variables: dict[str, str]
) -> None:
    """Run one task in a fresh process, and keep what it found."""
    size = "quick" if chosen.quick else "usual"
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        if task.workloads:
            command = [HERE / "workloads.py", task.name, folder, size, *task.workloads]
        else:
            command = [HERE / "measures.py", task.name, folder, size]
            command += [str(chosen.waiting)] if chosen.waiting else []
        done = subprocess.run(
            [sys.executable, *command],
            check=False,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
        )
    if done.returncode not in {0, SKIPPED}:
        raise SystemExit(
            f"{task.name} {' '.join(task.workloads)} has failed, with exit code {done.returncode}"
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if done.returncode == SKIPPED:
        results.skipped[task.name] = found
    elif task.workloads:
        results.versions[task.name] = found["versions"]
        for workload, figures in found["figures"].items():
            results.add(f"{task.name}/{workload}", number, figures | derived(figures))
    else:
        results.add(task.name, number, found["figures"])


def report(results: Results) -> int:
    """Print everything; return MISSED when something was not reached."""
    for name, value in results.provenance.items():
        print(f"{name:12} {value}")
    print()
    for row in comparison(results) if results.versions else []:
        print("  ".join([f"{row[0]:56}", *(f"{cell:>18}" for cell in row[1:])]).rstrip())
    for name, versions in results.versions.items():
        entry = CONTENDERS[name]
        print(f"{name}: {entry.settings}; {entry.durability}; {listed(versions)}")
    for name, reason in results.skipped.items():
        print(f"left out: {name}: {reason}")
    missed = reached(results)
    shown = {key for reach in REACH for key in (reach.key, reach.over)}
    print()
    for key in results.figures:
        contender, _, rest = key.partition("/")
        if key not in shown and (contender not in CONTENDERS or rest.endswith(SPENT)):
            print(f"  {key:60} {results.median(key):12.2f}")
    return MISSED if missed else 0


def reached(results: Results) -> int:
    """Print what is to be reached, and return how much of it is not."""
    missed = 0
    print(f"\n{'':56} {'median':>10} {'best':>10} {'reach':>12}")
    for reach in REACH:
        values = reach.values(results)
        if not values:
            continue
        median = statistics.median(values)
        best = min(values) if reach.relation == "<=" else max(values)
        missed += not reach.is_reached(median)
        bound = f"{reach.relation} {reach.bound:.4g}"
        mark = "" if reach.is_reached(median) else "   MISSED"
        print(f"{reach.text:56} {median:10.4g} {best:10.4g} {bound:>12}{mark}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
