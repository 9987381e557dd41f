"""Futures and deferred replies, beyond what Pykka's own tests hold."""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, Never

import pytest
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.futures import Deferred, PooledFuture
from pykka import ActorDeadError, ActorRef, Timeout

if TYPE_CHECKING:
    from persistasaurus.actors.runtime.dispatcher import Dispatcher


class Postponing(PooledActor):
    """Answers with a deferred, which it keeps."""

    def __init__(self, kept: list[Deferred]) -> None:
        super().__init__()
        self.kept = kept

    def on_receive(self, message: Any) -> Any:
        if message == "again":
            return self.kept[-1]
        if message == "boom":
            raise ValueError(message)
        deferred = self.defer()
        self.kept.append(deferred)
        if message == "at once":
            deferred.resolve("now")
        return deferred


@pytest.fixture(name="kept")
def _kept() -> Any:
    return []


@pytest.fixture(name="ref")
def _ref(dispatcher: Dispatcher, kept: list[Deferred]) -> Any:
    return Postponing.start_on(dispatcher, kept)


def test_a_future_is_completed_once_by_whoever_is_first() -> None:
    for _ in range(200):
        future, wins, start = PooledFuture(), [], threading.Barrier(3)

        def complete(number: Any, future: Any = future, wins: Any = wins, start: Any = start) -> None:
            start.wait(30)
            try:
                future.set(number)
            except queue.Full:
                return
            wins.append(number)

        threads = [threading.Thread(target=complete, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert wins == [future.get(timeout=0)]


class Contended:
    """The callbacks of a future that somebody else completes just before one is added."""

    def __init__(self, future: PooledFuture[Any]) -> None:
        self.future, self.callbacks = future, future._callbacks

    def append(self, callback: Any) -> None:
        self.future._callbacks = self.callbacks
        self.future.set("theirs")
        self.callbacks.append(callback)


def test_a_callback_is_called_though_somebody_completes_the_future_meanwhile() -> None:
    future, called = PooledFuture(), []
    future._callbacks = Contended(future)

    future.add_done_callback(called.append)

    assert called == [future]


def test_a_callback_is_called_once_by_whoever_comes_first() -> None:
    for _ in range(300):
        future, called, start = PooledFuture(), queue.SimpleQueue(), threading.Barrier(2)

        def complete(future: Any = future, start: Any = start) -> None:
            start.wait(30)
            future.set(1)

        thread = threading.Thread(target=complete)
        thread.start()
        start.wait(30)
        for number in range(5):
            future.add_done_callback(lambda _, n=number, c=called: c.put(n))
        thread.join(30)

        assert sorted(called.get_nowait() for _ in range(5)) == [0, 1, 2, 3, 4]
        assert called.empty()


def test_many_threads_may_wait_for_one_future() -> None:
    future, got = PooledFuture(), queue.SimpleQueue()
    threads = [threading.Thread(target=lambda: got.put(future.get(timeout=30))) for _ in range(5)]
    for thread in threads:
        thread.start()

    future.set("value")
    for thread in threads:
        thread.join(30)

    assert [got.get_nowait() for _ in range(5)] == ["value"] * 5


def test_a_timeout_leaves_nothing_behind_in_the_future() -> None:
    future = PooledFuture()

    with pytest.raises(Timeout):
        future.get(timeout=0.001)

    assert future._callbacks == []


def test_callbacks_run_once_in_order_and_do_not_harm_each_other(caplog: pytest.LogCaptureFixture) -> None:
    future, called = PooledFuture(), []

    def throw(_future: Any) -> Never:
        raise SystemExit

    future.add_done_callback(lambda f: called.append(f.get(timeout=0)))
    future.add_done_callback(throw)
    future.add_done_callback(lambda _f: called.append("second"))

    with caplog.at_level(logging.CRITICAL, logger="persistasaurus"):
        future.set("first")
    future.add_done_callback(lambda _f: called.append("late"))

    assert called == ["first", "second", "late"]


def test_a_future_with_a_hook_refuses_callbacks_instead_of_never_calling() -> None:
    with pytest.raises(TypeError, match="get hook"):
        PooledFuture().map(str).add_done_callback(print)


def test_a_hook_that_timed_out_is_asked_again() -> None:
    future = PooledFuture()
    mapped = future.map(lambda value: value + 1)
    with pytest.raises(Timeout):
        mapped.get(timeout=0)

    future.set(1)

    assert mapped.get(timeout=0) == 2


def test_awaiting_a_future_does_not_block_the_loop() -> None:
    future = PooledFuture()

    async def main() -> Any:
        waiting = asyncio.ensure_future(_get(future))
        await asyncio.sleep(0)
        # The loop is at work here, or nobody would ever complete it.
        threading.Thread(target=future.set, args=("value",)).start()
        return await asyncio.wait_for(waiting, 30)

    assert asyncio.run(main()) == "value"


def test_awaiting_a_mapped_future_does_not_block_the_loop() -> None:
    future = PooledFuture()

    async def main() -> Any:
        waiting = asyncio.ensure_future(_get(future.map(str)))
        await asyncio.sleep(0)
        future.set(1)
        return await asyncio.wait_for(waiting, 30)

    assert asyncio.run(main()) == "1"


def test_awaiting_raises_the_exception() -> None:
    future = PooledFuture()

    async def main() -> None:
        waiting = asyncio.ensure_future(_get(future))
        await asyncio.sleep(0)
        future.set_exception((ValueError, ValueError("odd"), None))
        await waiting

    with pytest.raises(ValueError, match="odd"):
        asyncio.run(main())


def test_a_cancelled_await_leaves_nothing_behind() -> None:
    future = PooledFuture()

    async def main() -> None:
        waiting = asyncio.ensure_future(_get(future))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())

    assert future._callbacks == []
    future.set("too late")


async def _get(future: Any) -> Any:
    return await future


def test_a_future_is_small() -> None:
    future = PooledFuture()

    assert sys.getsizeof(future) <= 100


def test_a_deferred_reply_completes_the_ask_when_it_is_resolved(
    ref: ActorRef[Any], kept: list[Deferred]
) -> None:
    future = ref.ask("later", block=False)
    # Answered after the handler of the first has returned.
    assert ref.ask("at once", timeout=30) == "now"
    with pytest.raises(Timeout):
        future.get(timeout=0)

    assert kept[0].resolve("value") is True

    assert future.get(timeout=30) == "value"
    assert kept[0].resolve("other") is False
    assert future.get(timeout=30) == "value"


def test_a_deferred_reply_can_fail(ref: ActorRef[Any], kept: list[Deferred]) -> None:
    future = ref.ask("later", block=False)
    ref.ask("at once", timeout=30)

    assert kept[0].fail(ValueError("odd")) is True

    with pytest.raises(ValueError, match="odd"):
        future.get(timeout=30)


def test_one_deferred_reply_may_answer_many(ref: ActorRef[Any], kept: list[Deferred]) -> None:
    futures = [ref.ask(message, block=False) for message in ("later", "again", "again")]
    ref.proxy().kept.get(timeout=30)

    kept[0].resolve("value")

    assert [future.get(timeout=30) for future in futures] == ["value"] * 3


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_a_deferred_reply_fails_when_its_actor_ends_first(
    dispatcher: Dispatcher,
    ref: ActorRef[Any],
    kept: list[Deferred],
    caplog: pytest.LogCaptureFixture,
    end: str,
) -> None:
    future = ref.ask("later", block=False)

    with caplog.at_level(logging.CRITICAL, logger="pykka"):
        ref.stop(block=False) if end == "stop" else ref.tell("boom")
        with pytest.raises(ActorDeadError) as raised:
            future.get(timeout=30)

    assert isinstance(raised.value.__cause__, ValueError) is (end == "crash")
    assert kept[0].resolve("too late") is False


def test_a_deferred_reply_to_a_tell_is_nobodys(ref: ActorRef[Any], kept: list[Deferred]) -> None:
    ref.tell("later")
    ref.ask("at once", timeout=30)

    assert kept[0].resolve("value") is True


def test_an_actor_forgets_the_replies_it_has_given(ref: ActorRef[Any], kept: list[Deferred]) -> None:
    ref.ask("at once", timeout=30)

    assert ref.actor_inbox.owner._deferred == set()


def test_a_deferred_reply_works_through_a_proxy(dispatcher: Dispatcher) -> None:
    class Account(PooledActor):
        def balance(self) -> Any:
            deferred = self.defer()
            deferred.resolve(42)
            return deferred

    assert Account.start_on(dispatcher).proxy().balance().get(timeout=30) == 42


def test_a_deferred_is_made_without_an_actor_too() -> None:
    future, deferred = PooledFuture(), Deferred()
    future.set(deferred)

    deferred.resolve("value")

    assert future.get(timeout=0) == "value"
