"""Other programs, and the host itself, do something with the file while an engine has it open.

Nothing that was acknowledged is lost by what SQLite allows. What it does not allow is noticed, and whatever a
restart could go on from, a reopening goes on from.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
import subprocess
import sys

import apsw
import pytest
from conformance.builders import ADA, BOB, accept, append, create, record, signal, write_one
from persistasaurus.store import (
    Appended,
    SqliteStore,
    StoreFenced,
    StoreHalted,
    StoreOwned,
    StoreReader,
    StoreUnusable,
    WrongExpectedVersion,
)
from persistasaurus.store.files import file_locks, location
from persistasaurus.store.tools.backup import backup
from store.test_opening import tamper

linux = pytest.mark.skipif(sys.platform != "linux", reason="the locks that this is about are Linux's")

QUERY = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]).fetchall(); c.close()"


def beside(path, suffix):
    return path.with_name(path.name + suffix)


def outside(path, statement="SELECT count(*) FROM record"):
    """Ask the store in another process, with Python's own SQLite, and close it."""
    subprocess.run([sys.executable, "-c", QUERY, str(path), statement], check=True, timeout=60)


def within(path, statement="SELECT count(*) FROM record"):
    """Ask it in this process, with an SQLite that knows nothing of the engine's."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def other_connection(path, *statements):
    other = apsw.Connection(str(path))
    for statement in statements:
        other.execute(statement).fetchall()
    other.close()


def records(path, open_store, store):
    """What a later owner finds."""
    store.close()
    return [r.data for r in open_store(path).read(ADA)]


# ------------------------------------------------------------------------------------------- only reading
def refused_as_another_name(path):
    """Come by another name, as through a bind mount: with another lock and another log."""
    other = beside(path, ".other")
    other.symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(location.FileLocation, "resolve", classmethod(lambda cls, name: cls(name)))
        patch.setattr(location, "_mount_of", lambda _: None)
        with pytest.raises(StoreOwned, match="by another name"):
            SqliteStore.open(other, now=lambda: 0)


READING = {
    "a query of the host": within,
    "a copy by the host": lambda path: shutil.copyfile(path, beside(path, ".copied")),
    "the host reads all the files": lambda path: [
        beside(path, suffix).read_bytes() for suffix in ("", "-wal", "-shm", ".lock")
    ],
    "the host backs it up": lambda path: backup(path, beside(path, ".backup")),
    "the host looks at it": lambda path: StoreReader.open(path).close(),
    "another path is refused": refused_as_another_name,
}


@linux
@pytest.mark.parametrize("how", READING)
def test_whoever_only_reads_takes_no_log_from_the_engine(store, path, open_store, how):
    accept(store, create())
    log = beside(path, "-wal").stat().st_ino

    for number in range(1, 4):
        READING[how](path)
        outside(path)
        within(path)
        assert write_one(store, append(number, record(b"%d" % number))) == Appended(number + 1)
        with contextlib.suppress(OSError):
            beside(path, ".backup").unlink()
            beside(path, ".copied").unlink()
        beside(path, ".other").unlink(missing_ok=True)

    assert beside(path, "-wal").stat().st_ino == log
    assert records(path, open_store, store) == [b"{}", b"1", b"2", b"3"]


@linux
def test_without_the_locks_it_would_be_taken(path, open_store, monkeypatch):
    monkeypatch.setattr(file_locks, "_locked", lambda *_: True)
    store = open_store()
    accept(store, create())
    path.read_bytes()

    outside(path)

    assert not beside(path, "-wal").exists()


@linux
def test_the_journal_mode_stays_while_an_engine_is_there(store, path):
    path.read_bytes()  # SQLite's own lock is gone

    for ask in (within, outside):
        with contextlib.suppress(sqlite3.OperationalError, subprocess.CalledProcessError):
            ask(path, "PRAGMA journal_mode = DELETE")

    assert write_one(store, create()) == Appended(1)
    assert within(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_file_that_was_cut_is_noticed_though_nobody_had_looked_before(store, path, clock):
    accept(store, create())
    with path.open("r+b") as file:
        file.truncate(4096)
    clock.advance(1)

    with pytest.raises(StoreHalted, match="cut"):
        store.commit([append(1, record())])


@linux
def test_the_host_can_read_on_when_an_engine_is_closed(store, path, open_files):
    accept(store, create())
    with StoreReader.open(path) as reader:
        reader.read(ADA)
        store.close()
        # To close them now would take the reader's locks away.
        assert open_files(path.parent).count("flows.db") >= 2
        assert reader.read(ADA)

    assert open_files(path.parent) == []


# ------------------------------------------------------------------------------------------- rewriting
def fill(store, count=200):
    accept(store, create(), *[append(n, record(b"x" * 3000)) for n in range(1, count)])


@pytest.mark.parametrize("ask", [within, outside])
def test_a_vacuum_harms_nothing(store, path, clock, ask, caplog):
    fill(store)
    other_connection(path, "CREATE TABLE theirs AS SELECT data FROM record", "DROP TABLE theirs")
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    clock.advance(1)
    accept(store, append(200, record(b"before")))

    for number in range(201, 205):
        ask(path, "VACUUM")
        ask(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        clock.advance(1)
        assert write_one(store, append(number, record(b"after"))) == Appended(number + 1)
        store.checkpoint(idle=True)

    assert store.verify() == []
    assert "has become smaller" in caplog.text


def test_a_vacuum_whose_end_is_cut_off_by_a_checkpoint_of_ours_harms_nothing(store, path, clock):
    fill(store)
    other_connection(path, "CREATE TABLE theirs AS SELECT data FROM record", "DROP TABLE theirs")
    other = apsw.Connection(str(path))
    other.wal_autocheckpoint(0)
    other.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    clock.advance(1)
    accept(store, append(200, record()))
    other.execute("VACUUM").fetchall()
    other.close()
    accept(store, append(201, record()))
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    clock.advance(1)

    assert write_one(store, append(202, record())) == Appended(203)


def test_a_file_that_was_written_over_is_noticed_and_not_written_to(store, path, clock):
    fill(store)
    backup(path, copy := beside(path, ".backup"))
    fill_more = [append(n, record(b"y" * 3000)) for n in range(200, 400)]
    accept(store, *fill_more)
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    clock.advance(1)
    store.checkpoint(idle=True)
    path.write_bytes(copy.read_bytes())
    clock.advance(1)

    for _ in range(2):
        with pytest.raises(StoreHalted, match="written over"):
            store.commit([append(400, record())])
        with pytest.raises(StoreHalted, match="written over"):
            store.reopen()


@pytest.mark.parametrize("size", [0, 50, 4096])
def test_a_file_that_was_cut_stays_halted(store, path, clock, size):
    fill(store)
    store.checkpoint(idle=True)
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    clock.advance(1)
    store.checkpoint(idle=True)
    with path.open("r+b") as file:
        file.truncate(size)
    clock.advance(1)

    for _ in range(2):
        with pytest.raises(StoreHalted, match="cut to"):
            store.commit([append(200, record())])
        with pytest.raises(StoreHalted, match="cut to"):
            store.reopen()


def test_a_file_that_has_shrunk_and_cannot_be_read_halts_the_store(store, path, clock, monkeypatch):
    fill(store)
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    clock.advance(1)
    store.checkpoint(idle=True)
    with path.open("r+b") as file:
        file.truncate(4096)
    clock.advance(1)

    def fail(*_):
        raise OSError("injected")

    monkeypatch.setattr(file_locks.os, "pread", fail)
    with pytest.raises(StoreHalted, match="cannot be read: injected"):
        store.commit([append(200, record())])


# ------------------------------------------------------------------------------------- logs taken away
@pytest.mark.parametrize("taken", [("-wal",), ("-shm",), ("-wal", "-shm")])
@pytest.mark.parametrize("how", ["deleted", "moved away", "replaced by empty ones"])
def test_what_is_in_a_log_that_was_taken_away_is_saved(  # noqa: PLR0913, PLR0917 - what it takes
    store, path, open_store, clock, taken, how, caplog
):
    accept(store, create(), append(1, record(b"1")))
    for suffix in taken:
        file = beside(path, suffix)
        file.rename(beside(path, ".away" + suffix))
        if how == "deleted":
            beside(path, ".away" + suffix).unlink()
        elif how == "replaced by empty ones":
            file.touch(0o600)
    accept(store, append(2, record(b"2")))
    clock.advance(1)

    with pytest.raises(StoreHalted, match=r"flows\.db-(wal|shm) (is gone|was replaced)"):
        store.commit([append(3, record(b"3"))])
    store.reopen()

    assert "what was in the log is saved" in caplog.text
    assert write_one(store, append(3, record(b"3"))) == Appended(4)
    assert within(path) == [(4,)]
    assert records(path, open_store, store) == [b"{}", b"1", b"2", b"3"]


def test_a_log_that_somebody_else_has_begun_is_not_written_over(store, path, clock, caplog):
    accept(store, create(), append(1, record(b"1")))
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    accept(store, append(2, record(b"2")))
    for suffix in ("-wal", "-shm"):
        beside(path, suffix).unlink()
    within(path, "CREATE TABLE theirs (x)")
    clock.advance(1)
    with pytest.raises(StoreHalted):
        store.commit([])

    store.reopen()

    assert "commits may be lost" in caplog.text
    assert [r.data for r in store.read(ADA)] == [b"{}", b"1"]
    assert store.verify() == []


def test_a_reader_that_holds_a_log_that_was_taken_away_must_end_first(store, path, clock):
    accept(store, create())
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN").fetchall()
    reader.execute("SELECT * FROM record").fetchall()
    accept(store, append(1, record()))
    beside(path, "-wal").unlink()
    clock.advance(1)
    store._writer.connection.set_busy_timeout(0)
    with pytest.raises(StoreHalted):
        store.commit([])
    with pytest.raises(StoreHalted, match="must end first"):
        store.reopen()

    reader.close()
    store.reopen()

    assert write_one(store, append(2, record())) == Appended(3)


def test_a_log_that_was_taken_away_and_cannot_be_saved_is_told(store, path, clock, monkeypatch, caplog):
    accept(store, create())
    beside(path, "-wal").unlink()
    clock.advance(1)
    with pytest.raises(StoreHalted):
        store.commit([])
    store._writer.connection.close()

    store.reopen()

    assert "cannot be saved" in caplog.text


@linux
def test_an_index_that_only_readers_of_this_process_still_have_is_not_gone_on_with(store, path, clock):
    accept(store, create())
    with StoreReader.open(path) as reader:
        reader.read(ADA)
        beside(path, "-shm").unlink()
        within(path)  # makes another one
        clock.advance(1)
        with pytest.raises(StoreHalted, match="shm was replaced"):
            store.commit([])
        for _ in range(3):
            with pytest.raises(StoreHalted, match=r"index beside .* is not the one in use"):
                store.reopen()

    store.reopen()
    assert write_one(store, append(1, record())) == Appended(2)
    assert within(path) == [(2,)]


# ------------------------------------------------------------------------------------------- another file
def test_a_file_that_was_put_in_place_of_ours_is_gone_on_with(store, path, clock, open_store, caplog):
    accept(store, create())
    backup(path, beside(path, ".backup"))
    accept(store, append(1, record(b"only in the old one")), create(BOB))
    store.read(ADA)
    path.rename(beside(path, ".old"))
    beside(path, ".backup").rename(path)
    clock.advance(1)
    with pytest.raises(StoreHalted, match="replaced"):
        store.commit([append(2, record())])
    epoch = store.epoch

    store.reopen()

    assert store.epoch > epoch
    assert [r.data for r in store.read(ADA)] == [b"{}"]
    assert isinstance(write_one(store, append(2, record())), WrongExpectedVersion)
    assert write_one(store, append(1, record(b"new"))) == Appended(2)
    assert store.verify() == []
    # The old one is complete, and can be had again: what was in the log is in it.
    assert [r.data for r in open_store(beside(path, ".old")).read(ADA)][-1] == b"only in the old one"


def test_a_file_in_place_of_ours_that_cannot_be_a_store_keeps_it_halted(store, path, clock):
    accept(store, create())
    path.rename(beside(path, ".old"))
    path.write_bytes(b"no database" * 1000)
    clock.advance(1)
    with pytest.raises(StoreHalted, match="replaced"):
        store.commit([])
    for _ in range(2):
        with pytest.raises(StoreUnusable):
            store.reopen()

    path.unlink()
    with pytest.raises(StoreHalted, match="cannot be used"):
        store.reopen()
    beside(path, ".old").rename(path)
    store.reopen()

    assert write_one(store, append(1, record())) == Appended(2)


def test_a_file_of_a_later_owner_is_not_gone_on_with(store, path, clock, open_store):
    accept(store, create())
    backup(path, copy := beside(path, ".backup"))
    for _ in range(3):
        open_store(copy).close()
    copy.rename(path)
    clock.advance(1)
    with pytest.raises(StoreHalted, match="replaced"):
        store.commit([])

    with pytest.raises(StoreFenced):
        store.reopen()


def test_an_older_state_that_was_written_into_the_file_is_gone_on_with(store, path, open_store):
    accept(store, create())
    backup(path, copy := beside(path, ".backup"))
    store.close()
    store = open_store()
    accept(store, append(1, record(b"lost with what was restored")))
    source, target = apsw.Connection(str(copy)), apsw.Connection(str(path))
    with target.backup("main", source, "main") as restoring:
        restoring.step()
    source.close()
    target.close()

    with pytest.raises(StoreHalted, match="older state"):
        store.commit([append(2, record())])
    store.reopen()

    assert store.epoch == 3
    assert write_one(store, append(1, record())) == Appended(2)
    assert store.verify() == []


# ------------------------------------------------------------------------------------------- other writers
def test_what_somebody_else_writes_is_seen_before_the_next_commit(store, path, caplog):
    accept(store, create(), signal())
    for number in (1, 2):
        other_connection(
            path,
            "INSERT INTO record SELECT (SELECT max(position) + 1 FROM record), stream, version + 1, at, kind,"
            " chain, data FROM record WHERE stream = 1 ORDER BY version DESC LIMIT 1",
            "INSERT INTO word (word) VALUES ('theirs' || random())",
        )
        assert isinstance(write_one(store, append(number, record())), WrongExpectedVersion)
        assert write_one(store, create(f"{BOB}-{number}", record(kind=f"new-{number}"))) == Appended(1)

    assert within(path, "SELECT count(*), max(position) FROM record") == [(5, 5)]
    told = [entry for entry in caplog.records if "Another program has written" in entry.message]
    assert [entry.levelno for entry in told] == [logging.WARNING]


def test_a_store_in_memory_sees_others_as_well(clock, caplog):
    store = SqliteStore.open(":memory:", now=clock)
    accept(store, create())
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
    other = apsw.Connection(store._location.uri, flags=flags)
    other.execute("INSERT INTO word (word) VALUES ('theirs')").fetchall()
    other.close()

    assert write_one(store, append(1, record(kind="new"))) == Appended(2)
    assert "the store in memory" in caplog.text
    store.close()


def test_numbers_are_not_given_out_again_when_somebody_has_deleted_what_had_them(store, path):
    accept(store, create())
    accept(store, append(1, record()), append(2, record()))
    other_connection(path, "DELETE FROM record WHERE version = 3")

    assert write_one(store, append(2, record())) == Appended(3)
    assert store.read_all()[-1].position == 4


@pytest.mark.parametrize(
    ("harm", "cure"),
    [
        ("DROP INDEX stream_due", None),
        ("CREATE TRIGGER evil AFTER INSERT ON record BEGIN SELECT 1; END", "DROP TRIGGER evil"),
        ("CREATE UNIQUE INDEX evil ON record (position, at)", "DROP INDEX evil"),
    ],
)
def test_what_somebody_does_to_our_tables_halts_the_store_until_it_is_undone(store, path, harm, cure):
    accept(store, create())
    statement = within(path, "SELECT sql FROM sqlite_schema WHERE name = 'stream_due'")[0][0]
    other_connection(path, harm)
    with pytest.raises(StoreUnusable):
        store.commit([append(1, record())])
    with pytest.raises(StoreUnusable):
        store.reopen()

    other_connection(path, cure or statement)
    store.reopen()

    assert write_one(store, append(1, record())) == Appended(2)


def test_a_table_that_somebody_adds_meanwhile_does_not_matter(store, path):
    accept(store, create())
    tamper(path, "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")

    assert write_one(store, append(1, record())) == Appended(2)


def test_a_file_that_was_cut_is_not_made_longer_again_by_a_checkpoint(store, path, clock):
    fill(store)
    store._writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    clock.advance(1)
    store.checkpoint(idle=True)
    accept(store, *(append(n, record(b"y" * 5000)) for n in range(200, 1200)))
    with path.open("r+b") as file:
        file.truncate(0)

    with pytest.raises(StoreHalted, match="cut to"):
        store.checkpoint(idle=True)
    assert path.stat().st_size == 0


@pytest.mark.parametrize(
    "lose", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")], ids=["deleted", "emptied"]
)
def test_a_log_whose_file_is_gone_is_not_thrown_away(store, path, tmp_path, lose):
    accept(store, create(), append(1, record(b"later")))
    (tmp_path / "killed").mkdir()
    killed = tmp_path / "killed" / "flows.db"
    for suffix in ("", "-wal"):
        beside(killed, suffix).write_bytes(beside(path, suffix).read_bytes())
    original, log = killed.read_bytes(), beside(killed, "-wal").read_bytes()
    lose(killed)

    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"its log .* is still there"):
            SqliteStore.open(killed, now=lambda: 0)
    assert beside(killed, "-wal").read_bytes() == log

    killed.write_bytes(original)
    opened = SqliteStore.open(killed, now=lambda: 0)
    try:
        assert [r.data for r in opened.read(ADA)] == [b"{}", b"later"]
    finally:
        opened.close()
