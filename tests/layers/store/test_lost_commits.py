"""Rot in the log of a killed engine: commits behind it are not dropped without a word."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from pathlib import Path

import apsw
import pytest
from conformance.builders import ADA, AT, accept, append, create, record
from persistasaurus.store import Durability, SqliteStore, StoreReader, StoreUnusable
from persistasaurus.store.sqlite import lost_commits
from persistasaurus.store.sqlite import store as sqlite
from persistasaurus.store.sqlite.lost_commits import kept_logs
from store.damage import edit

COMMITS = 6
FRAME = 24 + 4096
DAMAGED = "is damaged after its page"


def opened(path, **settings):
    return SqliteStore.open(path, now=lambda: AT, **settings)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a killed engine has left: a file, and a log with commits in it."""
    path = tmp_path_factory.mktemp("killed") / "flows.db"
    store = opened(path)
    accept(store, create())
    for number in range(1, COMMITS):
        accept(store, append(number, record(b"%d" % number * 100)))
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    store.close()
    return copy


@pytest.fixture
def path(left, tmp_path):
    for suffix in ("", "-wal"):
        shutil.copy(f"{left}{suffix}", tmp_path / f"flows.db{suffix}")
    return tmp_path / "flows.db"


def log_of(path):
    return path.with_name(f"{path.name}-wal")


def ends(path):
    """Return at which offsets the frames lie that end a commit, without those of the log before."""
    image = log_of(path).read_bytes()
    frames = [at for at in range(32, len(image), FRAME) if image[at + 8 : at + 16] == image[16:24]]
    return [at for at in frames if struct.unpack_from(">I", image, at + 4)[0]]


def flip(path, at):
    edit(log_of(path), at, bytes([log_of(path).read_bytes()[at] ^ 1]))


def before_the_machine_started(path):
    os.utime(log_of(path), (1, 1))


def versions(path):
    store = opened(path)
    try:
        return [r.version for r in store.read(ADA)] if store.header(ADA) else []
    finally:
        store.close()


def test_a_log_that_is_whole_is_left_alone(path, caplog):
    assert versions(path) == [*range(1, COMMITS + 1)]
    assert kept_logs(path) == []
    assert not caplog.text


def killed_before_it_told_of(path, commits):
    """Have somebody hold the log open who was not told of the last commits, and return him."""
    image = log_of(path).read_bytes()
    end = ends(path)[-commits - 1] + FRAME
    log_of(path).write_bytes(image[:end])
    reader = StoreReader.open(path)
    assert reader.header(ADA).version == COMMITS - commits
    with log_of(path).open("ab") as log:
        log.write(image[end:])
    return reader


def test_a_commit_that_no_reader_was_told_of_before_the_kill_is_no_loss(path, caplog):
    with killed_before_it_told_of(path, 1):
        assert versions(path) == [*range(1, COMMITS)]

    assert kept_logs(path) == []
    assert not caplog.text


def test_rot_behind_the_end_that_readers_know_is_reported(path, caplog):
    with killed_before_it_told_of(path, 3):
        rotten = ends(path)[-2]
        flip(path, rotten + 24 + 50)
        versions(path)

    assert f"{DAMAGED} {(rotten - 32) // FRAME}: 2 later commits" in caplog.text
    assert len(kept_logs(path)) == 1


@pytest.mark.parametrize("nth", range(1, COMMITS))
def test_commits_behind_rot_in_the_log_are_reported_and_the_log_is_kept(path, nth, caplog):
    image_at = ends(path)[-nth] + 24 + 50
    flip(path, image_at)
    image = log_of(path).read_bytes()

    assert versions(path) == [*range(1, COMMITS + 1 - nth)]

    (copy,) = kept_logs(path)
    assert copy.read_bytes() == image
    assert copy.stat().st_mode & 0o777 == 0o600
    assert DAMAGED in caplog.text
    assert f": {nth} later commits" in caplog.text
    assert copy.name in caplog.text
    caplog.clear()
    versions(path)
    assert not caplog.text


@pytest.mark.parametrize("at", [0, 9, 17, 30])
def test_rot_in_the_head_of_the_log_is_seen(path, at, caplog):
    flip(path, at)

    with contextlib.suppress(StoreUnusable):  # of which nothing is left in the file
        versions(path)

    assert DAMAGED in caplog.text
    assert len(kept_logs(path)) == 1


def test_a_commit_that_the_loss_of_power_has_torn_was_never_acknowledged(path, caplog):
    flip(path, ends(path)[-1] + 24 + 50)
    before_the_machine_started(path)

    assert versions(path) == [*range(1, COMMITS)]
    assert kept_logs(path) == []
    assert not caplog.text


def killed(path):
    """Open the store, and return a copy of what is left when the process is killed then."""
    copy = path.with_name(f"killed-{path.name}")
    store = opened(path)
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    store.close()
    return copy


def test_a_commit_that_the_power_has_torn_is_no_loss_either_when_the_next_engine_is_killed_at_once(
    path, monkeypatch, caplog
):
    monkeypatch.setattr(sqlite, "LOG_PAGES_WHEN_IDLE", 0)
    store = opened(path)
    accept(store, append(COMMITS, record(b"durable")))
    store.checkpoint(idle=True)
    accept(store, append(COMMITS + 1, record(b"torn")))  # it begins the log anew, which keeps its numbers
    torn = path.with_name("torn.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{torn}{suffix}")
    store.close()
    flip(torn, 32 + 24 + 50)
    before_the_machine_started(torn)

    assert versions(killed(killed(torn))) == [*range(1, COMMITS + 2)]

    assert not caplog.text


def test_of_two_commits_behind_rot_the_first_was_synced_before_the_power_failed(path, caplog):
    flip(path, ends(path)[-2] + 24 + 50)
    before_the_machine_started(path)

    versions(path)

    assert DAMAGED in caplog.text


def test_without_a_sync_at_each_commit_the_loss_of_power_may_tear_several(path, caplog):
    flip(path, ends(path)[-3] + 24 + 50)
    before_the_machine_started(path)

    opened(path, durability=Durability.MAY_LOSE_LAST_COMMITS).close()

    assert not caplog.text


@pytest.mark.parametrize("statistics", ["/nowhere/stat", "empty"])
def test_where_nobody_tells_when_the_machine_started_the_power_may_have_failed(
    path, tmp_path, statistics, monkeypatch, caplog
):
    (tmp_path / "empty").write_text("cpu 0\n")
    monkeypatch.setattr(lost_commits, "_STATISTICS", tmp_path / statistics)
    flip(path, ends(path)[-1] + 24 + 50)

    versions(path)

    assert not caplog.text


def test_what_an_older_log_has_left_behind_the_end_is_no_commit_of_this_one(path, caplog):
    store = opened(path)
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    accept(store, append(COMMITS, record()))
    copy = path.with_name("again.db")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    store.close()
    caplog.clear()

    assert versions(copy) == [*range(1, COMMITS + 2)]
    assert not caplog.text


def test_a_log_that_cannot_be_kept_is_not_written_over(path, monkeypatch):
    flip(path, ends(path)[-3] + 24 + 50)
    image = log_of(path).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lost_commits.shutil, "copyfileobj", full)
    with pytest.raises(StoreUnusable, match="No space left"):
        opened(path)

    assert log_of(path).read_bytes() == image
    assert [p.name for p in Path(path.parent).iterdir() if "damaged" in p.name] == []
    monkeypatch.undo()
    versions(path)
    assert len(kept_logs(path)) == 1
    with StoreReader.open(path) as reader:
        assert len(reader.read(ADA)) == COMMITS - 3
        assert reader.kept_logs() == kept_logs(path)
