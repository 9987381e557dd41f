from __future__ import annotations

import pytest
from conformance.builders import (
    ADA,
    AT,
    BOB,
    ENDED,
    FAILED,
    accept,
    append,
    create,
    header,
    record,
    signal,
    write,
    write_one,
)
from persistasaurus.store import (
    Delivered,
    InboxEntry,
    InboxFull,
    NeverDelivered,
    RecordTooLarge,
    SignalConflict,
    StreamEnded,
    StreamNotFound,
    StreamState,
    WrongExpectedVersion,
)


def ids(store, stream=ADA):
    return tuple(entry.id for entry in store.inbox(stream))


def test_a_signal_waits_in_the_inbox(store):
    accept(store, create())

    outcome = write_one(store, signal("mail-1", b'"yes"', at=AT + 3))

    assert (outcome.at, outcome.duplicate) == (AT + 3, False)
    assert store.inbox(ADA) == [InboxEntry(outcome.id, AT + 3, "confirm", "mail-1", b'"yes"')]


def test_signals_keep_the_order_of_their_arrival(store):
    accept(store, create(), signal("c", at=AT + 3), signal("a", at=AT + 2))
    accept(store, signal("b", at=AT + 1))

    entries = store.inbox(ADA)
    assert [entry.key for entry in entries] == ["c", "a", "b"]
    assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)


def test_an_inbox_is_read_up_to_a_limit(store):
    accept(store, create(), *[signal(f"mail-{n}") for n in range(5)])

    assert [entry.key for entry in store.inbox(ADA, limit=2)] == ["mail-0", "mail-1"]


def test_a_signal_may_follow_the_creation_in_one_batch(store):
    outcomes = write(store, signal("early"), create(), signal("late"))

    assert isinstance(outcomes[0], StreamNotFound)
    assert [entry.key for entry in store.inbox(ADA)] == ["late"]


def test_a_signal_for_an_unknown_stream_is_refused(store):
    outcome = write_one(store, signal(stream="nobody"))

    assert isinstance(outcome, StreamNotFound)
    with pytest.raises(StreamNotFound):
        store.inbox("nobody")


def test_a_signal_of_just_the_allowed_size_is_taken(store):
    accept(store, create(), signal(data=bytes(1000)))

    assert [len(entry.data) for entry in store.inbox(ADA)] == [1000]


def test_the_same_signal_again_is_answered_as_the_first_time(store):
    accept(store, create())
    first = write_one(store, signal(at=AT + 3))

    again = write_one(store, signal(at=AT + 99))

    assert again == Delivered(first.id, AT + 3, duplicate=True)
    assert len(store.inbox(ADA)) == 1


def test_the_same_signal_twice_in_a_batch_is_kept_once(store):
    accept(store, create())

    first, again = write(store, signal(at=AT + 3), signal(at=AT + 4))

    assert again == Delivered(first.id, AT + 3, duplicate=True)
    assert len(store.inbox(ADA)) == 1


def test_the_same_signal_is_answered_as_the_first_time_after_it_was_consumed(store):
    accept(store, create())
    first = write_one(store, signal())
    accept(store, append(1, record(), consumed=(first.id,)))

    assert write_one(store, signal()) == Delivered(first.id, AT, duplicate=True)
    assert store.inbox(ADA) == []


def test_the_same_signal_is_answered_as_the_first_time_after_the_stream_has_ended(store):
    accept(store, create())
    first = write_one(store, signal())
    accept(store, append(1, record(), change=ENDED))

    assert write_one(store, signal()) == Delivered(first.id, AT, duplicate=True)


@pytest.mark.parametrize("other", [signal(data=b'"no"'), signal(name="decline")], ids=["data", "name"])
def test_the_same_key_with_another_content_is_a_conflict(store, other):
    accept(store, create(), signal())

    outcome = write_one(store, other)

    assert isinstance(outcome, SignalConflict)
    assert (outcome.stream, outcome.key) == (ADA, "mail-1")
    assert [entry.data for entry in store.inbox(ADA)] == [b'"yes"']


def test_a_conflict_is_told_also_within_a_batch_and_after_the_end(store):
    accept(store, create())

    outcomes = write(
        store, signal(), signal(data=b'"no"'), append(1, record(), change=ENDED), signal(data=b"{}")
    )

    assert isinstance(outcomes[1], SignalConflict)
    assert isinstance(outcomes[3], SignalConflict)


def test_keys_are_those_of_one_stream(store):
    accept(store, create(ADA), create(BOB))

    outcomes = write(store, signal(stream=ADA), signal(stream=BOB))

    assert [outcome.duplicate for outcome in outcomes] == [False, False]


def test_a_signal_for_an_ended_stream_is_refused(store):
    accept(store, create(change=ENDED))

    outcome = write_one(store, signal())

    assert isinstance(outcome, StreamEnded)
    assert (outcome.stream, outcome.status) == (ADA, "completed")
    assert store.inbox(ADA) == []


def test_a_held_stream_takes_signals(store):
    accept(store, create(change=header("paused", StreamState.HELD)), signal())

    assert len(store.inbox(ADA)) == 1


def test_a_full_inbox_refuses_signals_until_one_is_consumed(store):
    accept(store, create(), *[signal(f"mail-{n}") for n in range(5)])

    outcome = write_one(store, signal("one too many"))
    assert isinstance(outcome, InboxFull)
    assert (outcome.stream, outcome.limit) == (ADA, 5)

    accept(store, append(1, record(), consumed=ids(store)[:1]))
    accept(store, signal("one too many"))


def test_a_full_inbox_still_answers_duplicates(store):
    accept(store, create(), *[signal(f"mail-{n}") for n in range(5)])

    assert write_one(store, signal("mail-0")).duplicate


def test_a_full_inbox_is_full_after_closing_and_opening(store, reopened):
    accept(store, create(), *[signal(f"mail-{n}") for n in range(5)])

    assert isinstance(write_one(reopened(), signal("one too many")), InboxFull)


def test_a_signal_that_is_too_large_is_refused(store):
    accept(store, create())

    assert isinstance(write_one(store, signal(data=b"x" * 1001)), RecordTooLarge)
    assert store.inbox(ADA) == []


def test_consumed_signals_leave_the_inbox(store):
    accept(store, create(), signal("a"), signal("b"), signal("c"))
    first, _, third = ids(store)

    accept(store, append(1, record(), consumed=(first, third)))

    assert [entry.key for entry in store.inbox(ADA)] == ["b"]
    assert store.dead_letters() == []


def test_signals_are_consumed_without_records(store):
    accept(store, create(), signal())

    accept(store, append(1, consumed=ids(store)))

    assert store.inbox(ADA) == []
    assert store.header(ADA).version == 1


def test_a_signal_is_consumed_in_the_batch_that_brought_it(store):
    accept(store, create(), signal("a"))
    (first,) = ids(store)

    accept(store, signal("b"), append(1, record(), consumed=(first, first + 1)))

    assert store.inbox(ADA) == []


def test_a_signal_is_consumed_once(store):
    accept(store, create(), signal())
    consumed = ids(store)
    accept(store, append(1, record(), consumed=consumed))

    outcome = write_one(store, append(2, record(), consumed=consumed))

    assert isinstance(outcome, ValueError)
    assert store.header(ADA).version == 2


def test_signals_of_another_stream_are_not_consumed(store):
    accept(store, create(ADA), create(BOB), signal(stream=BOB))

    outcome = write_one(store, append(1, record(), consumed=ids(store, BOB)))

    assert isinstance(outcome, ValueError)
    assert len(store.inbox(BOB)) == 1


def test_a_refused_append_consumes_nothing(store):
    accept(store, create(), signal())

    outcome = write_one(store, append(9, record(), consumed=ids(store)))

    assert isinstance(outcome, WrongExpectedVersion)
    assert len(store.inbox(ADA)) == 1


def test_rejected_signals_go_to_the_dead_letters_with_their_reason(store):
    accept(store, create(), signal("a", b"1"), signal("b", b"2"))
    first, second = ids(store)

    accept(store, append(1, record(at=AT + 5), consumed=(first,), rejected=((second, "not a date"),)))

    (letter,) = store.dead_letters()
    assert (letter.at, letter.stream, letter.name, letter.key, letter.data, letter.reason) == (
        AT + 5,
        ADA,
        "confirm",
        "b",
        b"2",
        "not a date",
    )
    assert store.inbox(ADA) == []


def test_a_rejection_without_records_is_dated_by_the_clock(store, clock):
    accept(store, create(), signal())
    clock.advance(60)

    accept(store, append(1, rejected=((ids(store)[0], "not a date"),)))

    assert store.dead_letters()[0].at == clock.now


def test_what_is_left_in_the_inbox_of_an_ended_stream_goes_to_the_dead_letters(store):
    accept(store, create(), signal("a"), signal("b"), signal("c"))
    first, second, _ = ids(store)

    accept(store, append(1, record(), change=ENDED, consumed=(first,), rejected=((second, "not a date"),)))

    assert [(letter.key, letter.reason) for letter in store.dead_letters()] == [
        ("b", "not a date"),
        ("c", "the stream has ended (completed)"),
    ]
    assert store.inbox(ADA) == []
    assert store.header(ADA).wake_at is None


def test_a_dead_letter_is_not_delivered_again(store):
    accept(store, create(), signal())
    accept(store, append(1, rejected=((ids(store)[0], "not a date"),)))

    assert write_one(store, signal()).duplicate
    assert store.inbox(ADA) == []


def test_dead_letters_of_one_stream_are_read(store):
    for name in (ADA, BOB):
        keys = [signal(f"mail-{n}", stream=name) for n in range(3)]
        accept(store, create(name), *keys, append(1, record(), stream=name, change=ENDED))

    first = store.dead_letters(stream=BOB, limit=2)
    rest = store.dead_letters(stream=BOB, after=first[-1].id)

    assert [(letter.stream, letter.key) for letter in (*first, *rest)] == [
        (BOB, f"mail-{n}") for n in range(3)
    ]
    assert store.dead_letters(stream="nobody") == []
    assert len(store.dead_letters()) == 6


def test_dead_letters_are_read_page_by_page(store):
    accept(store, create(), *[signal(f"mail-{n}") for n in range(5)], append(1, record(), change=ENDED))

    first = store.dead_letters(limit=3)
    rest = store.dead_letters(after=first[-1].id)

    assert [letter.key for letter in (*first, *rest)] == [f"mail-{n}" for n in range(5)]


def test_ids_of_signals_are_not_used_again_after_closing_and_opening(store, reopened):
    accept(store, create(), signal("a"))
    (first,) = ids(store)

    again = reopened()
    accept(again, signal("b"))

    assert ids(again)[0] == first
    assert ids(again)[1] > first


def test_a_stream_that_has_failed_keeps_its_signals_and_takes_no_new_ones(store, reopened):
    accept(store, create(), signal("a"), signal("b"))
    first, second = ids(store)
    accept(store, append(1, record(), change=FAILED, consumed=(first,)))

    for opened in (lambda: store, reopened):
        one = opened()
        assert ids(one) == (second,)
        assert one.dead_letters() == []
        assert one.header(ADA).wake_at is None
        assert one.next_wake_at() is None
        refused, *again = write(one, signal("c"), signal("a"), signal("b"))
        assert isinstance(refused, StreamEnded)
        assert (refused.stream, refused.status) == (ADA, "failed")
        assert [outcome.duplicate for outcome in again] == [True, True]


def test_a_stream_that_goes_on_after_a_failure_is_due_for_what_it_has_kept(store):
    accept(store, create(), signal(at=AT + 3), append(1, record(), change=FAILED))

    accept(store, append(2, record(), change=header()))

    assert store.header(ADA).wake_at == AT + 3
    assert [entry.key for entry in store.inbox(ADA)] == ["mail-1"]
    assert not write_one(store, signal("mail-2")).duplicate


def test_a_stream_that_ends_after_a_failure_gives_up_what_it_has_kept(store):
    accept(store, create(), signal(), append(1, record(), change=FAILED), append(2, record(), change=ENDED))

    assert [letter.key for letter in store.dead_letters()] == ["mail-1"]
    assert store.inbox(ADA) == []


@pytest.mark.parametrize("together", [True, False], ids=["together", "one by one"])
@pytest.mark.parametrize("first_deliveries", [("a", "b"), ("b", "a")], ids=["ab", "ba"])
def test_a_signal_on_either_side_of_a_failure_is_kept_or_refused(store, together, first_deliveries):
    early, late = first_deliveries
    writes = [create(), signal(early), append(1, record(), change=FAILED), signal(late)]

    outcomes = write(store, *writes) if together else [write_one(store, one) for one in writes]

    assert isinstance(outcomes[-1], StreamEnded)
    assert [entry.key for entry in store.inbox(ADA)] == [early]


def test_a_signal_that_was_consumed_can_be_given_up_later(store):
    accept(store, create(), signal("a"), signal("b"))
    accept(store, append(1, record(), consumed=ids(store)))

    accept(store, append(2, record(at=AT + 7), given_up=(("b", "unread"), ("nobody sent it", "unread"))))

    (letter,) = store.dead_letters()
    assert (letter.at, letter.stream, letter.key, letter.reason) == (AT + 7, ADA, "b", "unread")
    assert write_one(store, signal("b")).duplicate


def test_a_signal_is_given_up_by_the_append_that_consumes_it(store):
    accept(store, create(), signal("a"), signal("b"))

    accept(store, append(1, record(), change=ENDED, consumed=ids(store), given_up=(("b", "unread"),)))

    assert [(letter.key, letter.reason) for letter in store.dead_letters()] == [("b", "unread")]
    assert store.inbox(ADA) == []
    assert store.verify() == []


def test_a_signal_that_still_waits_is_settled_when_it_is_given_up(store):
    accept(store, create(), signal("a"))

    accept(store, append(1, given_up=(("a", "nobody wants it"),)))

    assert store.inbox(ADA) == []
    assert [letter.reason for letter in store.dead_letters()] == ["nobody wants it"]


def test_a_signal_is_given_up_once(store):
    accept(store, create(), signal("a"), signal("b"))
    first, second = ids(store)
    given_up = (("a", "again"), ("b", "again"))

    accept(store, append(1, record(), consumed=(first,), rejected=((second, "not a date"),)))
    accept(store, append(2, given_up=given_up), append(2, given_up=given_up))
    accept(store, append(2, given_up=given_up))

    assert [(letter.key, letter.reason) for letter in store.dead_letters()] == [
        ("b", "not a date"),
        ("a", "again"),
    ]


def test_what_only_may_come_again_is_answered_if_it_came_and_refused_if_not(store):
    accept(store, create(), signal("a"))

    again, new, other = write(
        store,
        signal("a", only_again=True),
        signal("b", only_again=True),
        signal("a", b'"no"', only_again=True),
    )

    assert again.duplicate
    assert isinstance(new, NeverDelivered)
    assert (new.stream, new.key) == (ADA, "b")
    assert isinstance(other, SignalConflict)
    assert [entry.key for entry in store.inbox(ADA)] == ["a"]


def test_what_only_may_come_again_hears_of_an_end_first(store):
    accept(store, create(ADA, change=ENDED), create(BOB, change=FAILED))

    outcomes = write(store, *(signal(stream=name, only_again=True) for name in (ADA, BOB)))

    assert [type(outcome) for outcome in outcomes] == [StreamEnded, StreamEnded]
