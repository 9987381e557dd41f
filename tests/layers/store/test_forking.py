"""What was opened before a fork belongs to the parent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conformance.builders import ADA, accept, append, create, record, write_one
from persistasaurus.store import Appended, QueryInterrupted, SqliteStore, StoreReader
from persistasaurus.store.files import forking
from persistasaurus.store.files.owner import owner_of
from persistasaurus.store.sqlite import schema
from store.forked_child import in_forked_child, refusal


def test_the_store_is_dead_in_a_forked_child(store):
    accept(store, create())

    for use in (lambda: store.commit([create("child")]), lambda: store.read(ADA), store.reopen):
        assert "forked" in in_forked_child(lambda use=use: refusal(use))

    assert write_one(store, append(1, record())) == Appended(2)
    assert store.header("child") is None


@pytest.fixture
def graves(monkeypatch):
    """What is buried in this process, and let go of when the test ends."""
    buried = []
    monkeypatch.setattr(forking, "_graves", buried)
    return buried


def test_what_a_child_inherits_of_a_store_is_kept_and_never_touched(store, graves, path, open_files):
    """As in a child: this process takes itself for one."""
    accept(store, create())
    connection = store._writer.connection
    for one in (store, store._ownership, store._locks, store):
        one.die_after_fork()

    for use in (lambda: store.commit([]), lambda: store.read(ADA), store.reopen):
        assert "the store belongs to the parent" in refusal(use)
    store.close()
    assert graves[:1] == [store._writer]
    assert connection.execute("SELECT version FROM stream").get == 1
    assert len(graves) == 3
    # But the lock: its copy would keep the store owned when the parent has ended.
    assert "flows.db.lock" not in open_files(path.parent)


def test_what_a_child_inherits_of_a_reader_is_kept_and_never_touched(store, path, graves):
    accept(store, create(ADA, *[record()] * 2000))
    reader = StoreReader.open(path)
    reader.data_version()
    answer = reader.query("SELECT 1 FROM record")
    _, connection = reader._watch
    reader.die_after_fork()
    reader.die_after_fork()

    for use in (reader.headers, reader.data_version, reader.owner, lambda: reader.query("SELECT 1")):
        assert "the reader belongs to the parent" in refusal(use)
    with pytest.raises(QueryInterrupted):
        list(answer)
    reader.close()
    assert graves == [reader._files, (reader._files, connection), [answer]]
    assert connection.pragma("user_version") == len(schema.ladder())


def test_a_store_in_memory_has_no_lock_that_a_child_would_have_to_leave(clock, graves):
    store = SqliteStore.open(":memory:", now=clock)
    store.die_after_fork()

    assert "forked" in refusal(store.headers)
    assert store._anchor in graves


def test_what_was_closed_before_the_fork_is_closed_in_the_child(store, path, graves):
    reader = StoreReader.open(path)
    for one in (store, reader):
        one.close()
        one.die_after_fork()

        assert "closed" in refusal(one.headers)
    assert graves == []


def test_a_forked_child_may_close_its_copy(store, other_process):
    def close():
        store.close()
        return "closed"

    assert in_forked_child(close) == "closed"

    assert other_process()[1].startswith("StoreOwned")
    assert write_one(store, create()) == Appended(1)


def test_a_forked_child_does_not_keep_the_lock(store, other_process):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        store.close()

        assert other_process()[1] == "opened 2"
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)


def test_a_copy_of_the_lock_that_somebody_inherited_does_not_keep_it(store, open_store, path):
    inherited = os.dup(store._ownership._descriptor)
    try:
        store.close()

        assert owner_of(path.with_name("flows.db.lock")) is None
        assert open_store().epoch == 2
    finally:
        os.close(inherited)


def test_a_child_that_outlives_a_killed_parent_does_not_keep_the_lock(path, open_store):
    script = """
import os, sys
from persistasaurus.store import SqliteStore
store = SqliteStore.open(sys.argv[1], now=lambda: 0)
if os.fork() == 0:
    print("child", flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout.readline() == "child\n"
        parent.kill()
        parent.wait(timeout=30)

        assert open_store().epoch == 2
    finally:
        parent.stdin.close()
        parent.stdout.close()


def test_a_child_that_ends_normally_leaves_the_file_alone(store, path):
    accept(store, create())
    before = (path.read_bytes(), path.with_name("flows.db-wal").read_bytes())
    script = """
import os, sys
from persistasaurus.store import *
store = SqliteStore.open(sys.argv[1], now=lambda: 0)
store.commit([Append("a", 0, (NewRecord(0, "k", b"1"),), HeaderChange("s", StreamState.OPEN, None), "t")])
store.read("a")
if os.fork():
    _, status = os.wait()
    assert status == 0, status
    assert os.stat(sys.argv[1] + "-wal").st_size > 0
    store.commit([Append("a", 1, (NewRecord(0, "k", b"2"),))])
    assert [r.data for r in store.read("a")] == [b"1", b"2"]
    assert store.verify() == []
"""
    child = path.with_name("child.db")
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(child)], check=True, timeout=30)

    assert (path.read_bytes(), path.with_name("flows.db-wal").read_bytes()) == before
