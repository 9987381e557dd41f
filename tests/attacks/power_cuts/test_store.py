"""The power is cut at every operation on the disk, and what was acknowledged is looked for."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
from conformance.builders import ADA, accept, append, create, header, record, signal, write_one
from conformance.recorder import Platter, Recorder, lay_out
from persistasaurus.store import Appended, Durability, SqliteStore, StoreUnusable
from persistasaurus.store.sqlite import store as sqlite

COMMITS = 60


@pytest.fixture
def shm():
    """A directory in memory: thousands of images are laid out in it."""
    root = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=root if root.is_dir() else None))
    yield directory
    shutil.rmtree(directory)


class Acked(NamedTuple):
    """What the store had answered for."""

    versions: int
    signals: int


def workload(directory, durability, monkeypatch, every=7):
    """Commit small batches with checkpoints between them, and note what was acknowledged when."""
    monkeypatch.setattr(sqlite, "LOG_PAGES_WHEN_IDLE", 0)
    recorder = Recorder()
    store = SqliteStore.open(
        directory / "work.db", now=lambda: 0, durability=durability, vfs=recorder.vfs_name
    )
    recorder.mark("opened")
    for number in range(COMMITS):
        if number == 0:
            accept(store, create(ADA, body(1)))
        else:
            change = header("waiting", wake_at=number) if number % 3 == 0 else None
            accept(store, append(number, body(number + 1), change=change), signal(f"mail-{number}"))
        recorder.mark(Acked(number + 1, number))
        if number % every == every - 1:
            store.checkpoint(idle=True)
    store.close()
    recorder.mark("closed")
    recorder.unregister()
    return recorder.log


def body(version):
    return record(b"%d" % version * (1 + version % 90))


def judge(image, path, acked, opened):
    """Tell what became of an image: `ok`, or what is wrong with it."""
    lay_out(image, path)
    try:
        connection = apsw.Connection(str(path))
        try:
            return judge_open(connection, acked, opened)
        finally:
            connection.close()
    except apsw.Error as error:
        return type(error).__name__


def judge_open(connection, acked, opened):
    if connection.pragma("integrity_check") != "ok":
        return "damaged"
    if connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
        return "schema lost" if opened else "ok"
    versions = connection.execute(
        "SELECT version, CAST(data AS BLOB) FROM record ORDER BY version"
    ).fetchall()
    if versions != [(version, body(version).data) for version in range(1, len(versions) + 1)]:
        return "gap"
    if connection.execute("SELECT count(*) FROM inbox").get != max(len(versions) - 1, 0):
        return "torn batch"
    return "lost" if len(versions) < acked.versions else "ok"


def sweep(log, path, seeds):
    """Judge images of the disk after each operation of a record."""
    platter, acked, opened = Platter(), Acked(0, 0), False
    found = Counter()
    for number, operation in enumerate(log):
        if operation[0] == "mark":
            acked = operation[2] if isinstance(operation[2], Acked) else acked
            opened = True
            continue
        platter.apply(operation)
        images = [platter.without_unsynced()]
        images += [platter.with_random_sectors(random.Random(number * 31 + seed)) for seed in range(seeds)]
        found.update(judge(image, path, acked, opened) for image in images)
    found.update([judge(platter.without_unsynced(), path, acked, opened)])
    return found


def test_no_acknowledged_commit_is_lost_with_the_power(shm, monkeypatch):
    log = workload(shm, Durability.FULL, monkeypatch)

    found = sweep(log, shm / "image.db", seeds=4)

    assert found.total() > 2000
    assert set(found) == {"ok"}


def test_the_faster_setting_may_lose_the_last_commits_and_nothing_else(shm, monkeypatch):
    log = workload(shm, Durability.MAY_LOSE_LAST_COMMITS, monkeypatch)

    found = sweep(log, shm / "image.db", seeds=1)

    # That some are lost also shows that the test above could see it.
    assert found["lost"] > 50
    assert set(found) == {"ok", "lost"}


def test_every_image_opens_as_a_store_that_goes_on(shm, monkeypatch):
    log = workload(shm, Durability.FULL, monkeypatch)
    platter, acked, opened = Platter(), Acked(0, 0), False
    path = shm / "image.db"
    for number, operation in enumerate(log):
        if operation[0] == "mark":
            acked = operation[2] if isinstance(operation[2], Acked) else acked
            continue
        platter.apply(operation)
        if number % 5:
            continue
        lay_out(platter.with_random_sectors(random.Random(number)), path)

        store = SqliteStore.open(path, now=lambda: 0)

        try:
            assert store.verify() == []
            found = store.header(ADA)
            version = 0 if found is None else found.version
            assert version >= acked.versions
            write = append(version, body(version + 1)) if version else create(ADA, body(1))
            assert write_one(store, write) == Appended(version + 1)
            opened = True
        finally:
            store.close()
    assert opened


def test_what_is_answered_after_a_kill_and_a_restart_survives_the_power_loss(shm, monkeypatch):
    """A killed process leaves writes that were never synced; the next one answers from them."""
    log = workload(shm, Durability.MAY_LOSE_LAST_COMMITS, monkeypatch)
    survived, unsynced = restart_and_cut(
        log, shm, lambda path, vfs: SqliteStore.open(path, now=lambda: 0, vfs=vfs)
    )

    assert survived > 20
    assert unsynced > 20


def test_without_the_synced_write_at_open_it_would_be_lost(shm, monkeypatch):
    """The same, with a store that answers without writing first: shows that the test above can see it."""
    log = workload(shm, Durability.MAY_LOSE_LAST_COMMITS, monkeypatch)
    monkeypatch.setattr(sqlite, "move_log", lambda connection, must: None)
    monkeypatch.setattr(
        sqlite, "prepare_to_write", lambda connection, location: connection.pragma("synchronous", "OFF")
    )

    with pytest.raises(AssertionError, match="lost"):
        restart_and_cut(log, shm, lambda path, vfs: SqliteStore.open(path, now=lambda: 0, vfs=vfs))


def restart_and_cut(log, shm, reopen):
    platter, survived, unsynced = Platter(), 0, 0
    path = shm / "restarted.db"
    for number, operation in enumerate(log):
        if operation[0] == "mark":
            continue
        platter.apply(operation)
        if number % 7:
            continue
        # Killed: everything is in the page cache, not everything is on the disk.
        lay_out(platter.with_all(), path)
        after = Platter()
        after.durable = {file: bytearray(data) for file, data in platter.durable.items()}
        after.pending = {file: list(waiting) for file, waiting in platter.pending.items()}
        unsynced += any(after.pending.values())
        recorder = Recorder()
        try:
            store = reopen(path, recorder.vfs_name)
        except StoreUnusable:
            recorder.unregister()
            continue
        answered = len(store.read_all())
        for later in recorder.log:
            after.apply(later)
        store._writer.connection.close()
        store._writer = None
        store.close()
        recorder.unregister()
        # The power is cut right after the answer.
        for image in (after.without_unsynced(), after.with_random_sectors(random.Random(number))):
            verdict = judge(image, shm / "cut.db", Acked(answered, 0), opened=True)
            assert verdict == "ok", verdict
        survived += answered > 0
    return survived, unsynced
