"""A stream of another store is written whole, or not at all."""

from __future__ import annotations

import struct

import pytest
from conformance.builders import (
    ADA,
    AT,
    BOB,
    ENDED,
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
    Appended,
    Delivered,
    InboxEntry,
    PastSignal,
    RecordTooLarge,
    Restore,
    SignalConflict,
    StreamEnded,
    WrongExpectedVersion,
)

HISTORY = (record(kind="flow_started"), record(b"\xff\x00", at=AT + 1), record(at=AT + 2))
SIGNALS = (
    PastSignal("confirm", "mail-1", b'"yes"', AT, settled=2),
    PastSignal("confirm", "mail-2", b'"no"', AT + 1, settled=3, dead=(AT + 5, "too late")),
    PastSignal("confirm", "mail-3", b'"yes"', AT + 2),
)


def restore(stream=ADA, *, change=None, records=HISTORY, signals=SIGNALS):
    return Restore(stream, "signup", change or header("waiting"), records, signals)


def test_a_restored_stream_stands_as_it_stood(store):
    assert write_one(store, restore(change=header("waiting", wake_at=AT + 9))) == Appended(3)

    found = store.header(ADA)
    assert (found.type, found.status, found.version, found.created_at) == ("signup", "waiting", 3, AT)
    assert [(r.at, r.kind, r.data) for r in store.read(ADA)] == [(r.at, r.kind, r.data) for r in HISTORY]
    assert store.verify() == []


def test_what_waited_waits_and_makes_it_due(store):
    accept(store, restore())

    (waiting,) = store.inbox(ADA)
    assert waiting == InboxEntry(waiting.id, AT + 2, "confirm", "mail-3", b'"yes"')
    assert [h.stream for h in store.due(AT + 2)] == [ADA]


def test_a_held_stream_is_not_due_because_of_what_waits(store):
    accept(store, restore(change=header("paused", state=1)))

    assert store.next_wake_at() is None


def test_settled_signals_are_still_answered_as_duplicates(store):
    accept(store, restore())

    first, other = write(store, signal("mail-1"), signal("mail-1", b"other"))

    assert isinstance(first, Delivered)
    assert (first.duplicate, first.at) == (True, AT)
    assert isinstance(other, SignalConflict)


def test_a_signal_may_have_been_settled_by_any_record_from_the_first_to_the_last(store):
    settled = (PastSignal("s", "first", b"", AT, settled=1), PastSignal("s", "last", b"", AT, settled=3))

    assert write_one(store, restore(signals=settled)) == Appended(3)
    assert store.verify() == []


def test_dead_letters_come_along(store):
    accept(store, restore())

    (letter,) = store.dead_letters()
    assert (letter.at, letter.stream, letter.key, letter.reason) == (AT + 5, ADA, "mail-2", "too late")


def test_a_restored_stream_goes_on(store):
    accept(store, restore())
    waiting = store.inbox(ADA)[0].id

    assert write_one(store, append(3, record(), change=ENDED, consumed=(waiting,))) == Appended(4)
    assert store.verify() == []


def test_an_ended_stream_takes_no_signals(store):
    accept(store, restore(change=ENDED, signals=SIGNALS[:2]))

    assert isinstance(write_one(store, signal("mail-9")), StreamEnded)


def test_a_stream_that_is_there_is_left_as_it_is(store):
    accept(store, create())

    refused = write_one(store, restore())

    assert isinstance(refused, WrongExpectedVersion)
    assert (refused.expected, refused.actual) == (0, 1)
    assert (len(store.read(ADA)), store.inbox(ADA)) == (1, [])


REFUSED = {
    "no records": ({"records": ()}, ValueError),
    "a key twice": ({"signals": SIGNALS + SIGNALS[:1]}, ValueError),
    "settled before the first record": ({"signals": (PastSignal("s", "k", b"", AT, 0),)}, ValueError),
    "settled behind the last record": ({"signals": (PastSignal("s", "k", b"", AT, 4),)}, ValueError),
    "dead and waiting": ({"signals": (PastSignal("s", "k", b"", AT, None, (AT, "x")),)}, ValueError),
    "at an instant that there is not": ({"signals": (PastSignal("s", "k", b"", 2**63),)}, struct.error),
    "dead at an instant that there is not": (
        {"signals": (PastSignal("s", "k", b"", AT, 1, (2**63, "x")),)},
        struct.error,
    ),
    "waiting when ended": ({"change": ENDED}, ValueError),
    "a state that there is not": ({"change": header("waiting", state=7)}, ValueError),
    "a large signal": ({"signals": (PastSignal("s", "k", bytes(1001), AT),)}, RecordTooLarge),
    "a large record": ({"records": (record(bytes(1001)),), "signals": ()}, RecordTooLarge),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_whole_and_harms_no_other(store, case):
    details, error = REFUSED[case]

    refused, created, delivered = write(store, restore(**details), create(BOB), signal(stream=BOB))

    assert isinstance(refused, error)
    assert created == Appended(1)
    assert not delivered.duplicate
    assert [h.stream for h in store.headers()] == [BOB]
    assert (len(store.inbox(BOB)), store.dead_letters(), store.verify()) == (1, [], [])


def test_a_signal_of_just_the_allowed_size_is_restored(store):
    accept(store, restore(signals=(PastSignal("s", "k", bytes(1000), AT),)))

    assert [len(entry.data) for entry in store.inbox(ADA)] == [1000]


def test_it_can_be_told_what_became_of_it(store):
    assert store.resolve([restore()]) == [None]
    accept(store, restore())

    assert store.resolve([restore()]) == [Appended(3)]


def test_it_lasts(store, reopened):
    accept(store, create(BOB), restore(), signal(stream=BOB))
    again = reopened()

    assert [h.stream for h in again.headers()] == [BOB, ADA]
    assert len(again.inbox(ADA)) == 1
    assert again.verify() == []
    accept(again, signal("mail-4"), append(3, record(), change=ENDED))
