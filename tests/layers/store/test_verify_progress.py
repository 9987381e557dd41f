"""Verifying tells how far it is, can be stopped anywhere, and keeps nobody from anything."""

from __future__ import annotations

import apsw
import pytest
from conformance.builders import ADA, accept, append, create, record, signal
from persistasaurus.store import SqliteStore, StoreHalted, StoreReader
from persistasaurus.store.sqlite import stream_scan, verify


class Stop(Exception):
    pass


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(verify, "_PAGE", 50)
    monkeypatch.setattr(stream_scan, "_PAGE", 50)
    monkeypatch.setattr(verify, "_INSTRUCTIONS", 500)
    monkeypatch.setattr(verify, "_ROWS_MEANWHILE", 10)


@pytest.fixture
def filled(store):
    accept(store, *[create(f"flow-{n}", *[record()] * 3) for n in range(200)])
    accept(store, *[signal(stream=f"flow-{n}") for n in range(200)])
    accept(store, append(3, record(), stream="flow-7", rejected=((8, "no"),)))
    return store


@pytest.fixture(params=["store", "reader"])
def looking(request, filled, path):
    if request.param == "store":
        yield filled
        return
    with StoreReader.open(path) as reader:
        yield reader


def test_progress_rises_from_nothing_to_all(looking):
    told = []

    assert looking.verify(lambda done, total: told.append((done, total))) == []

    assert told[0] == (0, 2 * (601 + 200 + 1))
    assert told[-1] == (1604, 1604)
    assert told[-2] == (1604, 1604)  # each row was counted
    assert len(told) > 20
    assert told == sorted(told)
    assert {total for _, total in told} == {1604}
    assert len({done for done, _ in told if 0 < done < 802}) > 2  # also while pages are looked at


def test_progress_is_told_no_more_when_all_was_looked_at(looking):
    told = []
    looking.verify(lambda *progress: told.append(progress))
    calls = len(told)

    assert len(looking.read_all()) > 500

    assert len(told) == calls


def test_an_empty_store_has_progress_too(store):
    told = []

    assert store.verify(lambda done, total: told.append((done, total))) == []
    assert told[0] == (0, 1)
    assert told[-1] == (1, 1)


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_it_can_be_stopped_at_any_time(looking, kind):
    calls = count_of_calls(looking)
    for last in range(1, calls + 1, 3):
        left = [last]

        def stop(done, total, left=left):
            left[0] -= 1
            if not left[0]:
                raise kind

        with pytest.raises(kind):
            looking.verify(stop)
    assert looking.verify() == []
    assert len(looking.read("flow-7")) == 4


def count_of_calls(looking):
    told = []
    looking.verify(lambda *progress: told.append(progress))
    return len(told)


def test_the_log_can_be_emptied_while_rows_are_looked_at(filled, path):
    log = path.with_name("flows.db-wal")
    emptied = []
    filled.checkpoint(idle=True)

    def write_on(done, total):
        if done <= total // 2:
            return
        accept(filled, append(filled.header("flow-1").version, record(), stream="flow-1"))
        filled._truncate(filled._writer)
        emptied.append(log.stat().st_size == 0)

    with StoreReader.open(path) as reader:
        assert reader.verify(write_on) == []
    assert len(emptied) > 10
    assert all(emptied)


def test_what_is_written_in_the_meantime_is_no_finding(filled, path):
    written = []

    def write_on(done, total):
        number = len(written)
        written.append(number)
        accept(filled, create(f"new-{number}", record()), signal(stream=f"new-{number}"))
        accept(filled, append(filled.header("flow-199").version, *[record()] * 9, stream="flow-199"))
        accept(
            filled, append(1, record(kind=f"kind-{number}"), stream=f"new-{number}", consumed=(201 + number,))
        )

    with StoreReader.open(path) as reader:
        assert reader.verify(write_on) == []
    assert len(written) > 20


@pytest.mark.parametrize("error", [apsw.BusyError, apsw.CantOpenError, apsw.NoMemError])
def test_what_says_nothing_about_the_file_is_no_finding(filled, path, monkeypatch, error):
    with StoreReader.open(path) as reader:

        def fail(question):
            raise error("injected")

        monkeypatch.setattr(reader, "_lent", fail)
        with pytest.raises(StoreHalted):
            reader.verify()


@pytest.mark.parametrize("stream", [1, 2, 77, 200])
def test_records_without_a_header_are_found_wherever_they_are(filled, path, open_store, stream):
    filled.close()
    other = apsw.Connection(str(path))
    other.execute("DELETE FROM stream WHERE id = ?", (stream,)).fetchall()
    other.close()

    findings = open_store().verify()

    assert [f.reason for f in findings] == [f"there are records of a stream {stream}, which has no header"]


def test_a_store_in_memory_is_verified(clock):
    store = SqliteStore.open(":memory:", now=clock)
    accept(store, create(ADA))
    assert store.verify() == []
    store.close()
