"""The locks on a store's own files: when somebody else has them, and where the system has none."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from contextlib import contextmanager

import pytest
from conformance.builders import accept, append, create, record
from persistasaurus.store import StoreHalted, StoreOwned, StoreReader, StoreUnusable
from persistasaurus.store.files import file_locks
from persistasaurus.store.files.file_locks import FileLocks
from persistasaurus.store.files.location import FileLocation

linux = pytest.mark.skipif(sys.platform != "linux", reason="they are Linux's")


@contextmanager
def locked_by_somebody(path, what):
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        mark = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, what.start, what.length, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, mark)
        yield
    finally:
        os.close(descriptor)


@linux
def test_a_file_that_has_an_owner_is_refused_whatever_lock_lies_beside_it(path, open_store, open_files):
    with locked_by_somebody(path, file_locks._OWNER):
        with pytest.raises(StoreOwned, match=r"whose lock is not the one beside it"):
            open_store()
        assert open_files(path.parent) == ["flows.db"]  # the test's own

    assert open_store().epoch == 1


@linux
def test_a_file_that_somebody_has_for_himself_alone_is_not_opened(path, open_store, monkeypatch):
    elsewhere = file_locks._Range(0x60000000, 1)  # SQLite itself would wait for the real one
    monkeypatch.setattr(file_locks, "_SHARED", elsewhere)
    with (
        locked_by_somebody(path, elsewhere),
        pytest.raises(StoreUnusable, match=r"exclusive lock on"),
    ):
        open_store()

    assert open_store().epoch >= 1


def without_platform(patch):
    patch.setattr(file_locks.sys, "platform", "darwin")


def without_kernel(patch):
    patch.setattr(file_locks.fcntl, "F_OFD_SETLK", 9999, raising=False)


@pytest.mark.parametrize("deprive", [without_platform, without_kernel])
def test_where_the_system_has_no_such_locks_a_store_is_opened_all_the_same(
    path, open_store, monkeypatch, deprive
):
    deprive(monkeypatch)
    store = open_store()
    accept(store, create())
    store.reopen()
    accept(store, append(1, record()))
    store._locks.die_after_fork()
    store.close()

    assert open_store().epoch == 3


def test_where_the_system_has_no_such_locks_a_file_that_shrinks_counts_as_cut(
    path, open_store, clock, monkeypatch
):
    without_platform(monkeypatch)
    store = open_store()
    with path.open("r+b") as file:
        file.truncate(4096)
    clock.advance(1)

    with pytest.raises(StoreHalted, match="cut to 4096 bytes"):
        store.commit([])


@linux
def test_a_descriptor_that_another_thread_has_closed_is_not_closed_again(store, path, monkeypatch):
    class Contested(list):
        def remove(self, item):
            super().remove(item)
            raise ValueError

    descriptor = os.open(path, os.O_RDWR)
    monkeypatch.setattr(file_locks, "_kept", Contested([("elsewhere", descriptor)]))
    file_locks.close_what_is_done_with()

    os.close(descriptor)


@linux
def test_what_is_given_back_is_given_back_once(path, open_files):
    location = FileLocation.resolve(path)
    location.create()
    locks = FileLocks(location)
    locks.own()
    locks.own()
    for _ in range(2):
        locks.release()

    assert open_files(path.parent) == []
    other = FileLocks(location)
    other.own()
    other.release()


@linux
def test_a_child_closes_its_copies_and_the_parents_locks_hold(store, path):
    inherited = FileLocks(store._location)
    inherited._file = os.dup(store._locks._file)
    inherited._index = os.dup(store._locks._index)
    inherited.die_after_fork()
    inherited.die_after_fork()

    other = os.open(path, os.O_RDWR)
    assert not file_locks._locked(other, fcntl.F_WRLCK, file_locks._OWNER)
    assert not file_locks._locked(other, fcntl.F_WRLCK, file_locks._SHARED)
    file_locks._close(str(path), other)


@linux
def test_descriptors_that_had_to_be_kept_are_closed_with_the_last_reader(store, path, open_files):
    reader = StoreReader.open(path)
    reader.headers()
    store.close()
    assert file_locks._kept

    reader.close()

    assert file_locks._kept == []
    assert open_files(path.parent) == []
