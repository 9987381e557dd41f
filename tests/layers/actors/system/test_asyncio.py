"""Inside asyncio nothing blocks the loop."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, FlowFailed, FlowNotFound, flow, query, sleep, step, wait_for
from system.doubles import DEAD_MAN_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus import FlowSystem


class Works(Flow):
    def __init__(self) -> None:
        self.seen = 0

    @flow
    async def main(self, n: int) -> int:
        await sleep(0.01)
        m = await self.add(n)
        self.seen = await wait_for("n", int)
        return m + self.seen

    @query
    def so_far(self) -> int:
        return self.seen

    @step
    def add(self, n: int) -> int:
        return n + 1

    @flow
    async def fails(self) -> None:
        raise ValueError("as it should")


async def longest_stall(work: Any) -> float:
    loop = asyncio.get_running_loop()
    worst = 0.0
    is_over = asyncio.Event()

    async def tick() -> None:
        nonlocal worst
        while not is_over.is_set():
            before = loop.time()
            await asyncio.sleep(0.001)
            worst = max(worst, loop.time() - before)

    ticker = asyncio.ensure_future(tick())
    await work
    is_over.set()
    await ticker
    return worst


def test_nothing_blocks_the_loop_while_a_hundred_flows_are_served(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Works)

    async def one(n: int) -> None:
        handle = await system.start_async(Works.main, n)
        assert await handle.query_async(Works.so_far) == 0
        await handle.pause_async()
        await handle.resume_async()
        await handle.signal_async("n", 1)
        assert await handle == n + 2
        assert await handle.result_async(DEAD_MAN_S) == n + 2

    async def main() -> float:
        return await longest_stall(asyncio.gather(*(one(n) for n in range(100))))

    # asyncio's own debugging, which development mode turns on, takes its time.
    assert min(asyncio.run(main()) for _ in range(5)) < (0.3 if sys.flags.dev_mode else 0.1)


def test_errors_come_through_the_awaitable_forms(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Works)

    async def main() -> None:
        with pytest.raises(FlowFailed, match="as it should"):
            await system.run_async(Works.fails)
        handle = await system.start_async(Works.main, 1)
        with pytest.raises(TimeoutError, match="has not ended within"):
            await handle.result_async(0.01)
        handle.id = "nobody"
        with pytest.raises(FlowNotFound):
            await handle.result_async(1)

    asyncio.run(main())


def test_a_result_that_is_no_longer_awaited_is_forgotten(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Works)
    watchers = system.supervisor.actor_inbox.owner._watchers

    async def main() -> None:
        handle = await system.start_async(Works.main, 1)
        waiting = asyncio.ensure_future(handle.result_async())
        await asyncio.to_thread(wait_until, lambda: len(watchers) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    wait_until(lambda: len(watchers) == 0)
