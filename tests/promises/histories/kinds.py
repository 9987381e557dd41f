"""Flows of each kind whose histories are kept: they stay as they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from persistasaurus import (
    Done,
    Flow,
    Retry,
    StepError,
    flow,
    gather,
    now,
    random,
    signal,
    sleep,
    sleep_until,
    step,
    uuid4,
    wait_for,
)


def looked_up(self: KindsFlow, n: int) -> Done | None:
    return Done(n)


class KindsFlow(Flow):
    @flow(name="kinds.steps")
    async def steps(self, n: int) -> int:
        return await self.plain(n) + await self.late(n) + await self.asynchronous(n) + await self.isolated(n)

    @flow(name="kinds.failures")
    async def failures(self, n: int) -> str:
        try:
            await self.flaky(n)
        except StepError as error:
            return f"{error.type} at {await self.plain(n)}"
        return "never"

    @flow(name="kinds.time")
    async def time(self) -> str:
        await sleep(timedelta(days=3))
        await sleep_until(datetime(2099, 1, 1, tzinfo=UTC))
        return f"{now()} {random()} {uuid4()}"

    @flow(name="kinds.signals")
    async def signals(self) -> list[str]:
        return [await self.declared(), await wait_for("named", str), await self.declared()]

    @flow(name="kinds.branches")
    async def branches(self) -> list[int]:
        return list(await gather(self.twice(1), self.twice(2), self.plain(9)))

    async def twice(self, n: int) -> int:
        return await self.plain(await self.plain(n))

    @flow(name="kinds.doubt")
    async def doubt(self, n: int) -> int:
        return await self.reconciled(n) + await self.plain(n)

    @step
    def plain(self, n: int) -> int:
        return n

    @step(delay=timedelta(seconds=5))
    def late(self, n: int) -> int:
        return n

    @step(timeout=timedelta(seconds=5))
    async def asynchronous(self, n: int) -> int:
        return n

    @step(isolated=True)
    def isolated(self, n: int) -> int:
        return n

    @step(retry=Retry(max_attempts=2, initial=timedelta(seconds=1)))
    def flaky(self, n: int) -> int:
        raise ConnectionError(n)

    @step(reconcile=looked_up)
    def reconciled(self, n: int) -> int:
        return n

    @signal
    def declared(self, text: str) -> str:
        return text
