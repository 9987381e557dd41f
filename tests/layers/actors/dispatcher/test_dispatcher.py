"""Threads: how many, how they are lent, and how they end."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.futures import PooledFuture
from pykka import ActorDeadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.dispatcher import Dispatcher


class Nested(PooledActor):
    """Asks the next one, and waits for it."""

    def __init__(self, following: Any = None) -> None:
        super().__init__()
        self.following = following

    def on_receive(self, message: Any) -> Any:
        return message + 1 if self.following is None else self.following.ask(message + 1)


class Obedient(PooledActor):
    def on_receive(self, message: Any) -> Any:
        return message()


def test_asks_that_block_in_a_row_of_thirty_get_through_on_two_workers(
    make_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = make_dispatcher(workers=2)
    ref = None
    for _ in range(30):
        ref = Nested.start_on(dispatcher, ref)

    assert ref.ask(0, timeout=30) == 30
    assert ref.ask(0, timeout=30) == 30


def test_threads_that_took_over_end_when_nobody_waits_any_more_but_for_two_to_spare(
    make_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = make_dispatcher(workers=2)
    ref = None
    for _ in range(30):
        ref = Nested.start_on(dispatcher, ref)
    ref.ask(0, timeout=30)

    assert dispatcher._wait_until(lambda: dispatcher.carriers.threads == 2 + 2, None)


def test_threads_are_bounded(make_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = make_dispatcher(workers=2, max_threads=4)
    gate, entered = PooledFuture(), threading.Semaphore(0)
    refs = [Obedient.start_on(dispatcher) for _ in range(8)]

    def wait() -> Any:
        entered.release()
        return gate.get(timeout=30)

    futures = [ref.ask(wait, block=False) for ref in refs]
    for _ in range(4):
        assert entered.acquire(timeout=30)
    threads = dispatcher.live_threads
    gate.set("open")

    assert [future.get(timeout=30) for future in futures] == ["open"] * 8
    assert threads == 4


def test_blocking_lends_the_workers_slot(make_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = make_dispatcher(workers=1)
    gate, entered, threads = threading.Event(), threading.Event(), []

    def wait() -> Any:
        with dispatcher.blocking(), dispatcher.blocking():
            threads.append(dispatcher.live_threads)
            entered.set()
            return gate.wait(30)

    waiting = Obedient.start_on(dispatcher).ask(wait, block=False)
    assert entered.wait(30)

    assert Obedient.start_on(dispatcher).ask(lambda: "ran", timeout=30) == "ran"
    gate.set()
    assert waiting.get(timeout=30) is True
    assert threads == [2]


def test_blocking_does_nothing_elsewhere(dispatcher: Dispatcher) -> None:
    with dispatcher.blocking():
        assert dispatcher.live_threads == 0


def test_closing_stops_actors_latest_first_and_ends_the_threads(
    make_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = make_dispatcher(workers=1)
    stopped = []

    class Child(Obedient):
        def __init__(self, number: Any) -> None:
            super().__init__()
            self.number = number

        def on_stop(self) -> None:
            stopped.append(self.number)

    refs = [Child.start_on(dispatcher, number) for number in range(5)]
    for ref in refs:
        ref.ask(int, timeout=30)

    assert dispatcher.close(timeout=30) is True
    assert stopped == [4, 3, 2, 1, 0]
    assert dispatcher.live_threads == 0
    assert dispatcher.close(timeout=30) is True


def test_closing_gives_up_on_who_is_stuck_and_no_ask_hangs(
    make_dispatcher: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = make_dispatcher(workers=1)
    gate, entered = threading.Event(), threading.Event()
    stuck, behind = Obedient.start_on(dispatcher), Obedient.start_on(dispatcher)
    running = stuck.ask(lambda: (entered.set(), gate.wait(30)), block=False)
    assert entered.wait(30)
    queued = [ref.ask(int, block=False) for ref in (stuck, behind)]

    with caplog.at_level(logging.ERROR, logger="persistasaurus"):
        assert dispatcher.close(timeout=0.01) is False

    for future in queued:
        with pytest.raises(ActorDeadError):
            future.get(timeout=30)
    gate.set()
    assert running.get(timeout=30) == (None, True)
    assert dispatcher.close(timeout=30) is True


def test_an_actor_may_close_its_own_dispatcher(make_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = make_dispatcher()
    ref = Obedient.start_on(dispatcher)

    assert ref.ask(lambda: dispatcher.close(timeout=30), timeout=30) is False
    assert dispatcher.close(timeout=30) is True


def test_threads_that_are_no_daemons_last_as_long_as_there_are_actors(
    make_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = make_dispatcher(daemon=False)
    for _ in range(3):
        ref = Obedient.start_on(dispatcher)
        assert ref.ask(lambda: threading.current_thread().daemon, timeout=30) is False

        ref.stop(timeout=30)

        assert dispatcher._wait_until(lambda: not dispatcher.carriers.threads, None)


def test_one_worker_is_one_thread_of_its_own(make_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = make_dispatcher("journal", workers=1)
    refs = [Obedient.start_on(dispatcher) for _ in range(3)]

    assert {ref.ask(lambda: threading.current_thread().name, timeout=30) for ref in refs} == {"journal-0"}
