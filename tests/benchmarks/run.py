"""Measure, and print a table of medians beside what is to be reached.

    python tests/benchmarks/run.py                       # everything, 5 rounds
    python tests/benchmarks/run.py one_flow --rounds 9   # some of it

Every measure runs in a process and a folder of its own; measures take turns in each round, so that a
neighbour's load falls on all of them. Figures in relation to the disk are taken in the same process,
between two looks at the disk.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
# Measure, figure, what it says, the bound, and whether the figure is to be at least or at most that.
REACH = (
    ("many_flows", "steps_per_fdatasync", "256 flows at work: durable steps per fdatasync", ">=", 3.0),
    ("many_flows", "cpu_us_per_step", "256 flows at work: CPU a step, us", "<=", 60.0),
    ("reader_beside", "share_lost", "256 flows at work: share lost to a reader at 20 Hz", "<=", 0.03),
    ("one_flow", "share_of_allowed", "one flow: time a step / (1.5 fdatasync + 150 us), p50", "<=", 1.0),
    ("signal_receipt", "share_of_allowed", "signal to receipt / (1.5 fdatasync + 150 us), p50", "<=", 1.0),
    ("waiting_flows", "more_memory_mib", "100,000 waiting: more memory than none, MiB", "<=", 15.0),
    ("waiting_flows", "threads", "100,000 waiting: threads", "<=", 12.0),
    ("waiting_flows", "bytes_each", "100,000 waiting: bytes each on disk", "<=", 600.0),
    ("waiting_flows", "wake_p99_ms", "waking one by a signal, to its result, p99, ms", "<=", 20.0),
    ("waiting_flows", "open_to_answer_s", "opening a store with 100,000 waiting, to an answer, s", "<=", 1.0),
    ("long_history", "replay_s", "replay of a flow with 100,000 events, s", "<=", 1.5),
    ("long_history", "old_to_new", "a step of that flow / a step of a new one, CPU", "<=", 1.2),
    ("http_confirm", "confirms_per_fdatasync", "HTTP: confirmations per fdatasync, by 64 clients", ">=", 0.3),
    ("core_import", "import_ms", "import of the core, ms", "<=", 150.0),
)
ROUNDS = {"waiting_flows": 1, "long_history": 1}
MISSED = 3
"""Exit code: everything was measured, and something was not reached. A failure to measure exits with 1."""


def main() -> int:
    """Run rounds and print the table. The exit code is MISSED when something was not reached."""
    chosen = read(sys.argv[1:])
    taken: dict[tuple[str, str], list[float]] = {}
    for round_number in range(chosen.rounds):
        for measure in chosen.measures:
            if round_number < ROUNDS.get(measure, chosen.rounds):
                for name, value in measured(measure).items():
                    taken.setdefault((measure, name), []).append(value)
    return report(taken)


def read(arguments: list[str]) -> argparse.Namespace:
    """Read the command line: which measures, and how many rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = list(dict.fromkeys(measure for measure, *_ in REACH))
    # Not `choices`: with them, the parser of Python 3.11 refuses the default of a list that may be empty.
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help=f"some of {', '.join(known)}; default: all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    unknown = [measure for measure in chosen.measures if measure not in known]
    if unknown:
        parser.error(f"there is no measure {unknown[0]!r}; there are {', '.join(known)}")
    chosen.measures = chosen.measures or known
    return chosen


def measured(measure: str) -> dict[str, float]:
    """Run one measure in a fresh process, in a folder on the disk of the working directory."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        done = subprocess.run(
            [sys.executable, HERE / "measures.py", measure, folder],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def report(taken: dict[tuple[str, str], list[float]]) -> int:
    """Print the table; return MISSED when something was not reached."""
    missed = 0
    print(f"{'':62} {'median':>10} {'best':>10} {'reach':>10}")
    for measure, figure, text, relation, bound in REACH:
        values = taken.get((measure, figure))
        if values is None:
            continue
        median = statistics.median(values)
        best = min(values) if relation == "<=" else max(values)
        reached = median <= bound if relation == "<=" else median >= bound
        missed += not reached
        reach = f"{relation} {bound}"
        print(f"{text:62} {median:10.2f} {best:10.2f} {reach:>10}{'' if reached else '   MISSED'}")
    listed = {(measure, figure) for measure, figure, *_ in REACH}
    for (measure, figure), values in taken.items():
        if (measure, figure) not in listed:
            print(f"  {measure + ' ' + figure:60} {statistics.median(values):10.2f}")
    return MISSED if missed else 0


if __name__ == "__main__":
    sys.exit(main())
