from __future__ import annotations

import pytest
from conformance.builders import ADA, AT, BOB, ENDED, accept, append, create, header, record, signal
from persistasaurus.store import Header, StreamNotFound, StreamState


def test_a_header_tells_how_its_stream_stands(store):
    accept(store, create(ADA, record(at=AT), record(at=AT + 5), change=header("waiting", wake_at=AT + 60)))

    assert store.header(ADA) == Header(ADA, "signup", "waiting", StreamState.OPEN, 2, AT + 60, AT, AT + 5)


def test_an_unknown_stream_has_no_header(store):
    assert store.header("nobody") is None


def test_an_append_without_change_leaves_status_and_alarm(store):
    accept(store, create(ADA, change=header("waiting", wake_at=AT + 60)))

    accept(store, append(1, record(at=AT + 9)))

    assert store.header(ADA) == Header(ADA, "signup", "waiting", StreamState.OPEN, 2, AT + 60, AT, AT + 9)


def test_an_append_without_records_changes_the_header(store):
    accept(store, create(ADA))

    accept(store, append(1, change=header("paused", StreamState.HELD, AT + 5)))

    found = store.header(ADA)
    assert (found.version, found.status, found.state, found.wake_at) == (
        1,
        "paused",
        StreamState.HELD,
        AT + 5,
    )


def test_the_last_change_of_a_batch_stands(store):
    accept(
        store,
        create(ADA),
        append(1, record(), change=header("waiting", wake_at=AT + 1)),
        append(2, change=header("parked", StreamState.HELD)),
    )

    found = store.header(ADA)
    assert (found.version, found.status, found.state, found.wake_at) == (2, "parked", StreamState.HELD, None)


def test_headers_are_listed_in_the_order_of_creation(store):
    accept(store, create("zoe"), create("ada"))
    accept(store, append(1, record(), stream="zoe"), create("bob"))

    assert [h.stream for h in store.headers()] == ["zoe", "ada", "bob"]


def test_headers_are_listed_page_by_page(store):
    accept(store, *[create(f"flow-{n}") for n in range(5)])

    first = store.headers(limit=2)
    second = store.headers(limit=2, after=first[-1].stream)
    third = store.headers(limit=2, after=second[-1].stream)

    assert [h.stream for h in (*first, *second, *third)] == [f"flow-{n}" for n in range(5)]
    assert store.headers(after="flow-4") == []


def test_headers_are_filtered_by_type_and_status(store):
    accept(
        store,
        create("a", kind="signup", change=header("waiting")),
        create("b", kind="hello", change=header("waiting")),
        create("c", kind="signup", change=ENDED),
    )

    assert [h.stream for h in store.headers(type="signup")] == ["a", "c"]
    assert [h.stream for h in store.headers(status="waiting")] == ["a", "b"]
    assert [h.stream for h in store.headers(type="signup", status="waiting")] == ["a"]
    assert store.headers(type="never-heard-of") == []
    assert store.headers(status="never-heard-of") == []


def test_listing_behind_an_unknown_stream_is_refused(store):
    with pytest.raises(StreamNotFound):
        store.headers(after="nobody")
    with pytest.raises(StreamNotFound):
        store.due(AT, after=(AT, "nobody"))


def test_due_are_the_streams_whose_instant_has_come(store):
    accept(
        store,
        create("past", change=header(wake_at=AT - 1)),
        create("now", change=header(wake_at=AT)),
        create("later", change=header(wake_at=AT + 1)),
        create("never"),
    )

    assert [h.stream for h in store.due(AT)] == ["past", "now"]


def test_due_streams_come_in_the_order_of_their_instants_then_of_creation(store):
    accept(
        store,
        create("third", change=header(wake_at=AT + 2)),
        create("first", change=header(wake_at=AT + 1)),
        create("second", change=header(wake_at=AT + 1)),
    )

    assert [h.stream for h in store.due(AT + 9)] == ["first", "second", "third"]


def test_due_streams_are_listed_page_by_page(store):
    accept(store, *[create(f"flow-{n}", change=header(wake_at=AT + n // 3)) for n in range(10)])

    pages, after = [], None
    while page := store.due(AT + 9, after=after, limit=2):
        pages += [h.stream for h in page]
        after = (page[-1].wake_at, page[-1].stream)

    assert pages == [f"flow-{n}" for n in range(10)]


def test_what_is_due_at_the_same_instant_is_on_the_next_page(store):
    accept(store, *[create(f"flow-{n}", change=header(wake_at=AT + n // 2)) for n in range(6)])

    assert [h.stream for h in store.due(AT, after=(AT, "flow-0"))] == ["flow-1"]
    assert [h.stream for h in store.due(AT + 9, after=(AT, "flow-0"), limit=2)] == ["flow-1", "flow-2"]


def test_a_page_of_what_is_due_may_begin_at_an_instant(store):
    accept(store, *[create(f"flow-{n}", change=header(wake_at=AT + n // 2)) for n in range(6)])

    assert [h.stream for h in store.due(AT + 9, after=(AT + 1, ""))] == [f"flow-{n}" for n in range(2, 6)]
    assert [h.stream for h in store.due(AT + 9, after=(AT + 1, ""), limit=1)] == ["flow-2"]
    assert store.due(AT, after=(AT + 1, "")) == []


def test_nothing_is_due_behind_what_is_not_due_yet(store):
    accept(store, create(ADA, change=header(wake_at=AT)), create(BOB, change=header(wake_at=AT)))

    assert store.due(AT, after=(AT + 1, ADA)) == []
    assert store.due(AT - 1, after=(AT, ADA)) == []


def test_a_held_stream_is_due_at_its_alarm(store):
    accept(store, create(change=header("paused", StreamState.HELD, AT)))

    assert [h.stream for h in store.due(AT)] == [ADA]


def test_the_next_instant_is_the_earliest_of_all(store):
    assert store.next_wake_at() is None

    accept(store, create(ADA, change=header(wake_at=AT + 9)), create(BOB, change=header(wake_at=AT + 5)))
    assert store.next_wake_at() == AT + 5

    accept(store, append(1, stream=BOB, change=header(wake_at=None)))
    assert store.next_wake_at() == AT + 9


def test_a_signal_makes_a_waiting_stream_due(store):
    accept(store, create(change=header("waiting")))

    accept(store, signal(at=AT + 3))

    assert store.header(ADA).wake_at == AT + 3
    assert [h.stream for h in store.due(AT + 3)] == [ADA]


def test_a_signal_pulls_the_alarm_forward(store):
    accept(store, create(change=header(wake_at=AT + 60)), signal(at=AT + 3))

    assert store.header(ADA).wake_at == AT + 3


def test_a_signal_does_not_push_the_alarm_back(store):
    accept(store, create(change=header(wake_at=AT + 1)), signal(at=AT + 3))

    assert store.header(ADA).wake_at == AT + 1


def test_a_signal_does_not_make_a_held_stream_due(store):
    accept(store, create(change=header("paused", StreamState.HELD)), signal())

    assert store.header(ADA).wake_at is None


def test_a_held_stream_with_a_signal_is_still_not_due_when_it_stays_held(store):
    accept(store, create(change=header("paused", StreamState.HELD)), signal())

    accept(store, append(1, record(), change=header("parked", StreamState.HELD)))
    assert store.header(ADA).wake_at is None

    accept(store, append(2, change=header("paused", StreamState.HELD, AT + 60)))
    assert store.header(ADA).wake_at == AT + 60


def test_a_duplicate_does_not_make_a_stream_due(store):
    accept(store, create(), signal())
    accept(store, append(1, record(), change=header(), consumed=(store.inbox(ADA)[0].id,)))

    accept(store, signal(at=AT + 5))

    assert store.header(ADA).wake_at is None


def test_a_held_stream_with_a_signal_becomes_due_when_it_is_let_go(store):
    accept(store, create(change=header("paused", StreamState.HELD)), signal(at=AT + 3))

    accept(store, append(1, record(), change=header("running")))

    assert store.header(ADA).wake_at == AT + 3


def test_a_stream_stays_due_while_a_signal_waits_that_the_append_did_not_know(store):
    accept(store, create(), signal(at=AT + 3))

    accept(store, append(1, record(), change=header("waiting", wake_at=AT + 60)))

    assert store.header(ADA).wake_at == AT + 3


def test_it_stays_due_for_the_signal_that_is_left(store):
    accept(store, create(), signal("a", at=AT + 3), signal("b", at=AT + 4))
    first, _ = store.inbox(ADA)

    accept(store, append(1, record(), change=header("waiting", wake_at=AT + 60), consumed=(first.id,)))

    assert store.header(ADA).wake_at == AT + 4


def test_the_alarm_is_back_when_the_signals_are_consumed(store):
    accept(store, create(change=header(wake_at=AT + 60)), signal(at=AT + 3))

    accept(store, append(1, record(), consumed=(store.inbox(ADA)[0].id,)))

    assert store.header(ADA).wake_at == AT + 60


def test_the_alarm_is_back_when_the_signals_are_rejected(store):
    accept(store, create(), signal(at=AT + 3))

    accept(store, append(1, rejected=((store.inbox(ADA)[0].id, "wrong type"),)))

    assert store.header(ADA).wake_at is None


def test_what_is_due_is_due_after_closing_and_opening(store, reopened):
    accept(store, create(change=header(wake_at=AT + 60)), signal(at=AT + 3))

    again = reopened()
    assert [h.stream for h in again.due(AT + 3)] == [ADA]

    accept(again, append(1, record(), consumed=(again.inbox(ADA)[0].id,)))
    assert again.header(ADA).wake_at == AT + 60


def test_the_newest_instant_is_that_of_the_last_record_or_signal(store):
    assert store.newest_at() is None

    accept(store, create(ADA, record(at=AT + 9)))
    assert store.newest_at() == AT + 9
    accept(store, append(1, record(at=AT + 5)))
    assert store.newest_at() == AT + 5
    accept(store, signal("mail-1", at=AT + 7))
    assert store.newest_at() == AT + 7
