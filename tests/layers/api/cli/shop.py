# ruff: noqa: FBT001, T201 - flows print, and take what people answer
"""Flows that stand in every way that a flow can: what the commands look at."""

from __future__ import annotations

import threading
from datetime import timedelta

from persistasaurus import Flow, Retry, flow, gather, signal, sleep, step

NASTY = "\x1b[31mred\x1b[0m [bold]x[/] \u202etxt"


class OrderFlow(Flow):
    @flow(name="order")
    async def fulfil(self, item: str) -> str:
        payment = await self.charge(item)
        await sleep(timedelta(hours=2))
        return payment

    @step
    def charge(self, item: str) -> str:
        print(f"charging for {item}")
        return "payment-1"


class ConfirmFlow(Flow):
    @flow(name="confirm")
    async def ask(self, who: str) -> str:
        return f"{who}: {await self.confirm()}"

    @signal
    def confirm(self, ok: bool) -> bool:
        return ok


class FailingFlow(Flow):
    @flow(name="failing")
    async def fail(self, text: str) -> None:
        await self.explode(text)

    @step
    def explode(self, text: str) -> None:
        raise ConnectionError(f"nobody answers {text}")


class RetryingFlow(Flow):
    @flow(name="retrying")
    async def go(self) -> None:
        await self.flaky()

    @step(retry=Retry(max_attempts=9, initial=timedelta(hours=1), maximum=timedelta(hours=2)))
    def flaky(self) -> None:
        raise TimeoutError("too late")


class SlowFlow(Flow):
    @flow(name="slow")
    async def go(self) -> None:
        await self.work()

    @step
    def work(self) -> None:
        print("working")
        threading.Event().wait(60)


class SumFlow(Flow):
    @flow(name="sum")
    async def add(self, n: int) -> int:
        a, b = await gather(self.more(n), self.more(n + 1))
        return a + b

    @step
    def more(self, n: int) -> int:
        return n + 1
