"""Kills in the middle of batches, and of builds: position and rows agree, and each event is there once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import apsw
import msgspec
import pytest
from kills.projected_child import Drawer, Entries
from persistasaurus import FlowSystem
from persistasaurus.store import StoreReader

KILLS = int(os.environ.get("PERSISTASAURUS_KILLS", "4"))
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
CHILD = Path(__file__).with_name("projected_child.py")
LONGEST_S = 0.3


def killed(path: Path, rng: Random) -> None:
    """Have a process work on a store, and kill it at some moment."""
    how = rng.choice(("go on", "rebuild"))
    with subprocess.Popen([sys.executable, CHILD, path, how], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"at work\n"
        try:
            child.wait(rng.random() * LONGEST_S)
        except subprocess.TimeoutExpired:
            child.kill()


def judge(path: Path) -> int:
    """Find in the projection's file all events up to its position, each once, in order; return how many."""
    connection = apsw.Connection(f"{path}-projection-entries")
    found = connection.execute("SELECT id, number FROM entry ORDER BY place").fetchall()
    totals = dict(connection.execute("SELECT id, value FROM total").fetchall())
    ((position,),) = connection.execute("SELECT position FROM persistasaurus_projection").fetchall()
    connection.close()
    expected: list[tuple[str, int]] = []
    after = 0
    with StoreReader.open(path) as reader:
        while page := reader.read_all(after=after):
            expected += [
                (one.stream, msgspec.json.decode(one.record.data)["number"])
                for one in page
                if one.position <= position
            ]
            after = page[-1].position
    assert found == expected
    sums: dict[str, int] = {}
    for stream, number in expected:
        sums[stream] = sums.get(stream, 0) + number
    assert totals == sums
    return len(found)


@pytest.mark.timeout(0 if KILLS > 50 else 120)
def test_position_and_rows_agree_however_often_the_process_is_killed(tmp_path: Path) -> None:
    path, rng = tmp_path / "flows.db", Random(SEED)
    for _ in range(KILLS):
        killed(path, rng)
        judge(path)

    with FlowSystem(path, actors=[Drawer], projections=[Entries]) as system:
        handle = system.projection(Entries)
        handle.wait_for(timeout=60)
        assert handle.lag == 0
    assert judge(path) > 0
