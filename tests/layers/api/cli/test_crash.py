"""`persistasaurus demo crash`: real processes, really killed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from cli.terminal import run
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.api.cli.demo.crash import KILLS
from persistasaurus.flows import events
from persistasaurus.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.terminal import Running


@pytest.fixture(name="store", scope="module")
def _store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash") / "flows.db"


@pytest.fixture(name="told", scope="module")
def _told(store: Path) -> list[str]:
    clock = SystemClock()
    began = clock.elapsed()
    told = run("demo", "crash", "--store", store)
    assert told.returncode == 0, told.stdout + told.stderr
    assert clock.elapsed() - began < 15
    return told.stdout.splitlines()


def test_a_process_is_killed_at_each_of_the_moments(told: list[str]) -> None:
    killed = [line.strip() for line in told if "SIGKILL" in line]

    assert killed == [f"SIGKILL {kill.when}" for kill in KILLS]


def test_each_process_is_another_one(told: list[str]) -> None:
    pids = [found[1] for line in told if (found := re.match(r"Process \d+ \(pid (\d+)\)", line))]

    assert len(set(pids)) == len(pids) == len(KILLS) + 1


def test_what_was_recorded_is_replayed_by_each_later_process_and_not_run_again(told: list[str]) -> None:
    text = "\n".join(told)

    assert text.count("replayed  step 1 create_user_record") == 4
    assert text.count("Created user record:") == 1
    assert text.count("Sending welcome email") == 2
    assert text.count("Email confirmed at") == 1
    assert text.count("Signup finalized") == 1


def test_the_summary_counts_kills_records_and_effects(told: list[str]) -> None:
    summary = next(line for line in told if line.startswith("Kills:"))

    assert re.fullmatch(r"Kills: 5   steps recorded once: 4 of 4   effects: 5   result: \d{4}", summary)


def test_the_store_says_the_same(told: list[str], store: Path) -> None:
    file = SqliteStore.open(store, now=SystemClock().now)
    try:
        (header,) = file.headers()
        history = [events.decode(record.data) for record in file.read(header.stream)]
        assert file.verify() == []
    finally:
        file.close()

    assert header.status == "completed"
    assert [event.step for event in history if isinstance(event, events.StepCompleted)] == [1, 2, 3, 4]
    assert sum(isinstance(event, events.SignalReceived) for event in history) == 1


def test_in_a_pipe_it_is_plain_text(told: list[str]) -> None:
    assert not any("\x1b" in line for line in told)


def test_ctrl_c_ends_it_and_the_process_that_it_would_have_killed(
    begin: Callable[..., Running], temporary: Path
) -> None:
    demo = begin("demo", "crash")
    demo.until("Created user record")

    demo.interrupt()

    assert demo.end() == 130
    assert "Traceback" not in demo.said
    last = int(re.findall(r"\(pid (\d+)\)", demo.said)[-1])
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)
    assert list(temporary.iterdir()) == []


def test_on_a_terminal_it_is_slow_enough_to_be_watched_and_still_not_long(
    begin: Callable[..., Running],
) -> None:
    clock = SystemClock()
    began = clock.elapsed()
    demo = begin("demo", "crash", on_terminal=True)

    assert demo.end() == 0
    assert "\x1b[" in demo.said
    assert 3 < clock.elapsed() - began < 15
