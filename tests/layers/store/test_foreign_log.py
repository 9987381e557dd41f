"""The log of another store beside a killed one: it is refused, and nothing is changed."""

from __future__ import annotations

import shutil

import apsw
import pytest
from conformance.builders import ADA, AT, BOB, accept, create, record, signal
from persistasaurus.store import Append, NewRecord, SqliteStore, StoreUnusable
from store.damage import root_of


def opened(path):
    return SqliteStore.open(path, now=lambda: AT)


def killed(path, name, *, words=0):
    """Leave what a killed process leaves."""
    store = opened(path)
    if words:
        # So many that they take more than a page.
        records = tuple(NewRecord(AT, f"kind-{number:04d}" + "x" * 40, b"{}") for number in range(words))
        accept(store, create(name), Append(name, 1, records))
        store.close()
        store = opened(path)
    else:
        accept(store, create(name, record()), signal("k", b"1", stream=name))
    copy = path.with_name(f"killed-{path.name}")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    store.close()
    return copy


def log_of(path):
    return path.with_name(f"{path.name}-wal")


def names(path):
    store = opened(path)
    try:
        return [header.stream for header in store.headers()]
    finally:
        store.close()


def test_the_log_of_another_store_is_refused_and_nothing_is_changed(tmp_path):
    ours = killed(tmp_path / "ours.db", ADA)
    other = killed(tmp_path / "other.db", BOB)
    own_log = log_of(ours).read_bytes()
    shutil.copy(log_of(other), log_of(ours))
    before = ours.read_bytes(), log_of(ours).read_bytes()

    with pytest.raises(StoreUnusable, match="belongs to another store"):
        opened(ours)

    assert (ours.read_bytes(), log_of(ours).read_bytes()) == before
    log_of(ours).write_bytes(own_log)
    assert names(ours) == [ADA]


def test_a_store_with_its_own_log_is_opened_whoever_else_is_there(tmp_path):
    for words in (0, 300):
        assert names(killed(tmp_path / f"{words}.db", ADA, words=words)) == [ADA]


def test_a_store_that_was_made_without_a_name_takes_the_log_that_is_there(tmp_path):
    path = tmp_path / "old.db"
    opened(path).close()
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM word WHERE id = 0")
    connection.close()

    assert names(killed(path, ADA)) == [ADA]


def test_names_differ_and_lie_in_the_file_from_the_beginning(tmp_path):
    found = set()
    for number in range(3):
        store = opened(tmp_path / f"{number}.db")
        root = root_of(store.path, "word")
        image = store.path.read_bytes()[(root - 1) * 4096 : root * 4096]
        found.add(image[image.index(b"store ") :][:38])
        store.close()
    assert len(found) == 3
