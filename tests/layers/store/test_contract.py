"""What is promised of every store holds for ours, down to the defaults and the texts of errors."""

from __future__ import annotations

import inspect

import pytest
from persistasaurus.store import (
    EventReader,
    EventStore,
    InboxFull,
    NotAnExport,
    RecordCorrupt,
    SignalConflict,
    SqliteStore,
    StoreLimits,
    StoreReader,
    StreamEnded,
    StreamNotFound,
    StreamState,
    WrongExpectedVersion,
)

CALLS = [
    (contract, store, name)
    for contract, store in ((EventReader, SqliteStore), (EventReader, StoreReader), (EventStore, SqliteStore))
    for name, member in inspect.getmembers(contract, inspect.isfunction)
    if not name.startswith("_")
]


@pytest.mark.parametrize(("contract", "store", "name"), CALLS)
def test_a_call_means_the_same_to_a_store_as_to_its_contract(contract, store, name):
    promised, kept = (inspect.signature(getattr(of, name)).parameters for of in (contract, store))

    assert {p.name: p.default for p in kept.values()} == {p.name: p.default for p in promised.values()}


def test_limits_are_those_that_are_documented():
    assert StoreLimits() == StoreLimits(data=16 * 1024 * 1024, inbox=10_000)


def test_what_is_on_disk_means_the_same_in_every_release():
    assert {state.name: state.value for state in StreamState} == {
        "OPEN": 0,
        "HELD": 1,
        "ENDED": 2,
        "FAILED": 3,
    }


@pytest.mark.parametrize(
    ("kind", "details", "text"),
    [
        (WrongExpectedVersion, ("ada", 1, 2), "stream 'ada' is at version 2, not 1"),
        (StreamNotFound, ("ada",), "no stream 'ada'"),
        (StreamEnded, ("ada", "failed"), "stream 'ada' has ended (failed)"),
        (InboxFull, ("ada", 5), "stream 'ada' has 5 unconsumed signals, which is the limit"),
        (
            SignalConflict,
            ("a", "k"),
            "signal 'k' was sent to stream 'a' before, with another name or payload",
        ),
        (RecordCorrupt, ("ada", None, "why"), "stream 'ada' is corrupt: why"),
        (RecordCorrupt, ("ada", 3, "why"), "record 3 of stream 'ada' is corrupt: why"),
        (NotAnExport, (None, "why"), "why"),
        (NotAnExport, (7, "why"), "line 7: why"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(kind, details, text):
    assert str(kind(*details)) == text
