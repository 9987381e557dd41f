"""The log stays short, and nobody waits for anybody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import apsw
import pytest
from conformance.builders import ADA, accept, append, create, record
from persistasaurus.store.sqlite import store as sqlite
from persistasaurus.store.sqlite.connection import BUSY_TIMEOUT_MS
from persistasaurus.store.sqlite.store import LOG_PAGES_AT_MOST, LOG_PAGES_WHEN_IDLE, PAGE_SIZE

BODY = b"x" * 900


@pytest.fixture
def log(path):
    return path.with_name("flows.db-wal")


def test_the_log_is_emptied_when_there_is_leisure(store, log):
    accept(store, create(ADA))
    for commit in range(500):
        accept(store, append(1 + 60 * commit, *[record(BODY)] * 60))
        store.checkpoint(idle=True)

    assert log.stat().st_size < (LOG_PAGES_WHEN_IDLE + 50) * PAGE_SIZE * 1.01


def test_a_busy_store_leaves_the_log_alone_until_it_is_too_long(store, log, monkeypatch):
    monkeypatch.setattr(sqlite, "LOG_PAGES_WHEN_IDLE", 50)
    accept(store, create(ADA))
    for version in range(1, 200):
        accept(store, append(version, record(BODY)))
        store.checkpoint(idle=False)

    assert log.stat().st_size > 200 * PAGE_SIZE
    assert store.verify() == []


def test_a_log_that_is_too_long_is_cut_also_without_leisure(store, log):
    store._truncate_at = 100
    accept(store, create(ADA))
    for version in range(1, 200):
        accept(store, append(version, record(BODY)))
        store.checkpoint(idle=False)
        store._truncate_at = min(store._truncate_at, 100)
        assert log.stat().st_size < 200 * PAGE_SIZE

    assert LOG_PAGES_AT_MOST * PAGE_SIZE == 64 * 1024 * 1024
    assert store._writer.connection.pragma("busy_timeout") == BUSY_TIMEOUT_MS  # only this waited for nobody
    assert store.verify() == []


def test_a_reader_that_holds_the_log_holds_nobody_up(store, log, path):
    accept(store, create(ADA))
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        reader.execute("BEGIN").fetchall()
        assert reader.execute("SELECT count(*) FROM record").get == 1
        store._truncate_at = 10
        accept(store, append(1, record(b"x" * 100_000)))
        began = monotonic()
        store.checkpoint(idle=False)

        assert monotonic() - began < 4
        # It is tried again when the log has grown, not at each call.
        assert store._truncate_at > store._writer.log_pages
        assert log.stat().st_size > 0
        accept(store, append(2, record()))
        assert reader.execute("SELECT count(*) FROM record").get == 1
        reader.execute("COMMIT").fetchall()
    finally:
        reader.close()

    store._truncate_at = 10
    store.checkpoint(idle=False)
    assert log.stat().st_size == 0
    accept(store, append(3, record()))
    assert len(store.read(ADA)) == 4


def test_a_reader_that_holds_the_log_keeps_nobody_from_opening_the_store(store, open_store, path):
    accept(store, create(ADA))
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        reader.execute("BEGIN").fetchall()
        assert reader.execute("SELECT count(*) FROM record").get == 1
        accept(store, append(1, record()))
        store.close()

        assert len(open_store().read(ADA)) == 2
    finally:
        reader.close()


def test_closing_empties_the_log_and_keeps_it_for_those_who_only_read(store, log, path):
    accept(store, create(ADA))
    store.close()

    assert log.stat().st_size == 0
    observer = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert observer.execute("SELECT count(*) FROM record").get == 1
    observer.close()


def test_readers_do_not_wait_for_the_writer(store):
    accept(store, create(ADA))
    writer = store._writer
    writer.prepare([append(1, record())])
    try:
        with ThreadPoolExecutor(4) as pool:
            versions = [pool.submit(store.header, ADA).result(timeout=4).version for _ in range(20)]
    finally:
        writer.commit()

    assert versions == [1] * 20
    assert store.header(ADA).version == 2


def test_readers_leave_no_transaction_open(store):
    accept(store, create(ADA, *[record()] * 50))
    store.read(ADA, limit=1)
    store.read_all(limit=1)
    store.headers(limit=1)
    store.verify()

    assert store._readers._free
    for connection in store._readers._free:
        assert connection.txn_state() == apsw.SQLITE_TXN_NONE


def test_connections_for_reading_are_few_and_closed_with_the_store(store):
    accept(store, create(ADA))
    with ThreadPoolExecutor(20) as pool:
        for read in [pool.submit(store.read, ADA) for _ in range(500)]:
            read.result(timeout=30)
    connections = list(store._readers._free)
    assert 1 <= len(connections) <= 8

    store.close()

    for connection in connections:
        with pytest.raises(apsw.ConnectionClosedError):
            connection.pragma("user_version")


def test_a_connection_that_was_lent_while_the_store_was_reopened_is_not_kept(store):
    accept(store, create(ADA))
    with store._readers.connection() as lent:
        store.reopen()

    with pytest.raises(apsw.ConnectionClosedError):
        lent.pragma("user_version")
    assert store.read(ADA)


def test_a_connection_that_is_lent_as_the_store_is_closed_is_not_kept(store):
    store.close()
    with store._readers.connection() as lent:
        lent.pragma("user_version")

    with pytest.raises(apsw.ConnectionClosedError):
        lent.pragma("user_version")


def test_streams_that_were_forgotten_are_looked_up_again(store, monkeypatch):
    store._writer._cache.streams._generation_size = 10
    names = [f"flow-{n}" for n in range(100)]
    for name in names:
        accept(store, create(name))
    for version in range(1, 4):
        for name in reversed(names):
            accept(store, append(version, record(), stream=name))

    assert len(store._writer._cache.streams._young) <= 11
    assert all(h.version == 4 for h in store.headers())
    assert store.verify() == []
