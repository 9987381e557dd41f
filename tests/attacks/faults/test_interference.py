"""An engine at work, and others at its file: whatever was acknowledged is there, and it takes work again."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from time import monotonic, time_ns
from typing import TYPE_CHECKING

import pytest
from persistasaurus import Flow, FlowSystem, StoreUnavailable, flow, step
from persistasaurus.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

DEAD_MAN_S = 60
QUERY = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]).fetchall(); c.close()"


class Adds(Flow):
    @flow
    async def main(self, number: int) -> int:
        return await self.add(number, 1)

    @step
    def add(self, one: int, other: int) -> int:
        return one + other


def ask_here(path: Path, statement: str = "SELECT count(*) FROM flows") -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement).fetchall()
    connection.close()


def ask_elsewhere(path: Path, statement: str = "SELECT count(*) FROM flows") -> None:
    subprocess.run([sys.executable, "-c", QUERY, str(path), statement], check=True, timeout=DEAD_MAN_S)


def read_then_ask(path: Path) -> None:
    shutil.copyfile(path, path.with_name("copy"))
    ask_elsewhere(path)


def take_away(path: Path, *suffixes: str) -> None:
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink()


INTERFERENCE: dict[str, Callable[[Path], None]] = {
    "queries": lambda path: (ask_here(path), ask_elsewhere(path))[0],
    "copies": read_then_ask,
    "vacuum": lambda path: ask_elsewhere(path, "VACUUM"),
    "checkpoints": lambda path: ask_elsewhere(path, "PRAGMA wal_checkpoint(TRUNCATE)"),
    "tables": lambda path: ask_elsewhere(path, "CREATE TABLE IF NOT EXISTS theirs AS SELECT * FROM flows"),
    "log deleted": lambda path: take_away(path, "-wal"),
    "index deleted": lambda path: take_away(path, "-shm"),
    "both deleted": lambda path: take_away(path, "-wal", "-shm"),
    "lock deleted": lambda path: take_away(path, ".lock"),
}


@pytest.mark.parametrize("what", INTERFERENCE)
def test_nothing_that_was_acknowledged_is_lost_by_interference(tmp_path: Path, what: str) -> None:
    path, acknowledged = tmp_path / "flows.db", dict[str, int]()
    ticks = itertools.count(time_ns() // 1000, 2_000_000)
    # A clock that runs so fast that the engine looks at its files at each commit.
    store = SqliteStore.open(path, now=lambda: next(ticks))
    with FlowSystem(store=store, flows=[Adds]) as system:
        for number in range(30):
            if number % 10 == 5:
                INTERFERENCE[what](path)
            deadline = monotonic() + DEAD_MAN_S
            while True:
                try:
                    system.start(Adds.main, number, flow_id=f"flow-{number}")
                except StoreUnavailable:
                    assert monotonic() < deadline, "it does not go on"
                else:
                    acknowledged[f"flow-{number}"] = number + 1
                    break
    with FlowSystem(path, flows=[Adds]) as system:
        found = {flow_id: system.flow(flow_id).result(timeout=DEAD_MAN_S) for flow_id in acknowledged}
        assert system.store.verify() == []
    assert found == acknowledged
