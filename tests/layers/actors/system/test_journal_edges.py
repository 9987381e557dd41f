"""The journal, and event-sourced actors, where something fails that hardly ever does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from persistasaurus import StoreUnavailable
from persistasaurus.actors.persistence.journal import Mend
from persistasaurus.store import Appended, CommitUnknown, StoreFenced, StoreHalted
from system.doubles import wait_until
from system.test_journal import Bench, append

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.ref.stop()
    bench.dispatcher.close()


def test_a_checkpoint_that_fails_halts_the_store_until_it_is_open_again(bench) -> None:
    def fail(*, idle: bool) -> None:
        del bench.store.checkpoint
        raise StoreHalted("the log cannot be moved")

    bench.store.checkpoint = fail
    assert isinstance(bench.outcome(append("ada")), Appended)
    wait_until(lambda: bench.health == [False])
    bench.clock.advance(60)

    wait_until(lambda: bench.health == [False, True])
    assert isinstance(bench.outcome(append("bob")), Appended)


def test_a_journal_with_leisure_lets_the_store_tidy_its_log(bench) -> None:
    seen: list[bool] = []
    bench.store.checkpoint = lambda *, idle: seen.append(idle)

    assert isinstance(bench.outcome(append("ada")), Appended)

    wait_until(lambda: seen)
    assert set(seen) == {True}


def test_a_journal_that_finds_another_owner_when_it_reopens_gives_up(bench) -> None:
    def reopen() -> None:
        raise StoreFenced("another owner has opened the store")

    bench.store.reopen = reopen
    bench.fail_once(CommitUnknown("the disk has failed"))

    unknown = bench.outcome(append("ada"))
    assert isinstance(unknown, StoreUnavailable)
    assert "another process owns the store" in str(unknown)
    assert bench.health[0] is False
    assert bench.health[1] is unknown
    bench.clock.advance(3600)
    assert bench.outcome(append("ada")) is unknown


def test_who_has_indexes_made_anew_goes_on_with_them_as_they_are_when_that_fails(bench) -> None:
    def fail() -> None:
        raise StoreHalted("the disk is full")

    done: list[str] = []
    bench.store.mend = fail
    bench.ref.tell(Mend(lambda: done.append("in vain")))
    wait_until(lambda: bench.health == [False])
    del bench.store.mend
    assert isinstance(bench.outcome(append("ada")), StoreUnavailable)

    bench.ref.tell(Mend(lambda: done.append("while it is halted")))
    wait_until(lambda: done == ["in vain", "while it is halted"])
    bench.clock.advance(60)
    wait_until(lambda: bench.health == [False, True])
    assert isinstance(bench.outcome(append("ada")), Appended)

    bench.ref.tell(Mend(lambda: done.append("at last")))
    wait_until(lambda: done[2:] == ["at last"])
