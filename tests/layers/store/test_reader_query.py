"""Statements of the user's: they read, and can do nothing else."""

from __future__ import annotations

import os
import signal as signals
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Thread
from time import monotonic
from weakref import WeakSet

import apsw
import pytest
from conformance.builders import ADA, accept, append, create, record
from persistasaurus.store import QueryFailed, QueryInterrupted, StoreHalted, StoreReader, StoreUnusable
from persistasaurus.store.sqlite import query_rows as rows
from persistasaurus.store.sqlite import reader as module
from persistasaurus.store.sqlite import schema
from store.damage import spoil_page_with
from store.engines import Other
from store.test_opening import NEWER, tamper

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT {} FROM n"


@pytest.fixture
def reader(store, path):
    accept(store, create(ADA, *[record(b'{"n":%d}' % n) for n in range(20)]))
    with StoreReader.open(path) as reader:
        yield reader


def test_rows_come_with_the_names_of_their_columns(reader):
    found = reader.query("SELECT version AS v, data ->> '$.n' AS n FROM record WHERE version > ?", (18,))

    assert found.columns == ("v", "n")
    assert list(found.rows) == [(19, 18), (20, 19)]
    assert list(found) == []


def test_an_answer_without_rows_has_columns(reader):
    found = reader.query("SELECT * FROM dead_letters")

    assert found.columns[:2] == ("id", "flow_id")
    assert list(found) == []


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM record",
        "UPDATE stream SET wake_at = 1",
        "INSERT INTO word VALUES (99, 'x')",
        "WITH x AS (SELECT 1) INSERT INTO word SELECT 99, 'y'",
        "DROP VIEW flows",
        "CREATE TABLE evil (x)",
        "CREATE TEMP TABLE evil (x)",
        "CREATE TEMP VIEW evil AS SELECT 1",
        "CREATE TEMP TRIGGER evil AFTER INSERT ON record BEGIN SELECT 1; END",
        "ALTER TABLE record ADD COLUMN x",
        "ATTACH ':memory:' AS other",
        "ATTACH '/etc/passwd' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT x",
        "ANALYZE",
        "REINDEX",
        "PRAGMA query_only = OFF",
        "PRAGMA user_version = 7",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA writable_schema = ON",
        "PRAGMA trusted_schema = ON",
        "PRAGMA data_store_directory = 'x'",
        "PRAGMA optimize",
        "SELECT * FROM pragma_journal_mode",
        "SELECT load_extension('evil')",
        "SELECT writefile('evil', 'x')",
        "SELECT fts3_tokenizer('simple', x'00')",
        "CREATE VIRTUAL TABLE temp.evil USING fts5(x)",
    ],
)
def test_nothing_but_reading_is_allowed(reader, path, statement, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.name != "flows.db-shm"}

    with pytest.raises(QueryFailed):
        list(reader.query(statement))

    after = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.name != "flows.db-shm"}
    assert after == before


def test_each_defence_holds_by_itself(reader, monkeypatch):
    for attempt in ("DELETE FROM record", "PRAGMA user_version = 7", "ATTACH 'other.db' AS other"):
        with monkeypatch.context() as lax:
            lax.setattr(rows, "_authorized", lambda *_: apsw.SQLITE_OK)
            with pytest.raises(QueryFailed):
                reader.query(attempt)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT nonsense FROM flows", "nonsense"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT ?", "bindings"),
        ("", "nothing in it"),
        ("-- nothing", "nothing in it"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("SELECT 1; DELETE FROM record", "one statement at a time"),
        ("SELECT CAST(x'ff' AS TEXT)", "not UTF-8"),
        ("SELECT json('{')", "the statement cannot be run"),
        ("SELECT 1 \0; DELETE FROM record", "statement"),
        ("DELETE FROM record", "only reading is allowed"),
    ],
)
def test_what_is_wrong_with_a_statement_is_told(reader, statement, reason):
    with pytest.raises(QueryFailed, match=reason):
        list(reader.query(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1;",
        "SELECT 1; -- done",
        "/* one */ SELECT 1 -- done\n;\n/* two */ ;",
        "VALUES (1)",
        "WITH x(y) AS (VALUES (1)) SELECT y FROM x",
        "SELECT length('-- ; ') - 4",
        "SELECT value FROM json_each('[1]')",
        "SELECT 1 FROM pragma_table_info('flows') WHERE name = 'flow_id'",
    ],
)
def test_everything_that_reads_is_allowed(reader, statement):
    assert list(reader.query(statement)) == [(1,)]


@pytest.mark.parametrize("how", ["close", "interrupt"])
def test_an_answer_is_let_go_of_before_its_end_also_where_a_remark_follows_the_statement(reader, how):
    answer = reader.query(ENDLESS.format("x") + "; -- and so on")
    assert next(answer) == (1,)
    getattr(answer, how)()

    with pytest.raises(QueryInterrupted) if how == "interrupt" else nullcontext():
        assert list(answer) == []


INTRUDER = "CREATE TRIGGER intruder AFTER INSERT ON record BEGIN SELECT 1; END"


def test_a_statement_sees_the_store_as_it_was_when_its_schema_was_looked_at(reader, path, monkeypatch):
    real = schema.provide_views

    def provide(*arguments):
        real(*arguments)
        other = apsw.Connection(str(path))
        other.execute(INTRUDER).fetchall()
        other.close()

    monkeypatch.setattr(schema, "provide_views", provide)
    statement = "SELECT count(*) FROM sqlite_schema WHERE name = 'intruder'"
    assert list(reader.query(statement)) == [(0,)]
    with pytest.raises(StoreUnusable, match="intruder"):
        reader.query(statement)


def test_nothing_stays_open_of_a_statement_that_is_not_put(store, path, monkeypatch):
    made, real = [], module._OpenFiles.connect
    monkeypatch.setattr(module._OpenFiles, "connect", lambda files: made.append(real(files)) or made[-1])
    store.close()
    with StoreReader.open(path) as reader:
        tamper(path, INTRUDER)
        with pytest.raises(StoreUnusable, match="intruder"):
            reader.query("SELECT 1")

        with pytest.raises(apsw.ConnectionClosedError):
            made[-1].pragma("user_version")


def test_what_comes_behind_a_statement_is_looked_at_quickly(reader):
    began = monotonic()
    with pytest.raises(QueryFailed, match="one statement"):
        reader.query("SELECT 1;" + "/**/" * 10_000 + "x")
    assert monotonic() - began < 5


def test_plans_and_pragmas_that_tell_are_allowed(reader):
    assert list(reader.query("PRAGMA user_version")) == [(NEWER - 1,)]
    assert len(list(reader.query("PRAGMA table_info(flows)"))) == 11
    assert list(reader.query("EXPLAIN QUERY PLAN SELECT * FROM flows"))
    assert ("flows", "view") in {row[1:3] for row in reader.query("PRAGMA table_list")}


def test_a_view_of_somebody_elses_can_do_no_more_than_a_statement(reader, store, path):
    store.close()
    tamper(path, "CREATE VIEW evil AS SELECT load_extension('evil')", "CREATE VIEW theirs AS SELECT 1 AS x")

    assert list(reader.query("SELECT count(*) FROM flows JOIN theirs")) == [(1,)]
    with pytest.raises(QueryFailed):
        list(reader.query("SELECT * FROM evil"))


def test_a_view_that_was_changed_later_is_refused(reader, store, path):
    store.close()
    tamper(path, "DROP VIEW flows", "CREATE VIEW flows AS SELECT 1 AS flow_id")

    with pytest.raises(StoreUnusable, match="view 'flows'"):
        reader.query("SELECT * FROM flows")


def test_a_store_that_a_newer_engine_has_taken_on_is_refused(reader, store, path):
    store.close()
    tamper(path, version=NEWER)

    with pytest.raises(StoreUnusable, match=f"schema {NEWER}"):
        reader.query("SELECT 1")


def test_only_connections_that_have_compared_the_schema_look_into_views(reader):
    with pytest.raises(apsw.SQLError, match="prohibited"):
        reader._lent(lambda connection: connection.execute("SELECT * FROM flows"))


def test_a_long_answer_is_the_store_as_of_one_commit(reader, store):
    answer = reader.query("SELECT a.version FROM record a, record b, record c")
    first = next(answer)
    accept(store, append(20, record(), record()))

    assert 1 + sum(1 for _ in answer) == 20**3
    assert first == (1,)
    assert next(reader.query("SELECT count(*) FROM record")) == (22,)


def test_only_a_long_answer_keeps_the_log_from_being_emptied(reader, store, path):
    short = reader.query("SELECT * FROM record")
    store._truncate(store._writer)
    assert path.with_name("flows.db-wal").stat().st_size == 0

    accept(store, append(20, record()))
    with reader.query("SELECT 1 FROM record a, record b, record c") as long:
        next(long)
        store._truncate(store._writer)
        assert path.with_name("flows.db-wal").stat().st_size > 0
    store._truncate(store._writer)

    assert path.with_name("flows.db-wal").stat().st_size == 0
    assert len(list(short)) == 20


def test_a_long_answer_that_was_read_to_its_end_keeps_the_log_no_longer(reader, store, path):
    answer = reader.query("SELECT 1 FROM record a, record b, record c")
    assert sum(1 for _ in answer) == 20**3

    store._truncate(store._writer)

    assert path.with_name("flows.db-wal").stat().st_size == 0


def test_a_statement_that_fails_keeps_no_log(reader, store, path):
    with pytest.raises(QueryFailed) as failed:
        reader.query("SELECT json('{') FROM record")

    store._truncate(store._writer)

    assert path.with_name("flows.db-wal").stat().st_size == 0
    assert "the statement cannot be run" in str(failed.value)


def test_a_statement_that_runs_away_is_stopped_from_another_thread(reader):
    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(reader.query, ENDLESS.format("count(*)")) for _ in range(2)]
        while not all(future.done() for future in running):
            reader.interrupt()
        for future in running:
            assert isinstance(future.exception(), QueryInterrupted)


def test_to_interrupt_while_others_ask_is_no_error(reader, monkeypatch):
    # Between any two of the answers that are to be interrupted, another thread asks something new.
    class Slow(WeakSet):
        def __iter__(self):
            for answer in super().__iter__():
                yield answer
                asking = Thread(target=lambda: list(reader.query("SELECT 1")))
                asking.start()
                asking.join(0.01)

    monkeypatch.setattr(reader, "_answers", Slow())
    kept = [reader.query(ENDLESS.format("x")) for _ in range(3)]

    reader.interrupt()

    for answer in kept:
        with pytest.raises(QueryInterrupted):
            list(answer)


def test_an_answer_that_never_ends_is_stopped_from_another_thread(reader):
    answer = reader.query(ENDLESS.format("x"))
    stopping = Thread(target=lambda: [next(reader.query("SELECT 1")), answer.interrupt()])
    stopping.start()

    with pytest.raises(QueryInterrupted):
        for _ in answer:
            pass
    stopping.join()
    assert list(answer) == []


def test_ctrl_c_stops_a_statement_that_runs_away(path, store):
    code = f"""
import sys
from persistasaurus.store import StoreReader
reader = StoreReader.open(sys.argv[1])
try:
    print("ready", flush=True)
    reader.query({ENDLESS.format("count(*)")!r})
except KeyboardInterrupt:
    print("stopped", flush=True)
print(len(reader.headers()), flush=True)
"""
    with Other(code, path) as other:
        assert other.hear() == "ready"
        os.kill(other.process.pid, signals.SIGINT)

        assert other.hear() == "stopped"
        assert other.end() == "0"


def test_closing_the_reader_ends_its_answers(reader):
    answer = reader.query(ENDLESS.format("x"))
    reader.close()

    with pytest.raises(QueryInterrupted):
        sum(1 for _ in answer)


@pytest.mark.parametrize("limit", [8000, 1000])
def test_a_file_that_is_opened_while_it_is_queried_is_told(store, path, reader, limit):
    store.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    answer = reader.query("SELECT 1 FROM record a, record b, record c LIMIT ?", (limit,))
    other = sqlite3.connect(path)
    other.execute("SELECT * FROM word").fetchall()

    with pytest.raises(StoreHalted, match="try again"):
        list(answer)
    other.close()


def test_a_file_that_is_opened_before_a_short_answer_is_complete_is_told(store, path, reader, monkeypatch):
    store.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()

    def let_query(connection, steps):
        real(connection, steps)
        os.utime(path)

    real = module.let_query
    monkeypatch.setattr(module, "let_query", let_query)

    with pytest.raises(StoreHalted, match="try again"):
        reader.query("SELECT count(*) FROM record")
    monkeypatch.undo()
    assert list(reader.query("SELECT count(*) FROM record")) == [(20,)]


def test_a_page_that_cannot_be_read_is_not_the_fault_of_the_statement(store, path, reader):
    accept(store, *[create(f"flow-{n}", record(b"x" * 1000 + b"%d" % n)) for n in range(100)])
    store.close()
    spoil_page_with(path, b"x" * 1000 + b"50")

    answer = reader.query("SELECT max(length(data)) FROM record")
    assert list(answer) == [(1002,)]
    assert "of record" in answer.damage
    untouched = reader.query("SELECT count(*) FROM stream")
    assert (list(untouched), untouched.damage) == ([(101,)], None)


def test_a_page_that_cannot_be_read_behind_the_first_rows_ends_the_answer(store, path, reader):
    accept(store, *[create(f"flow-{n:04d}", record(b"x" * 1000 + b"%04d" % n)) for n in range(1200)])
    store.close()
    spoil_page_with(path, b"x" * 1000 + b"1150")

    with pytest.raises(StoreUnusable, match="the file is damaged"):
        list(reader.query("SELECT data FROM record NOT INDEXED"))


def test_the_views_of_an_older_store_are_this_connections_own(open_store, path, monkeypatch):
    with monkeypatch.context() as older:
        steps = schema.ladder()[:1]
        older.setattr(schema, "ladder", lambda: steps)
        store = open_store()
        accept(store, create(ADA))
    with StoreReader.open(path) as reader:
        assert list(reader.query("SELECT flow_id FROM flows")) == [(ADA,)]
        assert list(reader.query("SELECT count(*) FROM sqlite_schema WHERE type = 'view'")) == [(0,)]
        with pytest.raises(QueryFailed):
            reader.query("DROP VIEW temp.flows")
