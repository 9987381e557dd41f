from __future__ import annotations

import contextlib
import sys

import apsw
import pytest
from conformance.builders import ADA, accept, append, create, record, signal, write_one
from persistasaurus.store import Appended, SqliteStore, StoreReader, StoreUnusable
from persistasaurus.store.sqlite import connection, schema
from persistasaurus.store.tools.backup import backup
from store.test_requests import note_syncs

NEWER = len(schema.ladder()) + 1


def contents(path):
    return path.read_bytes(), {
        f.name for f in path.parent.iterdir() if not f.name.endswith((".lock", "-shm", "-wal"))
    }


def tamper(path, *statements, version=None):
    """Change the file as somebody with another SQLite would."""
    other = apsw.Connection(str(path))
    for statement in statements:
        other.execute(statement).fetchall()
    if version is not None:
        other.pragma("user_version", version)
    other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    other.close()


@pytest.fixture
def closed(store, path):
    """The path of a store that has been written to and closed."""
    accept(store, create(ADA, record(b"1"), record(b"2"), record(b"3")), signal())
    store.close()
    return path


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.52.0", "3.44.6"])
def test_an_sqlite_that_can_lose_commits_is_refused(path, open_store, monkeypatch, version):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)

    with pytest.raises(StoreUnusable, match=version):
        open_store()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("version", ["3.51.3", "3.53.0", "3.54.1", "4.0.0"])
def test_a_newer_sqlite_is_welcome(open_store, monkeypatch, version):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)

    assert open_store().epoch == 1


def test_a_store_of_a_newer_schema_is_refused_and_not_touched(closed, open_store):
    tamper(closed, "CREATE TABLE novelty (x)", version=NEWER)
    before = contents(closed)

    with pytest.raises(StoreUnusable, match=f"schema {NEWER}, this code knows up to {NEWER - 1}"):
        open_store()

    assert contents(closed) == before


def test_nothing_stays_open_of_a_store_that_is_refused(closed, open_store, open_files):
    tamper(closed, "CREATE TABLE novelty (x)", version=NEWER)
    with pytest.raises(StoreUnusable) as caught:
        open_store()

    assert open_files(closed.parent) == []
    assert caught.value.__traceback__ is not None  # whose frames would keep it


def test_an_unclean_store_of_a_newer_schema_is_refused_and_not_touched(closed, open_store):
    other = apsw.Connection(str(closed))
    other.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    other.pragma("user_version", 7)
    other.close()
    log = closed.with_name("flows.db-wal")
    before = (contents(closed), log.read_bytes())
    assert before[1]

    with pytest.raises(StoreUnusable, match="schema 7"):
        open_store()

    assert (contents(closed), log.read_bytes()) == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a database at all, just some text\n" * 50, "not an SQLite database"),
        (b"x", "not an SQLite database"),
        (b"SQLite format 3\x00" + b"\xff" * 4080, "not an SQLite database|cannot be read"),
    ],
)
def test_a_file_that_is_no_database_is_refused_and_not_touched(path, open_store, content, reason):
    path.write_bytes(content)

    with pytest.raises(StoreUnusable, match=reason):
        open_store()

    assert path.read_bytes() == content


def test_the_database_of_another_program_is_refused_and_not_touched(path, open_store):
    tamper(path, "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    before = contents(path)

    with pytest.raises(StoreUnusable, match="not a store"):
        open_store()

    assert contents(path) == before


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TRIGGER evil AFTER INSERT ON record BEGIN DELETE FROM record; END", "trigger 'evil'"),
        ("CREATE TRIGGER evil INSTEAD OF INSERT ON flows BEGIN DELETE FROM record; END", "trigger 'evil'"),
        ("CREATE UNIQUE INDEX evil ON record (position, at)", "index 'evil'"),
        ("CREATE INDEX evil ON record (at) WHERE version > 1", "index 'evil'"),
        ("CREATE INDEX evil ON record (data ->> '$.amount')", "index 'evil'"),
        ("ALTER TABLE record ADD COLUMN evil TEXT", "table 'record'"),
        ("DROP INDEX stream_due", "index 'stream_due'"),
        ("DROP TABLE dead_letter", "table 'dead_letter'"),
    ],
)
def test_a_schema_that_was_tampered_with_is_refused_and_not_touched(closed, open_store, statement, named):
    tamper(closed, statement)
    before = contents(closed)

    with pytest.raises(StoreUnusable, match=named):
        open_store()

    assert contents(closed) == before


ADDED = {
    "Litestream": (
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
        "CREATE TABLE _litestream_lock (id INTEGER)",
    ),
    "a table with all that belongs to it": (
        "CREATE TABLE theirs (x UNIQUE, y REFERENCES stream (id))",
        "CREATE UNIQUE INDEX theirs_y ON theirs (y) WHERE y > 1",
        "CREATE TRIGGER theirs_t AFTER INSERT ON theirs BEGIN DELETE FROM theirs; END",
        "CREATE VIEW theirs_v AS SELECT * FROM theirs JOIN flows",
        "CREATE TRIGGER theirs_i INSTEAD OF INSERT ON theirs_v BEGIN SELECT 1; END",
    ),
    "an index on a table of ours": (
        "CREATE INDEX by_time ON record (at DESC, kind)",
        "CREATE INDEX by_name ON stream (name COLLATE NOCASE)",
    ),
    "a search": (
        "CREATE VIRTUAL TABLE found USING fts5(text)",
        "INSERT INTO found VALUES ('ada')",
    ),
    "a counter": ("CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT)",),
    "statistics": ("ANALYZE",),
}


@pytest.mark.parametrize("what", ADDED)
def test_what_others_have_added_is_left_alone(closed, open_store, what):
    tamper(closed, *ADDED[what])
    added = additions(closed)

    store = open_store()
    assert write_one(store, append(3, record(b"4"))) == Appended(4)
    assert store.verify() == []
    store.close()

    backup(closed, copy := closed.with_name("copy.db"))
    assert additions(closed) == additions(copy) == added
    assert [r.data for r in open_store(copy).read(ADA)] == [b"1", b"2", b"3", b"4"]


def additions(path):
    with StoreReader.open(path) as reader:
        return reader.additions()


def test_who_looks_at_a_store_is_told_what_others_have_added(closed):
    tamper(closed, *ADDED["Litestream"])

    assert additions(closed) == ("table _litestream_lock", "table _litestream_seq")


@pytest.mark.parametrize("statement", ["CREATE TABLE Novelty (y)", "CREATE VIEW novelty AS SELECT 1"])
def test_a_name_that_a_migration_needs_and_others_have_taken_is_told(
    closed, newer_code, open_store, statement
):
    tamper(closed, statement)
    before = contents(closed)

    with pytest.raises(StoreUnusable, match=r"(?i)'novelty' of another program.*rename it"):
        open_store()

    assert contents(closed) == before


def test_an_older_store_to_which_others_have_added_something_is_migrated(closed, newer_code, open_store):
    tamper(closed, *ADDED["a table with all that belongs to it"])

    assert open_store()._writer.connection.pragma("user_version") == NEWER


def test_a_store_that_was_analyzed_is_opened(closed, open_store):
    tamper(closed, "ANALYZE")

    assert open_store().read(ADA)


def test_triggers_do_not_fire_even_if_they_get_in(closed, monkeypatch, open_store):
    tamper(closed, "CREATE TRIGGER evil AFTER INSERT ON record BEGIN DELETE FROM record; END")
    monkeypatch.setattr(schema, "check", lambda *_: None)
    store = open_store()

    accept(store, append(3, record(b"4")))

    assert len(store.read(ADA)) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_the_name_of_a_new_store_is_durable_before_anything_is_written_to_it(path, open_store, monkeypatch):
    synced = note_syncs(monkeypatch)
    open_store()

    assert path.parent in synced


def test_a_new_store_is_made_and_closed_with_few_syncs(path, open_store, recorder, monkeypatch):
    folders = note_syncs(monkeypatch)
    open_store(vfs=recorder.vfs_name).close()

    # The folder, for its name; the journal, by which the file is put into WAL mode; the header of the log,
    # and one transaction with the schema and the first epoch; the log, and the file that it is moved into.
    assert syncs(recorder) == ["journal", "journal", "db", "wal", "wal", "wal", "db"]
    assert folders == [path.parent]


def test_a_store_that_was_closed_is_opened_and_closed_with_one_commit(
    closed, open_store, recorder, monkeypatch
):
    folders = note_syncs(monkeypatch)
    open_store(vfs=recorder.vfs_name).close()

    # The log's header, and the epoch; then the log, and the file that it is moved into.
    assert syncs(recorder) == ["wal", "wal", "wal", "db"]
    assert folders == []


def syncs(recorder):
    return [file for operation, file, *_ in recorder.log if operation == "sync"]


def test_connections_are_hardened(store):
    writer = store._writer.connection
    with store._readers.connection() as reader:
        for one in (writer, reader):
            for switch, value in connection._SWITCHES:
                assert one.config(switch, -1) == value
            assert one.pragma("cell_size_check") == 1
            assert one.pragma("mmap_size") in (0, None)
            with pytest.raises(apsw.Error):
                one.execute("SELECT load_extension('x')").fetchall()
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute("DELETE FROM record").fetchall()
    settings = ("journal_mode", "synchronous", "locking_mode", "wal_autocheckpoint", "journal_size_limit")
    assert [writer.pragma(name) for name in settings] == ["wal", 2, "normal", 0, 64 * 1024 * 1024]


def test_connections_of_the_host_are_left_alone(store):
    assert apsw.connection_hooks == []


def test_an_empty_file_becomes_a_store(path, open_store):
    path.touch()

    assert open_store().epoch == 1


def test_a_creation_that_was_interrupted_is_completed(path, open_store):
    tamper(path, "PRAGMA journal_mode = WAL")

    assert open_store().epoch == 1


def test_writes_of_one_batch_follow_each_other_also_on_a_stream_that_was_there_before(closed, open_store):
    outcomes = open_store().commit([append(3, record()), append(4, record())])

    assert outcomes == [Appended(4), Appended(5)]


NEXT_STEP = "CREATE TABLE novelty (x INTEGER) STRICT; INSERT INTO novelty SELECT count(*) FROM record;"


@pytest.fixture
def newer_code(monkeypatch):
    steps = (*schema.ladder(), NEXT_STEP)
    monkeypatch.setattr(schema, "ladder", lambda: steps)
    return steps


def test_a_new_store_climbs_the_whole_ladder(path, newer_code, open_store):
    store = open_store()

    assert store._writer.connection.pragma("user_version") == NEWER
    assert store._writer.connection.execute("SELECT x FROM novelty").get == 0


def test_an_older_store_is_migrated_forwards(closed, newer_code, open_store):
    store = open_store()

    assert store._writer.connection.pragma("user_version") == NEWER
    assert store._writer.connection.execute("SELECT x FROM novelty").get == 3
    assert [r.data for r in store.read(ADA)] == [b"1", b"2", b"3"]
    assert write_one(store, append(3, record())) == Appended(4)


def test_an_older_store_that_was_tampered_with_is_not_migrated(closed, newer_code, open_store):
    tamper(closed, "CREATE TRIGGER evil AFTER INSERT ON record BEGIN SELECT 1; END")
    before = contents(closed)

    with pytest.raises(StoreUnusable, match="evil"):
        open_store()

    assert contents(closed) == before


def test_a_migration_that_fails_leaves_the_version_before(closed, open_store, monkeypatch):
    ladder = schema.ladder()
    with monkeypatch.context() as newer:
        # The second statement fails, when the first has been executed.
        newer.setattr(schema, "ladder", lambda: (*ladder, NEXT_STEP + "INSERT INTO nowhere VALUES (1);"))
        newer.setattr(schema, "_expected", lambda steps: schema._objects(reference(ladder)))
        with pytest.raises(StoreUnusable):
            open_store()

    assert [r.data for r in open_store().read(ADA)] == [b"1", b"2", b"3"]


def reference(steps):
    made = apsw.Connection(":memory:")
    schema.migrate(made, steps)
    return made


def test_a_migration_interrupted_at_any_write_is_completed_by_the_next_open(
    closed, newer_code, open_store, recorder, tmp_path
):
    image = closed.read_bytes()
    for point in range(1, 100):
        closed.write_bytes(image)
        closed.with_name("flows.db-wal").write_bytes(b"")
        recorder.fail("wal", "write", lambda: apsw.IOError("injected"), at=point)
        try:
            store = open_store(vfs=recorder.vfs_name)
        except StoreUnusable:
            store = open_store()
            reached = False
        else:
            reached = True
        assert store._writer.connection.execute("SELECT x FROM novelty").get == 3
        assert [r.data for r in store.read(ADA)] == [b"1", b"2", b"3"]
        store.close()
        recorder.forgive()
        if reached:
            break
    assert point > 5


def test_positions_are_not_used_again_when_their_records_are_gone(closed, open_store):
    last = 3
    tamper(closed, "DELETE FROM record WHERE version > 1")

    store = open_store()
    accept(store, create("new"))

    assert store.read_all()[-1].position > last


def test_any_tool_reads_the_bodies_as_json(store, path):
    accept(store, create(ADA, record(b'{"name":"\xc3\xa5da","n":[1,2]}')), signal(data=b'{"ok":true}'))
    tool = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert tool.execute(
            "SELECT data ->> '$.name', data ->> '$.n[1]', typeof(data) FROM record"
        ).fetchall() == [("åda", 2, "text")]
        assert tool.execute("SELECT data ->> 'ok' FROM inbox").get == 1
        by_hand = [line[4:] for line in schema.ladder()[0].splitlines() if line.startswith("--   ")]
        assert tool.execute("\n".join(by_hand)).fetchall() == [
            (1, "2025-10-09 08:53:20", "step_completed", '{"name":"åda","n":[1,2]}')
        ]
    finally:
        tool.close()


def test_a_waiting_flow_costs_at_most_600_bytes(store, path):
    data = b'{"' + b"x" * 140 + b'":12345}'
    assert len(data) == 150
    for batch in range(10):
        numbers = range(1000 * batch, 1000 * (batch + 1))
        accept(
            store,
            *[
                create(
                    f"{number * 2654435761 % 2**32:010d}-signup", record(data), record(data, kind="awaited")
                )
                for number in numbers
            ],
        )
    store.close()

    assert path.stat().st_size / 10_000 <= 600


def test_a_store_in_memory_leaves_no_file(tmp_path, monkeypatch, clock):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore.open(":memory:", now=clock)
    accept(store, create())
    assert store.path is None
    store.close()

    assert list(tmp_path.iterdir()) == []


def test_stores_in_memory_have_nothing_in_common(clock):
    first, second = (SqliteStore.open(":memory:", now=clock) for _ in range(2))
    accept(first, create())

    assert second.header(ADA) is None
    first.close()
    second.close()


@pytest.mark.parametrize("kind", ["junk", "another database", "of a newer version"])
def test_an_error_says_which_file_it_is_about(tmp_path, kind):
    path = tmp_path / "mine.db"
    if kind == "junk":
        path.write_bytes(b"junk" * 5000)
    elif kind == "another database":
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.execute("CREATE TABLE x(y)")
    else:
        SqliteStore.open(path, now=lambda: 1).close()
        with contextlib.closing(apsw.Connection(str(path))) as other:
            other.pragma("user_version", 99)
    for open_it in (lambda: SqliteStore.open(path, now=lambda: 1), lambda: StoreReader.open(path)):
        with pytest.raises(StoreUnusable) as refused:
            open_it()
        assert str(refused.value).count(str(path)) == 1
