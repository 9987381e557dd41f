"""The power is cut at every operation on the disk, and nothing that was acknowledged is missing.

`PERSISTASAURUS_IMAGES=500000` makes a campaign of it; `PERSISTASAURUS_SEED=n` begins with another seed.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from time import monotonic

import pytest
from faults.second_cut import cut_after_restart, cut_migration, cut_recoveries
from faults.sweep import campaign, processes, sweep, told
from faults.workloads import Acknowledged, record_workload
from persistasaurus.store import Durability
from persistasaurus.store.sqlite import connection, schema, writer
from persistasaurus.store.sqlite import store as sqlite

IMAGES = int(os.environ.get("PERSISTASAURUS_IMAGES", "8000"))
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
PARTS = 2
A_DAY_S = 86_400

pytestmark = pytest.mark.timeout(A_DAY_S if IMAGES > 8_000 else 120)


@pytest.fixture(scope="module")
def pool():
    with processes() as started:
        yield started


def hold(request, pool, wanted, first, job):
    """Hold a campaign against its promise; tell how to run the one seed that breaks it."""
    began, images = monotonic(), 0
    for swept in campaign(pool, wanted, first, job):
        images += swept.images
        replay = f"PERSISTASAURUS_SEED={swept.seed} PERSISTASAURUS_IMAGES=1 pytest '{request.node.nodeid}'"
        assert not swept.bad, f"{swept.bad[0]}\n{replay}"
    print(  # noqa: T201 - what a campaign has seen
        f"from seed {first}: {images} images, {images / (monotonic() - began):.0f}/s"
    )
    assert images >= wanted


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_acknowledged_is_lost_wherever_the_power_is_cut(request, pool, part):
    first = SEED if IMAGES == 1 else SEED + part * 1_000_000
    hold(request, pool, IMAGES * 4 // 5 // PARTS, first, sweep)


def test_nor_when_it_is_cut_again_while_the_store_recovers(request, pool):
    hold(request, pool, IMAGES // 15, SEED, cut_recoveries)


def test_nor_when_a_killed_process_was_started_anew_and_has_answered(request, pool):
    hold(request, pool, IMAGES // 15, SEED, cut_after_restart)


def test_nor_after_a_sync_that_failed_and_a_reopening(request, pool):
    hold(request, pool, IMAGES // 15, SEED, partial(sweep, failing=0.3))


@pytest.fixture
def first_release(monkeypatch, tmp_path):
    """The files of a store as the first release has written it, and what it holds."""
    path = tmp_path / "work.db"
    with monkeypatch.context() as older:
        steps = schema.ladder()[:1]
        older.setattr(schema, "ladder", lambda: steps)
        recorded = record_workload(path, SEED, 8)
    held = next(mark[2].contents for mark in reversed(recorded.log) if isinstance(mark[-1], Acknowledged))
    return {"db": path.read_bytes(), "wal": path.with_name("work.db-wal").read_bytes()}, held


def test_nor_when_it_is_cut_while_an_older_store_is_brought_up_to_date(first_release, tmp_path):
    image, held = first_release

    swept = cut_migration(image, held, SEED)

    assert swept.images > 50
    assert not swept.bad, swept.bad[0]


# The tests can see


def verdicts(swept):
    return Counter(cut.verdict.partition(":")[0] for cut in swept.bad)


def test_the_faster_setting_loses_the_last_commits_and_nothing_else():
    found = verdicts(sweep(SEED, Durability.MAY_LOSE_LAST_COMMITS, commits=8))

    assert found["lost"] > 20
    assert set(found) == {"lost"}


def test_a_log_that_is_not_synced_with_each_commit_is_seen(monkeypatch):
    relaxed = (("synchronous", "NORMAL"), *connection._WRITER_PRAGMAS[1:])
    monkeypatch.setattr(connection, "_WRITER_PRAGMAS", relaxed)

    assert verdicts(sweep(SEED, commits=8))["lost"] > 20


NO_EPOCH_IS_WRITTEN = """
SELECT epoch, max(position, (SELECT ifnull(max(position), 0) FROM record)),
max(stream, (SELECT ifnull(max(id), 0) FROM stream)), max(inbox, (SELECT ifnull(max(id), 0) FROM inbox))
FROM owner WHERE (?1 IS NULL OR epoch <= ?1) AND max(?2, ?3, ?4, ?5) >= 0
"""


def test_an_opening_that_does_not_advance_the_epoch_is_seen(monkeypatch):
    monkeypatch.setattr(writer, "_ADVANCE_EPOCH", NO_EPOCH_IS_WRITTEN)
    monkeypatch.setattr(sqlite.SqliteStore, "_check_index", lambda _, index: None)  # would notice it, too

    assert any("epoch shrank" in cut.verdict for cut in sweep(SEED, commits=8).bad)


def test_an_opening_that_syncs_nothing_is_seen(monkeypatch):
    monkeypatch.setattr(writer, "_ADVANCE_EPOCH", NO_EPOCH_IS_WRITTEN)
    monkeypatch.setattr(sqlite.SqliteStore, "_check_index", lambda _, index: None)  # would notice it, too
    monkeypatch.setattr(sqlite, "move_log", lambda connection, must: None)

    assert verdicts(cut_after_restart(SEED))["lost"] > 0


def test_an_error_that_nobody_expects_is_told_with_its_seed():
    def job(_):
        raise ZeroDivisionError

    (cut,) = told(job, 7).bad

    assert cut.seed == 7
    assert "in job" in str(cut)
    assert "ZeroDivisionError" in str(cut)


def test_a_log_that_is_believed_after_a_failed_sync_is_seen(monkeypatch):
    monkeypatch.setattr(sqlite, "write_again", lambda *_: None)

    found = [cut.verdict for cut in sweep(1, commits=10, failing=0.4).bad]

    assert any("malformed" in verdict or "never committed" in verdict for verdict in found)
