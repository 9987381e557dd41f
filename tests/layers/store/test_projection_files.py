"""The file of a projection: what is in it, what may be done to it, and what becomes of it when that fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from persistasaurus.store import (
    ProjectionDamaged,
    ProjectionDatabase,
    QueryFailed,
    StoreError,
    StoreFull,
    StoreHalted,
    StoreUnusable,
)
from persistasaurus.store.sqlite.projection_database import check_schema, failure_of
from persistasaurus.store.sqlite.projection_file import (
    ProjectionFile,
    ProjectionState,
    query_projection,
    read_projection,
)
from persistasaurus.store.sqlite.projection_place import (
    FilePlace,
    MemoryPlace,
    ProjectionPlaces,
    projection_name,
    projections_beside,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = ProjectionState("sums", "code", "build", "it is new", 0, "", "following", "", 1)


@pytest.fixture
def place(tmp_path: Path) -> FilePlace:
    return FilePlace(tmp_path / "flows.db-projection-sums")


@pytest.fixture
def file(place: FilePlace) -> Iterator[ProjectionFile]:
    file = ProjectionFile.open(place)
    file.create(STATE, "CREATE TABLE sum (x)")
    yield file
    file.close()


def add(value: int, position: int) -> Any:
    def work(database: ProjectionDatabase) -> tuple[int, str]:
        database.execute("INSERT INTO sum VALUES (?)", (value,))
        return position, f"mark {position}"

    return work


def test_rows_and_position_are_written_together_and_read_by_anybody(
    file: ProjectionFile, place: FilePlace
) -> None:
    after = file.apply(add(3, 7), STATE, 5)

    assert (after.position, after.mark, after.at) == (7, "mark 7", 5)
    assert file.state() == after == read_projection(place.path)
    assert list(query_projection(place, "SELECT x FROM sum WHERE x > ?", (2,))) == [(3,)]
    assert os.stat(place.path).st_mode & 0o777 == 0o600  # noqa: PTH116


def test_whoever_has_an_older_position_writes_nothing(file: ProjectionFile, place: FilePlace) -> None:
    file.apply(add(3, 7), STATE, 5)

    with pytest.raises(StoreHalted, match="no longer as of position 0"):
        file.apply(add(4, 8), STATE, 6)
    assert list(query_projection(place, "SELECT x FROM sum")) == [(3,)]


def test_an_error_of_the_file_that_was_caught_is_raised_at_the_end(
    file: ProjectionFile, place: FilePlace
) -> None:
    def work(database: ProjectionDatabase) -> tuple[int, str]:
        with pytest.raises(StoreFull):
            database.execute("INSERT INTO sum VALUES (zeroblob(1000000))")
        return 7, ""

    connection = file._open
    connection.pragma("max_page_count", connection.pragma("page_count"))

    def raising(database: ProjectionDatabase) -> tuple[int, str]:
        work(database)
        raise ValueError("because of that")

    for attempt in (work, raising):
        with pytest.raises(StoreFull, match="the disk is full"):
            file.apply(attempt, STATE, 5)
    assert file.state() == STATE
    assert list(query_projection(place, "SELECT x FROM sum")) == []


def test_a_statement_after_the_transaction_was_rolled_back_is_refused(file: ProjectionFile) -> None:
    def work(database: ProjectionDatabase) -> tuple[int, str]:
        database._is_lent = False
        database._connection.execute("ROLLBACK", can_cache=False)
        database._is_lent = True
        database.execute("INSERT INTO sum VALUES (1)")
        return 7, ""

    with pytest.raises(QueryFailed, match="a statement has rolled back everything"):
        file.apply(work, STATE, 5)


def test_a_closed_file_is_not_used(file: ProjectionFile) -> None:
    file.close()
    file.close()

    with pytest.raises(StoreHalted, match="is closed"):
        file.state()


def test_what_a_forked_child_inherits_is_never_used_there(place: FilePlace) -> None:
    file = ProjectionFile.open(place)
    connection = file._connection
    file.die_after_fork()

    with pytest.raises(StoreHalted, match="is closed"):
        file.state()
    file.close()
    assert connection is not None
    connection.close()


def test_a_file_whose_own_table_is_gone_is_damaged(file: ProjectionFile, place: FilePlace) -> None:
    connection = apsw.Connection(str(place.path))
    connection.execute("DROP TABLE persistasaurus_projection")
    connection.close()

    with pytest.raises(ProjectionDamaged, match=f"{place}: no such table"):
        file.note("parked", "why", 1)


def test_a_file_of_a_newer_format_is_refused(file: ProjectionFile, place: FilePlace) -> None:
    file.close()
    connection = apsw.Connection(str(place.path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(StoreUnusable, match="it has format 99, and this code knows up to 1"):
        ProjectionFile.open(place)
    with pytest.raises(StoreUnusable, match=f"{place}: it has format 99"):
        read_projection(place.path)


def test_a_folder_in_its_place_is_refused(place: FilePlace) -> None:
    place.path.mkdir()

    with pytest.raises(StoreUnusable, match="is not a file"):
        ProjectionFile.open(place)


def test_a_file_that_cannot_be_made_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(StoreHalted, match="cannot be used"):
        ProjectionFile.open(FilePlace(tmp_path / "nowhere" / "sums"))


def test_what_is_set_aside_is_kept_with_its_log(file: ProjectionFile, place: FilePlace) -> None:
    file.apply(add(3, 7), STATE, 5)
    file.close()

    kept = Path(place.set_aside(12))
    assert not place.exists()
    assert read_projection(kept).position == 7
    assert place.set_aside(13).endswith("-damaged-13")  # there is nothing any more
    place.remove()


@pytest.mark.parametrize("is_file", [True, False])
def test_a_draft_takes_the_place_of_the_tables_as_a_whole(tmp_path: Path, *, is_file: bool) -> None:
    places = ProjectionPlaces(tmp_path / "flows.db" if is_file else None)
    place, draft_place = places.of("sums"), places.draft_of("sums")
    assert str(place) == (str(tmp_path / "flows.db-projection-sums") if is_file else "in memory")
    main, draft = ProjectionFile.open(place), ProjectionFile.open(draft_place)
    main.create(STATE, "CREATE TABLE sum (x)")
    before = main.apply(add(3, 7), STATE, 5)
    reader = place.connect_reader()
    assert reader.execute("SELECT x FROM sum").fetchall() == [(3,)]
    draft.create(STATE, "CREATE TABLE sum (x, y)")
    main.replace_by(draft)

    assert main.state() == STATE != before
    assert reader.execute("SELECT * FROM sum").fetchall() == []
    with pytest.raises(apsw.Error):
        reader.execute("INSERT INTO sum VALUES (1, 2)")
    for file in (main, draft):
        file.close()
    reader.close()


def test_what_is_in_memory_stays_until_it_is_removed() -> None:
    place = MemoryPlace()
    assert not place.exists()
    file = ProjectionFile.open(place)
    file.create(STATE, "CREATE TABLE sum (x)")
    file.close()

    assert place.exists()
    assert place.set_aside(1) == "nowhere"
    assert not place.exists()


def test_what_is_no_projection_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no projection at"):
        read_projection(tmp_path / "missing")
    (tmp_path / "empty").touch()
    with pytest.raises(StoreUnusable, match="has not been built yet"):
        read_projection(tmp_path / "empty")


def test_those_beside_a_store_are_found_by_their_names(tmp_path: Path) -> None:
    store = tmp_path / "a[b].db"
    for name in ("sums", "other_2", "sums-wal", "sums-draft", "sums-damaged-1", "2", "a.b"):
        store.with_name(f"a[b].db-projection-{name}").touch()
    (tmp_path / "ab.db-projection-x").touch()

    found = [projection_name(store, path) for path in projections_beside(store)]
    assert found == ["other_2", "sums"]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (apsw.FullError(), StoreFull),
        (apsw.CorruptError("x"), ProjectionDamaged),
        (apsw.NotADBError("x"), ProjectionDamaged),
        (apsw.BusyError("x"), StoreHalted),
        (apsw.LockedError("x"), StoreHalted),
        (apsw.IOError("x"), StoreHalted),
        (apsw.CantOpenError("x"), StoreHalted),
        (apsw.SQLError("x"), None),
        (apsw.ConstraintError("x"), None),
    ],
)
def test_errors_of_the_file_are_told_from_those_of_a_statement(
    error: apsw.Error, failure: type[StoreError] | None
) -> None:
    found = failure_of(error)

    assert (None if found is None else type(found)) is failure


def test_a_query_that_cannot_be_run_says_so(file: ProjectionFile, place: FilePlace) -> None:
    del file
    with pytest.raises(QueryFailed, match="no such table"):
        query_projection(place, "SELECT * FROM missing")
    with pytest.raises(StoreHalted):
        query_projection(FilePlace(place.path.with_name("missing")), "SELECT 1")


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE t (x)",
        "CREATE TABLE t (x INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (1)",
        "CREATE TABLE t (x); CREATE INDEX i ON t (x); CREATE VIEW v AS SELECT * FROM t",
        "CREATE TABLE t (x); CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM t; END",
        "CREATE VIRTUAL TABLE t USING fts5 (x); CREATE VIRTUAL TABLE b USING rtree (id, x, y)",
        "CREATE TABLE a AS SELECT 1 AS one",
    ],
)
def test_all_that_a_schema_may_need_is_allowed(schema: str) -> None:
    check_schema("p", schema)


@pytest.mark.parametrize(
    "schema", ["DROP TABLE t", "CREATE TABLE t (x); DROP TABLE t", "COMMIT", "SELECT 1", "VACUUM"]
)
def test_a_schema_does_nothing_else(schema: str) -> None:
    with pytest.raises(QueryFailed, match="the schema of projection 'p'"):
        check_schema("p", schema)
