from __future__ import annotations

import pytest
from conformance.builders import (
    ADA,
    AT,
    BOB,
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
    Append,
    Appended,
    Record,
    RecordTooLarge,
    StreamNotFound,
    StreamState,
    WrongExpectedVersion,
)


def test_an_append_at_zero_creates_the_stream(store):
    outcome = write_one(store, create(ADA, record(b"1"), record(b"2")))

    assert outcome == Appended(2)
    assert [r.data for r in store.read(ADA)] == [b"1", b"2"]


def test_a_stream_is_created_once(store):
    accept(store, create(ADA, record(b"first")))

    outcome = write_one(store, create(ADA, record(b"second")))

    assert isinstance(outcome, WrongExpectedVersion)
    assert (outcome.stream, outcome.expected, outcome.actual) == (ADA, 0, 1)
    assert [r.data for r in store.read(ADA)] == [b"first"]


def test_a_stream_is_created_once_within_a_batch(store):
    outcomes = write(store, create(ADA, record(b"first")), create(ADA, record(b"second")))

    assert outcomes[0] == Appended(1)
    assert isinstance(outcomes[1], WrongExpectedVersion)
    assert [r.data for r in store.read(ADA)] == [b"first"]


@pytest.mark.parametrize(
    "incomplete",
    [
        Append(ADA, 0, (record(),), header()),
        Append(ADA, 0, (record(),), None, "signup"),
        Append(ADA, 0, (), header(), "signup"),
    ],
    ids=["without type", "without header", "without records"],
)
def test_a_stream_is_not_created_without_type_header_and_records(store, incomplete):
    (outcome,) = store.commit([incomplete])

    assert isinstance(outcome, ValueError)
    assert store.header(ADA) is None


def test_an_append_to_an_unknown_stream_is_refused(store):
    outcome = write_one(store, append(3, record()))

    assert isinstance(outcome, StreamNotFound)
    assert outcome.stream == ADA
    assert store.header(ADA) is None


def test_versions_count_from_one_without_gaps(store):
    accept(store, create(ADA, record()))
    accept(store, append(1, record(), record()))
    accept(store, append(3, record()))

    assert [r.version for r in store.read(ADA)] == [1, 2, 3, 4]


@pytest.mark.parametrize("expected", [1, 3])
def test_an_append_behind_another_version_is_refused(store, expected):
    accept(store, create(ADA, record(), record()))

    outcome = write_one(store, append(expected, record(b"late")))

    assert isinstance(outcome, WrongExpectedVersion)
    assert (outcome.expected, outcome.actual) == (expected, 2)
    assert store.header(ADA).version == 2


def test_later_writes_of_a_batch_see_the_earlier_ones(store):
    outcomes = write(
        store, create(ADA), append(1, record(b"2")), append(2, record(b"3")), append(2, record(b"lost"))
    )

    assert outcomes[:3] == [Appended(1), Appended(2), Appended(3)]
    assert isinstance(outcomes[3], WrongExpectedVersion)
    assert [r.data for r in store.read(ADA, after=1)] == [b"2", b"3"]


def test_a_refused_write_harms_no_other(store):
    outcomes = write(store, create(ADA), append(7, record()), signal(stream="nobody"), create(BOB))

    assert outcomes[0] == outcomes[3] == Appended(1)
    assert isinstance(outcomes[1], WrongExpectedVersion)
    assert isinstance(outcomes[2], StreamNotFound)
    assert store.read(BOB)


def test_a_malformed_write_harms_no_other(store):
    outcomes = write(
        store,
        create(ADA),
        append(1, record(at=2**70)),
        append(1, record(kind="\ud800")),
        create("\ud800"),
        append(1, record("text")),
        append(1, record(), change=header(wake_at=2**70)),
        signal(at=2**70),
        signal(name="\ud800"),
        append(1, record(b"well")),
    )

    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, *[True] * 7, False]
    assert [r.data for r in store.read(ADA)] == [b"{}", b"well"]
    assert store.verify() == []


def test_a_refused_append_leaves_nothing_of_its_records(store):
    accept(store, create(ADA))

    outcome = write_one(store, append(1, record(b"small"), record(b"x" * 1001)))

    assert isinstance(outcome, RecordTooLarge)
    assert f"record 3 of stream {ADA!r}" in str(outcome)
    assert len(store.read(ADA)) == 1
    assert write_one(store, append(1, record(b"x" * 1000))) == Appended(2)


def test_a_stream_whose_creation_was_refused_can_be_created(store):
    assert isinstance(write_one(store, create(ADA, record(b"x" * 1001))), RecordTooLarge)

    assert write_one(store, create(ADA, record(b"small"))) == Appended(1)


def test_an_empty_batch_is_no_mistake(store):
    assert store.commit([]) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b'{"name":"ada"}',
        '{"name":"ådä 🦕"}'.encode(),
        b"\x00",
        b"before\x00after",
        b"\xff\xfe\x00\x80",
        b"\xef\xbb\xbf{}",
        b"\xed\xa0\x80",
        bytes(range(256)),
    ],
)
def test_any_bytes_come_back_as_they_were_written(store, data):
    accept(store, create(ADA, record(data)), signal(data=data))

    assert store.read(ADA) == [Record(1, AT, "step_completed", data)]
    assert store.read_all()[0].record.data == data
    assert store.inbox(ADA)[0].data == data
    assert write_one(store, signal(data=data)).duplicate


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "ünï 🦕", "x" * 1000, "it's", 'say "hi"', "semi;colon--", "%_*?"]
)
def test_any_text_names_a_stream(store, name):
    accept(
        store,
        create(name, record(kind=name), change=header(name), kind=name),
        signal(name, stream=name, name=name),
    )

    found = store.header(name)
    assert (found.stream, found.type, found.status) == (name, name, name)
    assert store.read(name)[0].kind == name
    assert (store.inbox(name)[0].name, store.inbox(name)[0].key) == (name, name)


def test_instants_before_1970_and_far_ahead_come_back(store):
    accept(store, create(ADA, record(at=-1), record(at=0), record(at=2**62)))

    assert [r.at for r in store.read(ADA)] == [-1, 0, 2**62]


def test_an_ended_stream_can_be_appended_to(store):
    accept(store, create(ADA, change=header("failed", StreamState.ENDED)))

    outcome = write_one(store, append(1, record(kind="retried"), change=header("running")))

    assert outcome == Appended(2)
    assert store.header(ADA).state is StreamState.OPEN


def test_what_was_written_is_there_after_closing_and_opening(store, reopened):
    accept(store, create(ADA, record(b"1"), change=header(wake_at=AT + 7)), signal())
    before = (store.header(ADA), store.read(ADA), store.inbox(ADA), store.read_all())

    again = reopened()

    assert (again.header(ADA), again.read(ADA), again.inbox(ADA), again.read_all()) == before
    assert write_one(again, append(1, record())) == Appended(2)
    assert again.verify() == []


def test_a_stream_is_continued_after_closing_and_opening(store, reopened):
    accept(store, create(ADA, record(b"1")), append(1, record(b"2")))

    again = reopened()

    assert isinstance(write_one(again, append(1, record())), WrongExpectedVersion)
    assert write_one(again, append(2, record(b"3"))) == Appended(3)
    assert [r.data for r in again.read(ADA)] == [b"1", b"2", b"3"]
