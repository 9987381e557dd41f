"""The store where the system beneath it refuses what it hardly ever refuses."""

import errno
import fcntl

import apsw
import pytest
from persistasaurus.store import (
    Append,
    Durability,
    HeaderChange,
    NewRecord,
    RecordCorrupt,
    SqliteStore,
    StoreUnusable,
    StreamState,
)
from persistasaurus.store.files import forking, ownership
from persistasaurus.store.files.location import FileLocation
from persistasaurus.store.files.ownership import Ownership
from persistasaurus.store.sqlite import connection

HEADER = HeaderChange("running", StreamState.OPEN, None)
BEGUN = Append("ada", 0, (NewRecord(1, "begun", b"1"),), HEADER, "flow")
NOBODYS = 999_999
"""A number that no open file has."""


def test_a_lock_that_the_system_cannot_give_is_told(tmp_path, monkeypatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)

    with pytest.raises(StoreUnusable, match="cannot lock"):
        Ownership.acquire(tmp_path / "flows.db.lock", 0)


def test_an_ownership_that_was_given_back_can_be_given_back_once_more(tmp_path, open_files) -> None:
    path = tmp_path / "flows.db.lock"
    first = Ownership.acquire(path, 0)
    first.release()
    assert open_files(tmp_path) == []
    first.release()
    first.forget()

    Ownership.acquire(path, 0).release()


def test_nobody_introduces_themselves_in_a_file_that_cannot_be_read() -> None:
    assert ownership.introduction(NOBODYS) == ""
    assert not ownership.is_marked(NOBODYS)


def test_where_marks_are_unknown_none_is_left_and_none_is_found(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ownership.sys, "platform", "darwin")
    path = tmp_path / "flows.db.lock"
    owner = Ownership.acquire(path, 0)

    with path.open("rb") as file:
        assert not ownership.is_marked(file.fileno())
        monkeypatch.undo()
        assert not ownership.is_marked(file.fileno())
    owner.release()


def test_everything_that_must_not_live_on_in_a_child_is_told(monkeypatch) -> None:
    class Mortal:
        is_dead = False

        def die_after_fork(self) -> None:
            self.is_dead = True

    mortal = Mortal()
    monkeypatch.setattr(forking, "_mortals", {mortal})
    forking._begin_anew()

    assert mortal.is_dead


def test_a_file_that_is_not_there_is_not_created_by_connecting(tmp_path) -> None:
    with pytest.raises(StoreUnusable, match="cannot open the store"):
        connection._opened(str(tmp_path / "none" / "flows.db"), apsw.SQLITE_OPEN_READWRITE, None)


def test_a_file_system_without_shared_memory_is_refused(tmp_path) -> None:
    class Stubborn:
        def pragma(self, name: str, value: object) -> str:
            return "delete"

    location = FileLocation.resolve(tmp_path / "flows.db")

    with pytest.raises(StoreUnusable, match="it stays in delete mode"):
        connection.prepare_to_write(Stubborn(), location)


def test_what_may_be_lost_is_written_all_the_same(tmp_path) -> None:
    path = tmp_path / "flows.db"
    store = SqliteStore.open(path, now=lambda: 1, durability=Durability.MAY_LOSE_LAST_COMMITS)
    assert store._writer.connection.pragma("synchronous") == 1  # a sync with each checkpoint, not each commit
    store.commit([BEGUN])
    store.close()

    store = SqliteStore.open(path, now=lambda: 1)
    assert [record.data for record in store.read("ada")] == [b"1"]
    store.close()


def test_nothing_has_become_of_a_header_of_a_stream_that_is_not_there() -> None:
    store = SqliteStore.open(":memory:", now=lambda: 1)

    assert store.resolve([Append("nobody", 1, (), HEADER)]) == [None]
    store.close()


def test_a_stream_that_has_lost_its_records_is_appended_to_no_more() -> None:
    store = SqliteStore.open(":memory:", now=lambda: 1)
    store.commit([BEGUN])
    store._writer.connection.execute("DELETE FROM record")
    store.reopen()

    (outcome,) = store.commit([Append("ada", 1, (NewRecord(2, "done", b"2"),))])
    assert isinstance(outcome, RecordCorrupt)
    store.close()
