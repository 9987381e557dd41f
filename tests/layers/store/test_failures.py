"""Disks that are full, fail, or lose what they were given."""

from __future__ import annotations

import itertools

import apsw
import pytest
from conformance.builders import ADA, BOB, accept, append, create, header, record, signal, write, write_one
from conformance.recorder import Recorder, full, sync_error, write_error
from persistasaurus.store import (
    Appended,
    CommitUnknown,
    Durability,
    StoreFull,
    StoreHalted,
    StoreUnusable,
)
from persistasaurus.store.sqlite.store import PAGE_SIZE
from store.damage import lose_entry, pages_of, spoil_pages, spoil_root

BIG = b"x" * 100_000


def shrink(store):
    """Leave the file no room to grow."""
    connection = store._writer.connection
    connection.pragma("max_page_count", connection.pragma("page_count"))


def test_a_full_disk_is_told_and_nothing_was_written(store):
    accept(store, create())
    shrink(store)

    with pytest.raises(StoreFull):
        store.commit([append(1, record(BIG)), append(2, record(b"small"))])

    assert [r.data for r in store.read(ADA)] == [b"{}"]


def test_a_small_write_behind_the_one_that_did_not_fit_is_not_written_on_its_own(store):
    accept(store, create())
    shrink(store)

    # The signal and its header are written after the records have failed.
    with pytest.raises(StoreFull):
        store.commit([append(1, record(BIG), change=header("waiting")), signal(), create(BOB)])

    assert store.inbox(ADA) == []
    assert store.header(BOB) is None
    assert store.header(ADA).status == "running"
    assert not store._writer.connection.in_transaction
    assert store.verify() == []


def test_a_full_store_is_halted_and_read_until_it_is_reopened(store):
    accept(store, create())
    shrink(store)
    with pytest.raises(StoreFull):
        store.commit([append(1, record(BIG))])

    with pytest.raises(StoreHalted, match="full"):
        store.commit([append(1, record(b"small"))])
    with pytest.raises(StoreHalted):
        store.checkpoint(idle=True)
    with pytest.raises(StoreHalted):
        store.resolve([])
    assert len(store.read(ADA)) == 1

    store.reopen()
    assert write(store, append(1, record(BIG)), signal())[0] == Appended(2)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_disk_that_is_full_at_any_write_rolls_the_batch_back(recorded, recorder, at):
    accept(recorded, create())
    recorder.fail("wal", "write", full, at=at)

    with pytest.raises(StoreFull):
        recorded.commit([append(1, record(b"x" * 20_000)), signal(), create(BOB)])
    recorded.reopen()

    assert [len(r.data) for r in recorded.read(ADA)] == [2]
    assert recorded.resolve([append(1, record(b"x" * 20_000)), signal(), create(BOB)]) == [None] * 3
    assert write_one(recorded, append(1, record(b"after"))) == Appended(2)
    assert recorded.verify() == []


def test_a_disk_that_stays_full_keeps_the_store_halted(recorded, recorder):
    accept(recorded, create())
    recorder.fail("wal", "write", full, times=2)
    with pytest.raises(StoreFull):
        recorded.commit([append(1, record())])

    with pytest.raises(StoreFull):
        recorded.reopen()
    with pytest.raises(StoreHalted):
        recorded.commit([append(1, record())])
    assert len(recorded.read(ADA)) == 1

    recorded.reopen()
    assert write_one(recorded, append(1, record())) == Appended(2)


def test_a_failed_sync_is_unknown_and_may_turn_out_written(recorded, recorder):
    accept(recorded, create())
    batch = [append(1, record(b"2")), signal(), append(2, record(b"3"))]
    recorder.fail("wal", "sync", sync_error)

    with pytest.raises(CommitUnknown):
        recorded.commit(batch)
    assert len(recorded.read(ADA)) == 1
    recorded.reopen()

    # Its frames are complete in the log: SQLite finds them again.
    assert [type(outcome).__name__ for outcome in recorded.resolve(batch)] == [
        "Appended",
        "Delivered",
        "Appended",
    ]
    assert [r.data for r in recorded.read(ADA)] == [b"{}", b"2", b"3"]
    assert write_one(recorded, append(3, record(b"4"))) == Appended(4)
    assert recorded.verify() == []


def test_a_failed_write_is_unknown_and_may_turn_out_not_written(recorded, recorder):
    accept(recorded, create())
    batch = [append(1, record(b"2")), signal()]
    recorder.fail("wal", "write", write_error, at=2)

    with pytest.raises(CommitUnknown):
        recorded.commit(batch)
    recorded.reopen()

    assert recorded.resolve(batch) == [None, None]
    assert len(recorded.read(ADA)) == 1
    assert write(recorded, *batch)[0] == Appended(2)


def test_an_unknown_commit_halts_the_store(recorded, recorder):
    accept(recorded, create())
    recorder.fail("wal", "sync", sync_error)
    with pytest.raises(CommitUnknown):
        recorded.commit([append(1, record())])

    for use in (lambda: recorded.commit([create(BOB)]), lambda: recorded.resolve([])):
        with pytest.raises(StoreHalted, match="may be on disk or not"):
            use()


def test_what_a_failed_sync_left_in_the_log_is_written_again_before_it_is_answered(recorded, recorder):
    accept(recorded, create())
    recorder.fail("wal", "sync", sync_error)
    with pytest.raises(CommitUnknown):
        recorded.commit([append(1, record(b"2"))])
    before = len(recorder.log)

    recorded.reopen()

    operations = [operation[:2] for operation in recorder.log[before:]]
    # First the log itself, then the file that it is moved into, and only then the log anew.
    synced = operations.index(("sync", "wal"))
    assert {*operations[:synced]} == {("write", "wal")}
    moved = operations.index(("sync", "db"))
    assert synced < operations.index(("write", "db")) < moved
    assert ("write", "wal") in operations[moved:]
    assert ("write", "wal") not in operations[synced:moved]
    assert operations[-1] == ("sync", "wal")


def test_a_reopen_that_fails_can_be_tried_again(recorded, recorder):
    accept(recorded, create())
    recorder.fail("wal", "sync", sync_error, times=3)
    with pytest.raises(CommitUnknown):
        recorded.commit([append(1, record(b"2"))])

    for _ in range(2):
        with pytest.raises(StoreHalted):
            recorded.reopen()
        with pytest.raises(StoreHalted):
            recorded.commit([create(BOB)])
    recorded.reopen()

    assert recorded.resolve([append(1, record(b"2"))]) == [Appended(2)]


def test_a_log_that_was_begun_anew_when_reopening_failed_is_suspect_from_its_beginning(recorded, recorder):
    accept(recorded, create(), append(1, record()), append(2, record()))
    recorder.fail("wal", "sync", sync_error)
    with pytest.raises(CommitUnknown):
        recorded.commit([append(3, record())])
    # Two are of the old log, before it is moved into the file.
    recorder.fail("wal", "sync", sync_error, at=3)
    before = len(recorder.log)
    with pytest.raises(StoreHalted):
        recorded.reopen()
    assert ("sync", "db") in [operation[:2] for operation in recorder.log[before:]]
    before = len(recorder.log)

    recorded.reopen()

    assert recorder.log[before][:3] == ("write", "wal", 0)
    assert write_one(recorded, append(4, record())) == Appended(5)


def test_a_reopen_that_nothing_made_necessary_and_that_fails_halts_the_store(recorded, recorder):
    accept(recorded, create())
    recorder.fail("wal", "sync", sync_error)

    with pytest.raises(StoreHalted, match="cannot be used"):
        recorded.reopen()
    with pytest.raises(StoreHalted, match="could not be reopened"):
        recorded.commit([append(1, record())])
    recorded.reopen()

    assert write_one(recorded, append(1, record())) == Appended(2)


def test_a_suspect_log_that_somebody_has_moved_into_the_file_is_not_missed(recorded, recorder, path):
    """Another program's connection, when it is the last to be closed, moves the log and takes it away."""
    accept(recorded, create())
    recorder.fail("wal", "sync", sync_error, times=2)
    with pytest.raises(CommitUnknown):
        recorded.commit([append(1, record(b"2"))])
    with pytest.raises(StoreHalted):
        recorded.reopen()
    other = apsw.Connection(str(path))
    other.execute("SELECT * FROM word").fetchall()
    other.close()
    assert not path.with_name("flows.db-wal").exists()

    recorded.reopen()

    assert recorded.resolve([append(1, record(b"2"))]) == [Appended(2)]
    assert write_one(recorded, append(2, record(b"3"))) == Appended(3)
    assert recorded.verify() == []


def test_a_suspect_log_is_written_again_to_its_end_however_long_it_is(recorded, recorder, path):
    accept(recorded, create())
    recorder.fail("wal", "sync", sync_error)
    batch = [append(1, *[record(b"x" * 70_000)] * 10)]
    with pytest.raises(CommitUnknown):
        recorded.commit(batch)
    start = 32 + recorded._sure_pages * (24 + PAGE_SIZE)
    log = path.with_name("flows.db-wal").read_bytes()[start:]
    before = len(recorder.log)

    recorded.reopen()

    again = list(itertools.takewhile(lambda o: o[:2] == ("write", "wal"), recorder.log[before:]))
    assert [offset for _, _, offset, _ in again] == list(range(start, start + len(log), 64 * 1024))
    assert b"".join(data for *_, data in again) == log
    assert len(log) > 700_000
    assert recorder.log[before + len(again)][:2] == ("sync", "wal")
    assert recorded.resolve(batch) == [Appended(11)]


@pytest.mark.parametrize("sector", [512, 8192])
def test_a_suspect_log_is_written_again_from_the_sector_in_which_the_sure_part_ends(open_store, sector):
    """On a disk where a write that is cut off may spoil all of the sectors that it touches."""
    recorder = Recorder(sector=sector, powersafe=False)
    store = open_store(vfs=recorder.vfs_name)
    accept(store, create())
    recorder.fail("wal", "sync", sync_error)
    with pytest.raises(CommitUnknown):
        store.commit([append(1, record(b"2"))])
    sure = 32 + store._sure_pages * (24 + PAGE_SIZE)
    before = len(recorder.log)

    store.reopen()

    operation, file, offset, _ = recorder.log[before]
    assert (operation, file, offset) == ("write", "wal", sure - sure % sector)
    assert store.resolve([append(1, record(b"2"))]) == [Appended(2)]
    store.close()
    recorder.unregister()


def test_a_reader_that_holds_the_log_keeps_a_suspect_store_halted(recorded, recorder, path):
    accept(recorded, create())
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        reader.execute("BEGIN").fetchall()
        assert reader.execute("SELECT count(*) FROM record").get == 1
        accept(recorded, append(1, record()))
        recorder.fail("wal", "sync", sync_error)
        with pytest.raises(CommitUnknown):
            recorded.commit([append(2, record())])

        with pytest.raises(StoreHalted, match="reader"):
            recorded.reopen()

        reader.execute("COMMIT").fetchall()
        recorded.reopen()
    finally:
        reader.close()
    assert write_one(recorded, create(BOB)) == Appended(1)


def test_a_failed_checkpoint_halts_the_store_and_loses_nothing(recorded, recorder, monkeypatch):
    monkeypatch.setattr("persistasaurus.store.sqlite.store.LOG_PAGES_WHEN_IDLE", 0)
    accept(recorded, create())
    recorder.fail("db", "sync", sync_error)

    with pytest.raises(StoreHalted):
        recorded.checkpoint(idle=True)
    with pytest.raises(StoreHalted):
        recorded.commit([create(BOB)])
    recorded.reopen()

    assert write_one(recorded, append(1, record())) == Appended(2)
    assert recorded.verify() == []


def test_without_a_sync_at_each_commit_all_of_the_log_is_suspect_when_a_checkpoint_fails(
    open_store, recorder, monkeypatch
):
    monkeypatch.setattr("persistasaurus.store.sqlite.store.LOG_PAGES_WHEN_IDLE", 0)
    store = open_store(vfs=recorder.vfs_name, durability=Durability.MAY_LOSE_LAST_COMMITS)
    accept(store, create())
    recorder.fail("wal", "sync", sync_error)
    with pytest.raises(StoreHalted):
        store.checkpoint(idle=True)
    before = len(recorder.log)

    store.reopen()

    again = [operation[:3] for operation in recorder.log[before : before + 3]]
    # Its header first, then all that follows it.
    assert again == [("write", "wal", 0), ("sync", "wal", False), ("write", "wal", 32)]
    assert write_one(store, append(1, record())) == Appended(2)
    assert store.verify() == []


def test_a_store_that_cannot_be_synced_at_closing_is_closed_all_the_same(
    recorded, recorder, path, open_store
):
    accept(recorded, create())
    recorder.fail("wal", "sync", sync_error, times=99)
    recorder.fail("db", "sync", sync_error, times=99)

    recorded.close()

    assert open_store().header(ADA).version == 1


def test_a_file_that_another_connection_keeps_locked_halts_the_store(store, path, monkeypatch):
    accept(store, create())
    store._writer.connection.set_busy_timeout(0)
    intruder = apsw.Connection(str(path))
    try:
        intruder.execute("BEGIN IMMEDIATE").fetchall()
        with pytest.raises(StoreHalted, match="locked"):
            store.commit([append(1, record())])
        intruder.execute("ROLLBACK").fetchall()
    finally:
        intruder.close()

    store.reopen()
    assert write_one(store, append(1, record())) == Appended(2)


def test_damage_that_a_commit_meets_halts_the_store(store, path, open_store):
    accept(store, create(), *[append(n, record(b"1" * 3000)) for n in range(1, 4)])
    store.close()
    spoil_root(path, "sqlite_autoindex_record_1")
    spoil_pages(path, pages_of(path, "record")[:1])  # so it cannot be made anew
    damaged = open_store()

    with pytest.raises(StoreUnusable, match="the file is damaged, nothing was written"):
        damaged.commit([create(BOB)])
    with pytest.raises(StoreHalted):
        damaged.commit([])


def test_an_exception_that_is_none_of_ours_rolls_back_and_halts(store, monkeypatch):
    accept(store, create())
    monkeypatch.setattr("persistasaurus.store.sqlite.batch.WriteBatch.write", lambda self: 1 / 0)

    with pytest.raises(CommitUnknown, match="ZeroDivisionError"):
        store.commit([append(1, record())])
    monkeypatch.undo()

    assert not store._writer.connection.in_transaction
    store.reopen()
    assert store.resolve([append(1, record())]) == [None]


@pytest.mark.parametrize(("error", "told"), [(ZeroDivisionError, CommitUnknown), (KeyboardInterrupt, None)])
def test_indexes_whose_mending_fails_are_left_as_they_were_and_halt_the_store(
    path, open_store, monkeypatch, error, told
):
    def fail(*_):
        raise error

    store = open_store()
    accept(store, create())
    store.close()
    lose_entry(path, "sqlite_autoindex_record_1", 0)
    store = open_store()
    monkeypatch.setattr("persistasaurus.store.sqlite.writer.make_anew", fail)

    with pytest.raises(told or error):
        store.mend()
    monkeypatch.undo()

    assert not store._writer.connection.in_transaction
    with pytest.raises(StoreHalted):
        store.mend()
    store.reopen()
    assert store.mend() == ["sqlite_autoindex_record_1"]


def test_an_interrupt_rolls_back_halts_and_goes_on(store, monkeypatch):
    def interrupt(self):
        raise KeyboardInterrupt

    accept(store, create())
    monkeypatch.setattr("persistasaurus.store.sqlite.batch.WriteBatch.write", interrupt)

    with pytest.raises(KeyboardInterrupt):
        store.commit([append(1, record())])
    monkeypatch.undo()

    with pytest.raises(StoreHalted):
        store.commit([])
    store.reopen()
    assert write_one(store, append(1, record())) == Appended(2)


def test_a_deleted_file_is_noticed_within_a_second(store, path, clock):
    accept(store, create())
    path.unlink()
    clock.advance(1)

    with pytest.raises(StoreHalted, match=r"flows\.db is gone"):
        store.commit([append(1, record())])
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])
    with pytest.raises(StoreHalted, match="gone"):
        store.reopen()
    assert not path.exists()


def test_a_file_that_comes_back_can_be_reopened(store, path, clock, tmp_path):
    accept(store, create())
    path.rename(tmp_path / "away")
    clock.advance(1)
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])

    (tmp_path / "away").rename(path)
    store.reopen()

    assert write_one(store, append(1, record())) == Appended(2)


def test_a_deleted_log_is_noticed(store, path, clock):
    accept(store, create())
    path.with_name("flows.db-wal").unlink()
    clock.advance(1)

    with pytest.raises(StoreHalted, match=r"flows\.db-wal is gone"):
        store.checkpoint(idle=False)
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])


def test_a_replaced_log_is_noticed(store, path, clock):
    accept(store, create())
    log, copy = path.with_name("flows.db-wal"), path.with_name("copy")
    copy.write_bytes(log.read_bytes())
    copy.rename(log)
    clock.advance(1)

    with pytest.raises(StoreHalted, match=r"flows\.db-wal was replaced"):
        store.checkpoint(idle=False)


def test_the_file_is_looked_at_when_the_clock_was_turned_back(store, path, clock):
    accept(store, create())
    clock.advance(-3600)
    path.unlink()

    with pytest.raises(StoreHalted, match="gone"):
        store.commit([append(1, record())])
