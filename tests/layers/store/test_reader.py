"""A look from outside: the same answers, whoever has the store open, and nothing is changed by it."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from threading import Thread

import apsw
import pytest
from conformance.builders import ADA, BOB, ENDED, accept, append, create, header, record, signal
from persistasaurus.store import RecordCorrupt, StoreHalted, StoreReader, StoreUnusable, StreamNotFound
from persistasaurus.store.sqlite import schema
from store.damage import PAGE
from store.engines import TOLD, Other
from store.forked_child import in_forked_child, refusal
from store.test_opening import NEWER, tamper


@pytest.fixture
def engine(path):
    """A process that owns the store and commits when it is told to."""
    made = []

    def start(where=path):
        made.append(Other(TOLD, where))
        assert made[-1].hear() == "ready"
        return made[-1]

    yield start
    for other in made:
        other.kill()


@pytest.fixture
def open_reader(path):
    made = []

    def open_one(where=path):
        made.append(StoreReader.open(where))
        return made[-1]

    yield open_one
    for reader in made:
        reader.close()


def fill(store):
    """Write a bit of everything."""
    accept(store, create(ADA, *[record(b'{"number":%d}' % n, kind=f"kind-{n}") for n in range(5)]))
    accept(store, create(BOB, change=header("waiting", wake_at=2**50), kind="hello"))
    accept(store, *[signal(f"mail-{n}", stream=BOB) for n in range(3)])
    accept(store, append(1, stream=BOB, rejected=((1, "no"),)), create("done"), signal(stream="done"))
    accept(store, append(1, record(), stream="done", change=ENDED))
    return store


def contents(reader):
    streams = [h.stream for h in reader.headers()]
    return (
        reader.headers(),
        reader.headers(type="hello"),
        reader.headers(status="completed", limit=1),
        [reader.header(stream) for stream in streams],
        [reader.read(stream) for stream in streams],
        [reader.inbox(stream) for stream in streams],
        reader.load([*streams, "nobody"]),
        reader.read_all(after=2, limit=3),
        reader.due(2**60),
        reader.next_wake_at(),
        reader.dead_letters(),
        reader.verify(),
    )


def listing(path):
    return {file.name: file.stat().st_ino for file in path.parent.iterdir()}


def test_it_answers_what_the_store_answers(store, open_reader, path):
    truth = contents(fill(store))
    reader = open_reader()

    assert contents(reader) == truth
    assert reader.path == path
    assert reader.position() == 8
    assert reader.header("nobody") is None
    with pytest.raises(StreamNotFound):
        reader.read("nobody")
    store.close()
    assert contents(reader) == truth
    assert contents(open_reader()) == truth


@pytest.mark.parametrize("beside", [(), ("-wal",), ("-shm",), ("-wal", "-shm"), ("-wal", "-shm", ".lock")])
def test_it_creates_nothing(store, open_reader, path, beside):
    truth = contents(fill(store))
    store.close()
    for suffix in beside:
        path.with_name(path.name + suffix).unlink()
    before = listing(path), path.read_bytes()

    reader = open_reader()

    assert contents(reader) == truth
    assert list(reader.query("SELECT count(*) FROM flows")) == [(3,)]
    assert reader.data_version() == reader.data_version()
    assert reader.owner() is None
    reader.close()
    assert (listing(path), path.read_bytes()) == before


def test_a_store_in_a_folder_with_strange_letters_is_read_at_rest(store, path, open_reader, tmp_path):
    fill(store).close()
    other = tmp_path / "100 % ?immutable=0#ä" / "flows.db"
    other.parent.mkdir()
    shutil.copy(path, other)

    assert len(open_reader(other).headers()) == 3
    assert list(listing(other)) == ["flows.db"]


def test_it_reads_beside_an_engine_that_commits(engine, open_reader):
    other = engine()
    reader = open_reader()

    for number in range(1, 5):
        other.tell("commit")
        assert len(reader.read("told")) == number


def test_it_reads_what_a_killed_engine_has_left(engine, open_reader, path):
    other = engine()
    other.tell("commit")
    early = open_reader()
    other.tell("commit")
    other.kill()
    assert path.with_name("flows.db-wal").stat().st_size > 0

    for reader in (early, open_reader()):
        assert len(reader.read("told")) == 2
        assert reader.verify() == []
        assert reader.owner() is None


def test_it_reads_a_log_without_its_index(engine, open_reader, path, tmp_path):
    other = engine()
    other.tell("commit")
    other.kill()
    path.with_name("flows.db-shm").unlink()

    assert len(open_reader().read("told")) == 1


def test_it_goes_on_when_an_engine_opens_the_store(store, engine, open_reader, path):
    fill(store).close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    reader = open_reader()
    seen = [reader.data_version(), reader.position()]

    other = engine()
    other.tell("commit")
    assert reader.position() == seen[1] + 1
    assert reader.data_version() != seen[0]
    assert other.tell("close") == "1"
    assert len(reader.read("told")) == 1


def test_what_was_read_while_an_engine_opened_the_file_is_read_again(store, engine, open_reader, path):
    fill(store).close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    reader = open_reader()
    asked = []

    def question(connection):
        if not asked:
            other = engine()
            other.tell("commit")
        asked.append(connection)
        return connection.execute("SELECT count(*) FROM stream").get

    assert reader._lent(question) == 4
    assert len(asked) == 2


@pytest.fixture
def at_rest(store, open_reader, path):
    """Read a store that nobody has open."""
    fill(store).close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink()
    return open_reader()


def touch(path, numbers=count(1)):  # noqa: B008 - one for all
    """Leave the traces of somebody who has opened the file and closed it again."""
    os.utime(path, (0, next(numbers)))


def test_what_fails_while_somebody_has_the_file_open_is_asked_again(at_rest, path):
    answers = iter([RecordCorrupt(ADA, 1, "half old and half new"), StoreHalted("locked"), None])

    def question(connection):
        answer = next(answers)
        if answer is not None:
            touch(path)
            raise answer
        return "answered"

    assert at_rest._lent(question) == "answered"


def test_a_file_that_is_opened_again_and_again_while_it_is_read_is_told(at_rest, path):
    with pytest.raises(StoreHalted, match="opened and closed so often that it cannot be read"):
        at_rest._lent(lambda connection: touch(path))

    assert len(at_rest.headers()) == 3


def test_two_threads_that_see_at_once_that_the_file_was_opened_connect_anew_once(at_rest, path, monkeypatch):
    look = at_rest._file_state
    touch(path)

    def slowly():
        monkeypatch.undo()
        other = Thread(target=at_rest.headers)
        other.start()
        other.join(timeout=30)
        opened.append(at_rest._files)
        return look()

    opened = [at_rest._files]
    monkeypatch.setattr(at_rest, "_file_state", slowly)

    assert len(at_rest.headers()) == 3
    assert at_rest._files is opened[1]
    assert opened[0] is not opened[1]


def test_a_reader_that_is_closed_while_it_looks_connects_no_more(at_rest, path, monkeypatch):
    look = at_rest._file_state
    touch(path)

    def closing():
        monkeypatch.undo()
        at_rest.close()
        return look()

    monkeypatch.setattr(at_rest, "_file_state", closing)

    with pytest.raises(StoreHalted, match="closed"):
        at_rest.headers()


def test_a_reader_that_is_closed_while_it_looks_for_commits_watches_no_more(store, open_reader, monkeypatch):
    reader = open_reader(fill(store).path)
    look = reader._looked

    def closing():
        sight = look()
        reader.close()
        return sight

    monkeypatch.setattr(reader, "_looked", closing)

    with pytest.raises(StoreHalted, match="closed"):
        reader.data_version()
    assert reader._watch is None


def test_connections_to_a_file_that_was_opened_meanwhile_are_closed(at_rest, path):
    at_rest.headers()
    (connection,) = at_rest._files.connections._free
    touch(path)

    at_rest.headers()

    with pytest.raises(apsw.ConnectionClosedError):
        connection.pragma("user_version")


def test_the_engine_keeps_its_locks_when_a_reader_in_its_process_is_closed(store, path, open_reader):
    fill(store)
    reader = open_reader()
    reader.verify()
    assert list(reader.query("SELECT count(*) FROM flows")) == [(3,)]
    reader.close()

    # Whoever closes a file that nobody else has locked takes its log away.
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM word'); c.close()"
    Other(code, path).end()

    assert path.with_name("flows.db-wal").exists()
    accept(store, append(5, record()))


def test_what_is_no_store_is_refused_and_left_alone(path, open_reader, tmp_path):
    with pytest.raises(StoreUnusable, match="there is no store at"):
        open_reader()
    with pytest.raises(StoreUnusable, match="there is no store at"):
        open_reader(tmp_path / "nowhere" / "flows.db")
    with pytest.raises(StoreUnusable, match="not a file"):
        open_reader(tmp_path)
    for content, reason in (
        (b"", "is empty"),
        (b"x", "not an SQLite database"),
        (b"text " * 1000, "not an SQLite database"),
    ):
        path.write_bytes(content)
        with pytest.raises(StoreUnusable, match=reason):
            open_reader()
        assert path.read_bytes() == content
    assert listing(path).keys() == {"flows.db"}


def test_what_is_refused_is_not_kept_open(path, open_reader, open_files):
    path.write_bytes(b"text " * 1000)

    with pytest.raises(StoreUnusable) as refused:
        open_reader()

    assert open_files(path.parent) == []
    assert "not an SQLite database" in str(refused.value)


def test_a_path_that_leads_nowhere_is_refused(path, open_reader):
    path.symlink_to(path)

    for where in (path, "flows\0.db", "x" * 5000):
        with pytest.raises(StoreUnusable, match="cannot open"):
            open_reader(where)


def test_the_database_of_another_program_is_refused(path, open_reader):
    tamper(path, "CREATE TABLE theirs (x)")

    with pytest.raises(StoreUnusable, match="not a store"):
        open_reader()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE TRIGGER evil AFTER INSERT ON record BEGIN DELETE FROM record; END", "trigger 'evil'"),
        ("CREATE UNIQUE INDEX evil ON record (position, at)", "index 'evil'"),
        ("DROP VIEW flows", "lacks its view 'flows'"),
        (f"PRAGMA user_version = {NEWER}", f"schema {NEWER}, this code knows up to {NEWER - 1}"),
    ],
)
def test_a_store_with_another_schema_is_refused(store, path, open_reader, statement, reason):
    fill(store).close()
    tamper(path, statement)

    with pytest.raises(StoreUnusable, match=reason):
        open_reader()


def test_a_network_filesystem_and_an_old_sqlite_are_refused(store, open_reader, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("persistasaurus.store.files.location.filesystem_of", lambda directory: "nfs4")
        with pytest.raises(StoreUnusable, match="nfs4"):
            open_reader()
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(StoreUnusable, match=r"3\.40\.1"):
        open_reader()


@pytest.fixture
def first_release(open_store, path, monkeypatch):
    """A store as version 1 of the schema has written it."""
    with monkeypatch.context() as older:
        steps = schema.ladder()[:1]
        older.setattr(schema, "ladder", lambda: steps)
        fill(open_store()).close()
    return path


def test_a_store_of_an_older_schema_is_read_and_left_as_it_is(first_release, open_reader):
    before = first_release.read_bytes()
    reader = open_reader()

    assert reader.schema_version == 1
    assert len(contents(reader)[0]) == 3
    assert list(reader.query("SELECT flow_id, status FROM flows ORDER BY 1")) == [
        ("done", "completed"),
        ("signup-ada", "running"),
        ("signup-bob", "waiting"),
    ]
    assert len(list(reader.query("SELECT * FROM dead_letters"))) == 2
    assert first_release.read_bytes() == before


def test_a_reader_lives_through_a_migration(first_release, open_reader, open_store):
    reader = open_reader()
    before = contents(reader)

    open_store()

    assert reader.schema_version == NEWER - 1
    assert contents(reader) == before
    assert len(list(reader.query("SELECT * FROM flows"))) == 3


def test_data_version_tells_of_every_commit(store, engine, open_reader):
    reader = open_reader()
    seen = [reader.data_version()]
    for number in range(5):
        accept(store, create(f"flow-{number}"))
        seen.append(reader.data_version())
    store.close()
    other = engine()
    for _ in range(5):
        seen.append(reader.data_version())
        other.tell("commit")
    seen.append(reader.data_version())

    assert all(a != b for a, b in pairwise(seen))
    assert reader.data_version() == reader.data_version()


def test_reading_changes_no_data_version(store, open_reader):
    reader = open_reader(fill(store).path)
    before = reader.data_version()

    contents(reader)
    list(reader.query("SELECT * FROM steps"))

    assert reader.data_version() == before


def test_a_file_that_is_replaced_or_gone_is_told(store, open_reader, path):
    fill(store).close()
    reader = open_reader()
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)

    for use in (reader.headers, reader.data_version, lambda: reader.query("SELECT 1"), reader.verify):
        with pytest.raises(StoreHalted, match="replaced by another file"):
            use()
    path.unlink()
    with pytest.raises(StoreHalted, match="cannot be found"):
        reader.headers()


def test_a_file_that_was_cut_is_told_until_it_is_whole_again(store, open_reader, path):
    fill(store).close()
    whole = path.read_bytes()
    reader = open_reader()
    before = reader.data_version()
    os.truncate(path, len(whole) - 2 * PAGE)

    with pytest.raises(StoreUnusable, match="the file is damaged"):
        reader.data_version()
    with pytest.raises(StoreUnusable, match="the file is damaged"):
        open_reader()
    path.write_bytes(whole)

    assert reader.data_version() != before
    assert len(reader.headers()) == 3


def test_a_closed_reader_says_so(store, open_reader):
    reader = open_reader(fill(store).path)
    reader.data_version()
    _, watch = reader._watch
    for _ in range(2):
        reader.close()

    with pytest.raises(apsw.ConnectionClosedError):
        watch.pragma("data_version")
    uses = (
        reader.headers,
        reader.data_version,
        reader.owner,
        reader.verify,
        lambda: reader.query("SELECT 1"),
    )
    for use in uses:
        with pytest.raises(StoreHalted, match="closed"):
            use()


def test_a_reader_does_not_live_on_in_a_forked_child(store, open_reader):
    reader = open_reader(fill(store).path)
    answer = reader.query("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n")

    for use in (reader.headers, reader.data_version, reader.owner, lambda: reader.query("SELECT 1")):
        assert "forked" in in_forked_child(lambda use=use: refusal(use))
    assert in_forked_child(lambda: str(len(StoreReader.open(store.path).headers()))) == "3"
    assert next(answer) == (1,)
    answer.close()


def test_many_threads_read_at_once(store, open_reader):
    fill(store)
    reader = open_reader()
    truth = contents(reader)[:-1]

    def look(_):
        versions = []
        for _ in range(20):
            assert len(list(reader.query("SELECT * FROM flows"))) == 3
            versions.append(reader.data_version())
        return versions, contents(reader)[:-1]

    with ThreadPoolExecutor(8) as threads:
        for versions, found in threads.map(look, range(8)):
            assert versions == versions[:1] * 20
            assert found == truth


def test_rotten_bytes_are_told(store, path, open_reader):
    fill(store).close()
    image = bytearray(path.read_bytes())
    image[image.index(b'{"number":3}') + 10] ^= 1
    path.write_bytes(image)
    reader = open_reader()

    with pytest.raises(RecordCorrupt, match=r"record 4 .*checksum"):
        reader.read(ADA)
    assert [(f.stream, f.version) for f in reader.verify()] == [(ADA, 4)]
    for page in range(0, len(image), 4096):
        if ADA.encode() in image[page : page + 4096]:
            image[page : page + 8] = b"\xee" * 8
    path.write_bytes(image)
    assert all(header.damage for header in open_reader().headers())
    with pytest.raises(StoreUnusable, match="damaged"):
        open_reader().header(ADA)
    assert open_reader().verify()
