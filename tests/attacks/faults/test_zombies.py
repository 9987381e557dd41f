"""A process that was stopped while another took its store over wakes up: nothing that it says counts."""

from __future__ import annotations

import os
import select
import signal as signals
import subprocess
import sys
from pathlib import Path

import pytest
from conformance.builders import AT, accept, append, record, write_one
from persistasaurus.store import Appended, SqliteStore
from store.takeover import locks_that_do_not_hold

# It appends whenever it is asked to, and says what came of it.
ZOMBIE = """
import sys
from conformance.builders import append, create, record, write_one
from persistasaurus.store import SqliteStore, StoreError
store = SqliteStore.open(sys.argv[1], now=lambda: 0)
print(write_one(store, create()).version, flush=True)
for line in sys.stdin:
    words = []
    for attempt in range(20):
        try:
            if attempt % 2:
                store.reopen()
            words.append(type(write_one(store, append(int(line), record()))).__name__)
        except StoreError as error:
            words.append(type(error).__name__)
    print(*words, flush=True)
"""


@pytest.fixture
def zombie(tmp_path):
    """A process that owns a store with one record."""
    path = tmp_path / "flows.db"
    folder = str(Path(__file__).parents[2] / "layers")
    with subprocess.Popen(
        [sys.executable, "-c", ZOMBIE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": folder},
    ) as process:
        try:
            assert said(process) == ["1"]
            yield process, path
        finally:
            process.kill()


def said(process):
    ready, _, _ = select.select([process.stdout], [], [], 30)
    assert ready, "it says nothing"
    return process.stdout.readline().split()


def test_a_zombie_appends_nothing_once_its_lock_was_taken_away(zombie):
    process, path = zombie
    process.send_signal(signals.SIGSTOP)
    with locks_that_do_not_hold(path):
        store = SqliteStore.open(path, now=lambda: AT)
    try:
        accept(store, append(1, record(b"ours")))

        process.send_signal(signals.SIGCONT)
        process.stdin.write("2\n")
        process.stdin.flush()
        words = said(process)

        assert len(words) == 20
        assert "Appended" not in words
        assert words[0] in ("StoreFenced", "StoreHalted")
        assert [r.data for r in store.read("signup-ada")] == [b"{}", b"ours"]
        assert write_one(store, append(2, record(b"ours too"))) == Appended(3)
        assert store.verify() == []
    finally:
        store.close()


def test_a_zombie_that_was_only_slow_goes_on(zombie):
    """That it could append shows that the test above could see it."""
    process, _ = zombie
    process.send_signal(signals.SIGSTOP)
    process.send_signal(signals.SIGCONT)
    process.stdin.write("1\n")
    process.stdin.flush()

    assert said(process)[0] == "Appended"
