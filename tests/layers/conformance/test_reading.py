from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance.builders import ADA, AT, BOB, accept, append, create, record
from persistasaurus.store import Record, StreamNotFound


def test_a_record_comes_back_as_it_was_written(store):
    accept(store, create(ADA, record(b'{"id":1}', kind="step_completed", at=AT + 3)))

    assert store.read(ADA) == [Record(1, AT + 3, "step_completed", b'{"id":1}')]


def test_reading_an_unknown_stream_is_refused(store):
    with pytest.raises(StreamNotFound, match="nobody"):
        store.read("nobody")


@pytest.mark.parametrize(
    ("after", "limit", "versions"),
    [
        (0, None, [1, 2, 3, 4, 5]),
        (2, None, [3, 4, 5]),
        (0, 2, [1, 2]),
        (2, 2, [3, 4]),
        (4, 9, [5]),
        (5, None, []),
        (9, None, []),
        (0, 0, []),
        (2, 0, []),
    ],
)
def test_a_part_of_a_stream_is_read(store, after, limit, versions):
    accept(store, create(ADA, *[record(b"%d" % n) for n in range(1, 6)]))

    records = store.read(ADA, after=after, limit=limit)

    assert [r.version for r in records] == versions
    assert [r.data for r in records] == [b"%d" % version for version in versions]


def test_all_records_are_read_in_the_order_of_their_commits(store):
    accept(store, create(ADA, record(b"1")), create(BOB, record(b"2")))
    accept(store, append(1, record(b"3"), stream=BOB), append(1, record(b"4"), record(b"5")))

    found = store.read_all()

    assert [(g.stream, g.record.version, g.record.data) for g in found] == [
        (ADA, 1, b"1"),
        (BOB, 1, b"2"),
        (BOB, 2, b"3"),
        (ADA, 2, b"4"),
        (ADA, 3, b"5"),
    ]


def test_positions_rise(store):
    accept(store, create(ADA, *[record()] * 3), create(BOB))
    accept(store, append(3, record()))

    positions = [g.position for g in store.read_all()]

    assert positions == sorted(set(positions))
    assert positions[0] > 0


def test_all_records_are_read_page_by_page(store):
    accept(store, create(ADA, *[record(b"%d" % n) for n in range(7)]))

    pages, after = [], 0
    while page := store.read_all(after=after, limit=3):
        pages += [g.record.data for g in page]
        after = page[-1].position

    assert pages == [b"%d" % n for n in range(7)]


def test_a_refused_append_takes_no_place_in_the_global_order(store):
    accept(store, create(ADA))
    store.commit([append(9, record(b"refused")), append(1, record(b"written"))])

    assert [g.record.data for g in store.read_all(after=store.read_all()[0].position)] == [b"written"]


def test_the_position_of_a_store_is_that_of_its_newest_record(store):
    assert store.position() == 0
    accept(store, create(ADA, *[record(b"%d" % n) for n in range(3)]))
    store.commit([append(9, record(b"refused"))])

    assert store.position() == store.read_all()[-1].position


def test_what_is_read_later_comes_after_what_was_read_before(store):
    """Whoever goes on after the last position misses nothing, whichever streams are written to."""
    accept(store, create(ADA))
    accept(store, create(BOB))
    found, after = [], 0
    for n in range(6):
        stream, version = (ADA, BOB)[n % 2], 1 + n // 2
        accept(store, append(version, record(b"%d" % n), stream=stream))
        page = store.read_all(after=after, limit=100)
        after = store.position()
        found += [(one.stream, one.record.version) for one in page]

    assert found == [(one.stream, one.record.version) for one in store.read_all()]
    assert len(set(found)) == 8


def test_positions_go_on_after_closing_and_opening(store, reopened):
    accept(store, create(ADA))
    last = store.read_all()[-1].position

    again = reopened()
    accept(again, append(1, record()))

    assert again.read_all()[-1].position > last


def test_a_long_stream_is_read_whole(store):
    accept(store, create(ADA, *[record(b"%d" % n) for n in range(5000)]))

    assert len(store.read(ADA)) == 5000
    assert store.read(ADA, after=4998)[-1].data == b"4999"


def test_every_thread_reads(store):
    accept(store, create(ADA))
    with ThreadPoolExecutor(8) as pool:
        reads = [pool.submit(store.read, ADA) for _ in range(200)]
        for number in range(1, 100):
            accept(store, append(number, record()))
        versions = [[r.version for r in read.result(timeout=30)] for read in reads]

    assert all(found == list(range(1, len(found) + 1)) for found in versions)


def test_a_commit_that_has_returned_is_seen_by_every_thread(store):
    accept(store, create(ADA))
    with ThreadPoolExecutor(4) as pool:
        for number in range(1, 30):
            accept(store, append(number, record()))
            found = [read.result(timeout=30) for read in [pool.submit(store.header, ADA) for _ in range(4)]]
            assert [h.version for h in found] == [number + 1] * 4


def test_what_was_written_verifies(store):
    accept(store, create(ADA, record(), record()), create(BOB))

    assert store.verify() == []


def test_an_empty_store_verifies_and_holds_nothing(store):
    assert store.verify() == []
    assert (store.headers(), store.read_all(), store.dead_letters(), store.due(AT)) == ([], [], [], [])
