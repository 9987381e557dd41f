"""The power fails at any operation on the disk: the next process goes on, and the same comes of it.

# everywhere, under every policy
PERSISTASAURUS_CUTS=0 pytest -n 2 -rP tests/attacks/power_cuts/test_engine.py
PERSISTASAURUS_CUT=17,30:torn pytest tests/attacks/power_cuts/test_engine.py -k once_more  # one that was told
"""

from __future__ import annotations

import os
from itertools import product
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING

import pytest
from persistasaurus.actors.testing.schedule import Pace
from persistasaurus.store import SqliteStore
from persistasaurus.store.sqlite import store as sqlite
from simulation.disk import POLICIES, Disk, remove, scratch
from simulation.references import references
from simulation.run import Run, Violation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEED = int(os.environ.get("PERSISTASAURUS_SEED", "3"))
CUTS = int(os.environ.get("PERSISTASAURUS_CUTS", "12"))
"""So many power cuts for each reference; 0: at every operation, under every policy, and once more each."""
CUT = os.environ.get("PERSISTASAURUS_CUT", "")
NAMES = [scenario.name for scenario in references()]
WHOLE = "in order"
A_DAY_S = 86_400

pytestmark = pytest.mark.timeout(120 if CUTS == 12 else A_DAY_S)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sqlite, "LOG_PAGES_WHEN_IDLE", 0)
    root = scratch()
    yield root
    remove(root)


def play(root: Path, name: str, cuts: tuple[int, ...] = (), policy: str = "none") -> int:
    """Play a reference; tell how many operations there were on the disk."""
    (scenario,) = (scenario for scenario in references() if scenario.name == name)
    disk = Disk(root, cuts, policy, SEED)
    try:
        run = Run(scenario, SEED, pace=Pace(0.3, 0.01), store=disk.open)
        run.play()
        assert not cuts or run.simulation.crashes
    except Violation as violation:
        raise AssertionError(f"{violation}\n{replay(name, cuts, policy)}") from violation
    except Exception as error:
        error.add_note(replay(name, cuts, policy))
        raise
    finally:
        disk.close()
    return disk.operations


def replay(name: str, cuts: tuple[int, ...], policy: str) -> str:
    """Return the command that plays one of them alone."""
    cut = ",".join(map(str, cuts))
    test = f"tests/attacks/power_cuts/test_engine.py::test_the_power_fails_once_more[{name}]"
    return f"PERSISTASAURUS_SEED={SEED} PERSISTASAURUS_CUT={cut}:{policy} pytest '{test}'"


@pytest.mark.skipif(not CUT, reason="plays what a failure has told again")
@pytest.mark.parametrize("name", NAMES)
def test_the_power_fails_once_more(root: Path, name: str) -> None:
    cuts, _, policy = CUT.partition(":")
    play(root, name, tuple(map(int, filter(None, cuts.split(",")))), policy or "none")


@pytest.mark.parametrize("name", NAMES)
def test_the_power_fails_at_any_operation(root: Path, name: str) -> None:
    operations = play(root, name)
    assert operations > 100
    rng = Random(f"{name} {SEED}")

    runs, began = 0, perf_counter()
    for cut, policy in places(name, operations, rng):
        play(root, name, (cut,), policy)
        runs += 1
    print(f"{runs} crash runs, {runs / (perf_counter() - began):.0f}/s")  # noqa: T201 - the figures


def places(name: str, operations: int, rng: Random) -> list[tuple[int, str]]:
    """Choose where the power is cut, and what is left then: of one reference, everywhere."""
    everywhere = range(1, operations + 1)
    if not CUTS:
        return list(product(everywhere, POLICIES))
    cuts = everywhere if name == WHOLE else rng.sample(everywhere, min(CUTS, operations))
    return [(cut, POLICIES[cut % len(POLICIES)]) for cut in cuts]


@pytest.mark.parametrize("name", NAMES)
def test_the_power_fails_and_fails_again_during_the_recovery(root: Path, name: str) -> None:
    operations = play(root, name)
    rng = Random(f"{name} {SEED} again")
    firsts = [rng.randrange(1, operations) for _ in range(CUTS // 3)] if CUTS else range(1, operations)

    for number, first in enumerate(firsts):
        play(root, name, (first, first + rng.randrange(1, 40)), POLICIES[number % len(POLICIES)])


def test_a_store_whose_creation_was_cut_short_is_created_after_all(root: Path) -> None:
    torn = 0
    for cut in range(1, 40):
        disk = Disk(root, (cut,))
        SqliteStore.open(root / f"cut-{cut}.db", now=lambda: 0, vfs=disk.vfs_name).close()
        disk.close()
        file, journal = disk.contents[""], disk.contents["-journal"]
        data = bytes(file.durable) or next((data[:100] for _, data in file.pending if data), b"")
        torn += 0 < len(data) < 512
        path = root / f"image-{cut}.db"
        path.write_bytes(data)
        path.with_name(f"{path.name}-journal").write_bytes(journal.durable)

        store = SqliteStore.open(path, now=lambda: 0)

        assert store.verify() == []
        store.close()
    assert torn


@pytest.mark.parametrize("policy", ["none", "sectors"])
def test_a_store_that_does_not_sync_is_caught(
    root: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "relax", lambda connection, _: connection.pragma("synchronous", "OFF"))
    found = 0
    for cut in range(60, 140, 8):
        try:
            play(root, "in order", (cut,), policy)
        except AssertionError:
            found += 1

    assert found
