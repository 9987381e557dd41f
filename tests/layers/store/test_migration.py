"""A store of the first release becomes one of today: at once, in whole, and with nothing lost."""

from __future__ import annotations

import apsw
import pytest
from conformance.builders import ADA, BOB, ENDED, accept, append, create, record, signal, write_one
from persistasaurus.store import Appended, StoreReader, StoreUnusable
from persistasaurus.store.sqlite import schema
from store.test_opening import contents, tamper


@pytest.fixture
def first_release(open_store, path, monkeypatch):
    """A store as the first release has written it, with version 1 of the schema."""
    with monkeypatch.context() as older:
        steps = schema.ladder()[:1]
        older.setattr(schema, "ladder", lambda: steps)
        store = open_store()
        accept(store, create(ADA, record(b"1"), record(b"2"), record(b"3")), signal())
        accept(store, create(BOB), append(1, record(), stream=BOB, change=ENDED))
        store.close()
    return path


def version(path):
    tool = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return tool.pragma("user_version"), {
            name for (name,) in tool.execute("SELECT name FROM sqlite_schema")
        }
    finally:
        tool.close()


def test_a_store_of_the_first_release_is_brought_up_to_date(first_release, open_store):
    assert version(first_release)[0] == 1

    store = open_store()

    number, names = version(first_release)
    assert number == len(schema.ladder())
    assert names >= {"flows", "events", "steps", "signals", "timers", "dead_letters"}
    assert [r.data for r in store.read(ADA)] == [b"1", b"2", b"3"]
    assert write_one(store, append(3, record())) == Appended(4)
    assert store.verify() == []
    with StoreReader.open(first_release) as reader:
        assert list(reader.query("SELECT flow_id, inbox FROM flows")) == [(ADA, 1), (BOB, 0)]


def test_the_engine_itself_never_looks_into_a_view(first_release, open_store):
    store = open_store()

    with store._readers.connection() as reading:
        for connection in (store._writer.connection, reading):
            with pytest.raises(apsw.SQLError, match="prohibited"):
                connection.execute("SELECT * FROM flows").fetchall()


def test_a_store_of_the_first_release_with_a_planted_view_is_left_alone(first_release, open_store):
    tamper(first_release, "CREATE VIEW flows AS SELECT 1")
    before = contents(first_release)

    with pytest.raises(StoreUnusable, match="view 'flows'"):
        open_store()
    assert contents(first_release) == before


def test_a_migration_interrupted_at_any_write_is_completed_by_the_next_open(
    first_release, open_store, recorder
):
    image = first_release.read_bytes()
    for point in range(1, 100):
        first_release.write_bytes(image)
        first_release.with_name("flows.db-wal").write_bytes(b"")
        recorder.fail("wal", "write", lambda: apsw.IOError("injected"), at=point)
        try:
            open_store(vfs=recorder.vfs_name).close()
        except StoreUnusable:
            with StoreReader.open(first_release) as reader:
                assert reader.schema_version <= len(schema.ladder())
                assert len(list(reader.query("SELECT * FROM flows"))) == 2
                assert reader.verify() == []
        else:
            break
        finally:
            recorder.forgive()
        open_store().close()
        assert version(first_release)[0] == len(schema.ladder())
    assert point > 3
