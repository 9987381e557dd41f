from __future__ import annotations

import pytest
from conformance.builders import ADA, ENDED, accept, append, create, header, record, signal, write_one
from persistasaurus.store import Appended, Delivered, StoreHalted, StreamState


def test_each_open_advances_the_epoch(store, reopened):
    before = store.epoch

    assert reopened().epoch == before + 1


def test_each_reopen_advances_the_epoch(store):
    before = store.epoch

    store.reopen()

    assert store.epoch == before + 1


def test_a_reopened_store_goes_on(store):
    accept(store, create(ADA), signal())

    store.reopen()

    assert write_one(store, append(1, record())) == Appended(2)
    assert write_one(store, signal()).duplicate
    assert len(store.inbox(ADA)) == 1


def test_resolving_tells_what_was_written(store):
    written = [
        create(ADA, record(b"1"), record(b"2")),
        signal(),
        append(2, record(b"3"), change=header("waiting")),
    ]
    outcomes = store.commit(written)

    store.reopen()

    assert store.resolve(written) == outcomes


def test_resolving_tells_whether_signals_were_given_up(store):
    accept(store, create(), signal("a"), signal("b"))
    first, second = (entry.id for entry in store.inbox(ADA))
    accept(store, append(1, record(), consumed=(first, second)))
    written, not_written = append(2, given_up=(("a", "unread"),)), append(2, given_up=(("b", "unread"),))
    accept(store, written)

    store.reopen()

    assert store.resolve([written, not_written]) == [Appended(2), None]


def test_resolving_tells_what_was_not_written(store):
    accept(store, create(ADA, record(b"1"), record(b"2")))
    store.reopen()

    resolved = store.resolve(
        [
            create("nobody"),
            append(2, record(b"3")),
            append(1, record(b"other")),
            append(1, record(b"2", kind="other")),
            append(1, record(b"2", at=1)),
            append(1, record(b"2"), record(b"3")),
            append(2, change=ENDED),
            signal(),
            signal(stream="nobody"),
        ],
    )

    assert resolved == [None] * 9


def test_resolving_knows_a_write_without_records_by_what_it_did(store):
    accept(store, create(), signal())
    (entry,) = store.inbox(ADA)
    write = append(1, change=header("paused", StreamState.HELD), consumed=(entry.id,))
    store.reopen()
    assert store.resolve([write]) == [None]

    accept(store, write)
    store.reopen()

    assert store.resolve([write]) == [Appended(1)]


def test_resolving_knows_a_write_that_only_consumes_by_what_still_waits(store):
    accept(store, create(), signal())
    write = append(1, consumed=(store.inbox(ADA)[0].id,))
    store.reopen()
    assert store.resolve([write]) == [None]

    accept(store, write)
    store.reopen()

    assert store.resolve([write]) == [Appended(1)]


def test_resolving_an_earlier_signal_calls_it_a_duplicate(store):
    accept(store, create())
    first = write_one(store, signal())
    store.reopen()

    assert store.resolve([signal(at=first.at + 1)]) == [Delivered(first.id, first.at, duplicate=True)]


def test_a_signal_with_another_content_resolves_to_nothing(store):
    accept(store, create(), signal())
    store.reopen()

    assert store.resolve([signal(data=b"other")]) == [None]


@pytest.mark.parametrize("idle", [True, False])
def test_a_checkpoint_changes_nothing_that_is_seen(store, idle):
    accept(store, create(), signal())
    before = (store.header(ADA), store.read(ADA), store.inbox(ADA))

    store.checkpoint(idle=idle)

    assert (store.header(ADA), store.read(ADA), store.inbox(ADA)) == before


def test_closing_twice_is_no_mistake(store):
    store.close()
    store.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.commit([create()]),
        lambda store: store.read(ADA),
        lambda store: store.header(ADA),
        lambda store: store.headers(),
        lambda store: store.due(0),
        lambda store: store.checkpoint(idle=True),
        lambda store: store.reopen(),
        lambda store: store.resolve([]),
        lambda store: store.verify(),
    ],
    ids=["commit", "read", "header", "headers", "due", "checkpoint", "reopen", "resolve", "verify"],
)
def test_a_closed_store_is_not_used(store, use):
    store.close()

    with pytest.raises(StoreHalted, match="closed"):
        use(store)
