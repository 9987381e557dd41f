"""Real processes that die: poison, steps in doubt, and kill -9 at any time."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from persistasaurus import FlowSystem
from persistasaurus.flows import events
from system.doubles import completions

if TYPE_CHECKING:
    import pytest

TARGETS = Path(__file__).with_name("kill_targets.py")


def run(kind: str, path: Path, count: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TARGETS, kind, path, str(count)],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def notes(path: Path) -> Counter[str]:
    return Counter(path.with_suffix(".log").read_text().split())


def test_a_step_that_kills_the_process_is_parked_after_three_times_and_innocent_flows_complete(
    path: Path,
) -> None:
    runs = [run("poison", path, 20) for _ in range(4)]

    assert [r.returncode for r in runs] == [66, 66, 66, 0], runs[-1].stderr
    assert runs[-1].stdout.split() == ["poisoned", *(str(3 * n) for n in range(20))]
    assert notes(path) == {"poison": 3}
    last = run("poison", path, 20)
    assert last.stdout.split() == ["poisoned", *(str(3 * n) for n in range(20))]


def test_a_step_that_must_not_run_twice_is_parked_in_doubt(path: Path) -> None:
    runs = [run("parks", path) for _ in range(3)]

    assert [r.returncode for r in runs] == [66, 0, 0], runs[-1].stderr
    assert [r.stdout.strip() for r in runs] == ["", "in_doubt", "in_doubt"]
    assert notes(path) == {"once": 1}


def test_reconcile_finds_out_whether_the_step_is_to_run_again(path: Path) -> None:
    runs = [run("finds_out", path) for _ in range(3)]

    assert [r.returncode for r in runs] == [66, 66, 0], runs[-1].stderr
    assert runs[-1].stdout.strip() == "found"
    assert notes(path) == {"looked_up": 2, "reconcile": 2}


def test_nothing_confirmed_is_lost_and_nothing_recorded_twice_however_often_the_process_is_killed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(TARGETS), "", str(path)])
    from kills.kill_targets import Adds  # noqa: PLC0415

    chance = random.Random(7)
    confirmed: Counter[str] = Counter()
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, TARGETS, "serve", path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = iter(process.stdout)
            while next(lines).strip() != "ready":
                pass
            for _ in range(chance.randrange(5, 60)):
                confirmed[next(lines).strip()] += 1
            process.kill()
            confirmed.update(line.strip() for line in lines if line.endswith("\n"))
    with FlowSystem(path, flows=[Adds]) as system:
        for name, count in confirmed.items():
            handle = system.flow(name)
            # The inbox first: the flow runs, and takes its signals from there into its history.
            received = {entry.key for entry in system.store.inbox(name)}
            received |= {e.event.key for e in handle.events() if isinstance(e.event, events.SignalReceived)}
            assert len(received) >= count
            assert max(completions(handle).values(), default=1) == 1
        assert system.store.verify() == []
