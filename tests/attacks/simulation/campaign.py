"""Campaigns: many runs of random scenarios under random disturbance, each a function of its number.

    failure = run_campaign(runs=2000, seed=0)      # the first failure, or None
    failure = play(seed=4711)                      # one run; `run_campaign(n, s)` plays s, s + 1, ...
    print(failure)                                 # what went wrong, and the command that replays it

A run takes one of the references, or a random program (`programs.py`); a pace; and a plan of what goes
wrong (`disturbance.py`): crashes, also in the middle of recoveries, orderly restarts, outages of the disk
with and without the commit, slow commits, jumps of the calendar. One in six is on a simulated disk, and
loses the power at some of its operations (`disk.py`), where the log is moved into the file as soon as
there is leisure. The ledger judges each commit, effect
and answer, and the oracles judge the end. A planted bug is any change of the engine that is in force
while a campaign runs.
"""

from __future__ import annotations

import atexit
from contextlib import ExitStack
from functools import cache
from random import Random
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

from persistasaurus.actors import SupervisorRules
from persistasaurus.actors.testing.schedule import PROMPT, Pace
from persistasaurus.store.sqlite import store as sqlite
from simulation.accounts import accounts_of
from simulation.disk import POLICIES, Disk, remove, scratch
from simulation.disturbance import plan_of
from simulation.programs import program_of
from simulation.references import references
from simulation.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from simulation.run import Scenario

PACES = (PROMPT, Pace(0.3, 0.01), Pace(0.3, 0.01), Pace(0.1, 2.0), Pace(0.5, 0.5))
REPLAY = "PERSISTASAURUS_SEED={} pytest tests/attacks/simulation/test_campaign.py -k one_seed"


class Failure(NamedTuple):
    """A run that went wrong."""

    seed: int
    what: str
    plan: str

    def __str__(self) -> str:
        return f"seed {self.seed} ({self.plan}): {self.what}\nreplay: {REPLAY.format(self.seed)}"


def run_of(seed: int, disk: Disk | None = None) -> Run:
    """Make the run with a number."""
    rng = Random(f"run {seed}")
    rules = SupervisorRules(
        idle_s=rng.choice((0.0, 0.5, 5.0)), max_idle=rng.choice((0, 1, 200)), max_active=_at_work(seed)
    )
    settings = {} if disk is None else {"store": disk.open}
    return Run(_scenario(rng), seed, plan=plan_of(rng), pace=rng.choice(PACES), rules=rules, **settings)


def _at_work(seed: int) -> int:
    """Return how many flows may be at work in a run: in some, so few that others must wait."""
    rng = Random(f"at work in {seed}")
    return rng.choice((1, 2)) if rng.random() < 1 / 8 else 10_000


def _scenario(rng: Random) -> Scenario:
    if rng.random() >= 0.3:
        return program_of(rng)
    chosen = rng.choice(references())
    return accounts_of(rng) if chosen.accounts else chosen


def disk_of(seed: int) -> Disk | None:
    """Make the disk of the run with a number, if it has one."""
    rng = Random(f"disk of {seed}")
    if rng.random() > 1 / 6:
        return None
    first = rng.randrange(1, 400)
    cuts = [first, first + rng.randrange(1, 60), first + rng.randrange(60, 300)][: rng.randrange(4)]
    return Disk(directory(), cuts, rng.choice(POLICIES), seed)


@cache
def directory() -> Path:
    """Make a directory for the disks, once for each process."""
    root = scratch()
    atexit.register(remove, root)
    return root


def played(seed: int) -> Run:
    """Play the run with a number; raises as `Run.play`."""
    with ExitStack() as stack:
        disk = disk_of(seed)
        if disk is not None:
            stack.callback(disk.close)
            stack.enter_context(mock.patch.object(sqlite, "LOG_PAGES_WHEN_IDLE", 0))
        run = run_of(seed, disk)
        run.play()
    return run


def play(seed: int) -> Failure | None:
    """Play the run with a number, and tell what went wrong."""
    try:
        played(seed)
    except Exception as violation:  # noqa: BLE001 - whatever it is, it is found
        plan = plan_of_run(seed)
        return Failure(seed, str(violation) or repr(violation), plan)
    return None


def plan_of_run(seed: int) -> str:
    """Tell what goes wrong in the run with a number."""
    run, disk = run_of(seed), disk_of(seed)
    where = "" if disk is None else f", on a disk that keeps {disk.policy}"
    return f"{run.disturbance.plan}{where}"


def run_campaign(runs: int, seed: int) -> Failure | None:
    """Play so many runs from a number on, up to the first failure."""
    return next(failures(runs, seed), None)


def failures(runs: int, seed: int) -> Iterator[Failure]:
    """Play so many runs from a number on, and yield those that fail."""
    for number in range(seed, seed + runs):
        failure = play(number)
        if failure is not None:
            yield failure


def traced(seed: int, runs: int) -> list[str]:
    """Play some runs, and return the trace of each: a digest of all that was chosen and written."""
    return [played(number).simulation.trace for number in range(seed, seed + runs)]
