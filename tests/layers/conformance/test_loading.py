from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from conformance.builders import ADA, AT, BOB, ENDED, accept, append, create, header, record, signal
from persistasaurus.store import LoadedStream


def apart(store, stream):
    """Read a stream question by question."""
    return LoadedStream(store.header(stream), store.read(stream), store.inbox(stream), has_more=False)


def test_a_stream_is_loaded_with_its_header_its_records_and_its_unread_signals(store):
    accept(store, create(ADA, record(b"1"), record(b"2"), change=header("waiting", wake_at=AT + 9)))
    accept(store, signal("early"), signal("late", at=AT + 3), signal("later", at=AT + 4))
    accept(store, append(2, record(b"3"), consumed=(store.inbox(ADA)[0].id,)))

    (loaded,) = store.load([ADA])

    assert loaded == apart(store, ADA)
    assert [r.data for r in loaded.records] == [b"1", b"2", b"3"]
    assert [s.key for s in loaded.signals] == ["late", "later"]
    assert (loaded.header.version, loaded.header.wake_at) == (3, AT + 3)


def test_streams_are_loaded_in_the_order_in_which_they_are_asked_for(store):
    accept(store, create(ADA), create(BOB), signal(stream=BOB))

    assert store.load([BOB, "nobody", ADA, BOB]) == [
        apart(store, BOB),
        None,
        apart(store, ADA),
        apart(store, BOB),
    ]
    assert store.load([]) == []


@pytest.mark.parametrize("count", [2, 5, 17, 64, 65, 200])
def test_a_page_of_streams_is_loaded(store, count):
    names = [f"flow-{n}" for n in range(count)]
    accept(store, *[create(name, *[record(b"%d" % n)] * (n % 3 + 1)) for n, name in enumerate(names)])
    accept(store, *[signal(f"{n}", stream=name) for name in names[::2] for n in range(3)])

    assert store.load(names) == [apart(store, name) for name in names]


def test_a_stream_that_has_ended_is_loaded_like_any_other(store):
    accept(store, create(), signal(), append(1, record(), change=ENDED))

    assert store.load([ADA]) == [apart(store, ADA)]
    assert store.load([ADA])[0].signals == []


@pytest.mark.parametrize(
    ("limit", "versions", "has_more"), [(0, [], True), (2, [1, 2], True), (3, [1, 2, 3], False)]
)
def test_of_a_long_history_the_beginning_is_loaded(store, limit, versions, has_more):
    accept(store, create(ADA, *[record(at=AT + n) for n in range(3)]), create(BOB), signal())

    long, short = store.load([ADA, BOB], records=limit)

    assert [r.version for r in long.records] == versions
    assert long.has_more is has_more
    assert long.header == store.header(ADA)
    assert long.signals == store.inbox(ADA)
    assert short.has_more is (limit == 0)


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 9])
def test_of_many_signals_the_first_are_loaded(store, limit):
    accept(store, create(ADA), create(BOB), *[signal(f"a-{n}") for n in range(3)])
    accept(store, *[signal(f"b-{n}", stream=BOB) for n in range(2)], signal("a-3"))

    for stream, loaded in zip([BOB, ADA], store.load([BOB, ADA], signals=limit), strict=True):
        assert loaded.signals == store.inbox(stream, limit=limit)
        assert loaded.records == store.read(stream)


def test_what_is_loaded_is_of_one_instant(store):
    accept(store, create(ADA), create(BOB))
    for version in range(1, 30):
        accept(store, append(version, record(), stream=ADA), append(version, record(), stream=BOB))
        ada, bob = store.load([ADA, BOB])
        assert ada.header.version == bob.header.version == len(ada.records) == version + 1


def test_a_name_of_any_characters_is_loaded(store):
    names = ["", "it's", '"', "\x00", "a\x00b", "%", "🦕" * 50, "NULL"]
    accept(store, *[create(name) for name in names])

    assert store.load(names) == [apart(store, name) for name in names]


def test_every_thread_loads_while_others_write(store):
    accept(store, create(ADA), create(BOB))
    with ThreadPoolExecutor(8) as pool:
        loads = [pool.submit(store.load, [ADA, BOB]) for _ in range(200)]
        for version in range(1, 100):
            accept(store, append(version, record(), stream=ADA), append(version, record(), stream=BOB))
        found = [load.result(timeout=30) for load in loads]

    assert all(ada.header.version == bob.header.version == len(bob.records) for ada, bob in found)
