"""The journal, by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import StoreUnavailable
from persistasaurus.actors.persistence.journal import Entry, Journal, Reopen
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.dispatcher import Dispatcher
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.futures import Reply
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.store import (
    Append,
    Appended,
    CommitUnknown,
    HeaderChange,
    NewRecord,
    StoreFenced,
    StoreHalted,
    StreamState,
    WrongExpectedVersion,
)
from system.doubles import DEAD_MAN_S, FaultyStore, memory_store, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN = HeaderChange("running", StreamState.OPEN, None)


def append(stream: str, expected: int = 0) -> Append:
    return Append(stream, expected, (NewRecord(0, "kind", b"{}"),), OPEN, "type")


class Bench:
    """A journal on a store that can fail, on a clock that stands still."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = FaultyStore(memory_store())
        self.health: list[Any] = []
        self.dispatcher = Dispatcher("bench", workers=1)
        environment = Environment(clock=self.clock, alarms=ManualAlarms(self.clock), dispatcher=Dispatcher)
        self.ref = Journal.start_on(self.dispatcher, self.store, environment, self.health.append)

    def write(self, write: Append) -> Reply[Any]:
        reply: Reply[Any] = Reply()
        self.ref.tell(Entry(write, reply.resolve))
        return reply

    def outcome(self, write: Append) -> Any:
        return self.write(write).get(timeout=DEAD_MAN_S)

    def fail_once(self, error: Exception, *, written: bool = False) -> None:
        def fail(_: int, store: FaultyStore) -> None:
            store.fail = None
            if written:
                store.inner.commit(store.writes)
            store.inner._halted = error  # type: ignore[assignment]
            raise error

        self.store.fail = fail


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    assert bench.dispatcher.close(DEAD_MAN_S)


def test_what_is_queued_becomes_one_commit_and_one_refusal_harms_no_other(bench: Bench) -> None:
    replies = [bench.write(append(f"s-{n}", expected=n % 2)) for n in range(100)]
    outcomes = [reply.get(timeout=DEAD_MAN_S) for reply in replies]

    assert [type(o) is Appended for o in outcomes] == [n % 2 == 0 for n in range(100)]
    assert bench.store.commits < 100
    assert isinstance(bench.outcome(append("s-0")), WrongExpectedVersion)


@pytest.mark.parametrize("written", [True, False])
def test_an_unknown_outcome_is_found_out_before_anybody_is_answered(bench: Bench, *, written: bool) -> None:
    bench.fail_once(CommitUnknown("injected"), written=written)
    outcome = bench.outcome(append("s"))

    if written:
        assert outcome == Appended(1)
    else:
        assert isinstance(outcome, StoreUnavailable)
        assert "nothing was written" in str(outcome)
    assert bench.health == [False, True]
    assert bench.outcome(append("s", 1 if written else 0)) == Appended(2 if written else 1)


def test_a_store_that_cannot_be_looked_into_answers_unknown_and_is_halted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> Any:
        raise StoreHalted("injected")

    bench.fail_once(CommitUnknown("injected"))
    monkeypatch.setattr(bench.store, "resolve", fail, raising=False)
    outcome = bench.outcome(append("s"))

    assert "the outcome is unknown" in str(outcome)
    assert bench.health == [False, True, False]


def test_reopening_is_tried_with_growing_patience_and_only_once_at_a_time(bench: Bench) -> None:
    def not_yet() -> None:
        raise StoreHalted("not yet, injected")

    bench.store.before_reopen = not_yet
    bench.fail_once(StoreHalted("injected"))
    assert "nothing was written" in str(bench.outcome(append("s")))
    waits: list[float] = []
    for n in range(1, 13):
        wait_until(lambda: bench.clock.next_instant() is not None)
        before = bench.clock.elapsed()
        at = bench.clock.next_instant()
        assert at is not None
        waits.append(round(at - before, 3))
        bench.clock.advance(at - before)
        wait_until(lambda n=n: bench.store.reopens == n)
        assert "nothing was written" in str(bench.outcome(append("s")))
        assert bench.store.reopens == n
    bench.store.before_reopen = None
    wait_until(lambda: bench.clock.next_instant() is not None)
    bench.clock.advance(30)
    wait_until(lambda: bench.health == [False, True])

    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[-1] == 30.0
    assert bench.clock.next_instant() is None
    assert bench.outcome(append("s")) == Appended(1)


def test_a_fenced_journal_writes_nothing_and_tries_nothing_more(bench: Bench) -> None:
    bench.fail_once(StoreFenced("epoch 2"))
    outcomes = [bench.outcome(append("s")) for _ in range(3)]

    assert all("another process owns the store" in str(outcome) for outcome in outcomes)
    assert [type(state) for state in bench.health] == [StoreUnavailable]
    assert bench.clock.next_instant() is None
    assert (bench.store.commits, bench.store.reopens) == (1, 0)


def test_somebody_who_cannot_be_told_keeps_nobody_from_being_told(bench: Bench) -> None:
    def raises(_: Any) -> None:
        raise SystemExit(5)

    bench.ref.tell(Entry(append("one"), raises))
    assert bench.outcome(append("two")) == Appended(1)
    assert bench.outcome(append("one", 1)) == Appended(2)


def test_an_error_that_no_store_should_raise_is_answered_all_the_same(bench: Bench) -> None:
    bench.fail_once(ZeroDivisionError("injected"))  # type: ignore[arg-type]
    assert "nothing was written" in str(bench.outcome(append("s")))
    assert bench.outcome(append("s")) == Appended(1)


def test_a_journal_whose_store_is_open_has_nothing_to_reopen(bench: Bench) -> None:
    bench.ref.tell(Reopen())

    assert bench.outcome(append("ada")) == Appended(1)
    assert (bench.store.reopens, bench.health) == (0, [])
