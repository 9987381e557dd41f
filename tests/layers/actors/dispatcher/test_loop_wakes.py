"""Many futures that are completed together wake their event loop once, and none of them is forgotten."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.actors.runtime.futures import PooledFuture
from persistasaurus.actors.runtime.loop_wakes import LoopWakes, wakes_of

if TYPE_CHECKING:
    from collections.abc import Callable

DEAD_MAN_S = 30.0


async def value_of(future: PooledFuture[Any]) -> Any:
    return await future


async def awaited(futures: list[PooledFuture[Any]]) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(value_of(future)) for future in futures]
    await asyncio.sleep(0)
    return tasks


def set_all(futures: list[PooledFuture[Any]]) -> None:
    for future in futures:
        future.set("there")


def counted_calls(loop: Any, monkeypatch: pytest.MonkeyPatch) -> list[Callable[..., Any]]:
    calls: list[Callable[..., Any]] = []
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: (calls.append(args[0]), call(*args))[1])
    return calls


def test_what_is_completed_before_the_loop_comes_to_run_wakes_it_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> tuple[list[Any], int]:
        futures = [PooledFuture[Any]() for _ in range(100)]
        tasks = await awaited(futures)
        calls = counted_calls(asyncio.get_running_loop(), monkeypatch)
        for number, future in enumerate(futures):
            future.set(number)
        return await asyncio.wait_for(asyncio.gather(*tasks), DEAD_MAN_S), len(calls)

    assert asyncio.run(main()) == (list(range(100)), 1)


def test_none_is_forgotten_when_many_threads_complete_them_while_the_loop_runs() -> None:
    async def main() -> None:
        for _ in range(20):
            futures = [PooledFuture[Any]() for _ in range(80)]
            tasks = await awaited(futures)
            threads = [Thread(target=set_all, args=(futures[k::4],)) for k in range(4)]
            for thread in threads:
                thread.start()
            await asyncio.wait_for(asyncio.gather(*tasks), DEAD_MAN_S)

    asyncio.run(main())


def test_one_that_was_cancelled_harms_no_other() -> None:
    async def main() -> Any:
        futures = [PooledFuture[Any]() for _ in range(2)]
        cancelled, other = await awaited(futures)
        for future in futures:
            future.set("there")
        cancelled.cancel()
        return await asyncio.wait_for(other, DEAD_MAN_S)

    assert asyncio.run(main()) == "there"


def test_a_loop_that_is_closed_is_left_alone() -> None:
    loop = asyncio.new_event_loop()
    waiter = loop.create_future()
    loop.close()

    wakes_of(loop).wake(waiter)

    assert not waiter.done()


def test_whoever_is_struck_on_the_way_keeps_nobody_from_being_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop, wakes = asyncio.get_running_loop(), LoopWakes()
        struck, other = loop.create_future(), loop.create_future()
        call = loop.call_soon_threadsafe
        strikes = iter([KeyboardInterrupt])

        def strike(*args: Any) -> Any:
            if (error := next(strikes, None)) is not None:
                raise error
            return call(*args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", strike)
        with pytest.raises(KeyboardInterrupt):
            wakes.wake(struck)
        wakes.wake(other)
        await asyncio.wait_for(asyncio.gather(struck, other), DEAD_MAN_S)

    asyncio.run(main())
