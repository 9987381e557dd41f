"""The flows that the references are about. Each says one thing, and each of its steps has an effect."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
from persistasaurus import (
    Done,
    EventSourcedActor,
    Flow,
    Refused,
    Retry,
    StepError,
    command,
    current_step,
    flow,
    gather,
    now,
    query,
    random,
    signal,
    sleep,
    sleep_until,
    step,
    uuid4,
    wait_for,
)
from simulation.outside import world

SOON = timedelta(seconds=1)


class Steps(Flow):
    @step
    def add(self, n: int) -> int:
        world().touch()
        return n + 1

    @step
    async def add_async(self, n: int) -> int:
        world().touch()
        await asyncio.sleep(0.3)
        return n + 1

    @step(isolated=True)
    def add_isolated(self, n: int) -> int:
        world().touch()
        return n + 1

    @step(delay=timedelta(seconds=5))
    def add_later(self, n: int) -> int:
        world().touch()
        return n + 1

    @step(retry=Retry(max_attempts=4, initial=SOON))
    def add_at_third(self, n: int) -> int:
        if world().touch() < 3:
            raise ConnectionError("not yet")
        return n + 1

    @step(retry=Retry(max_attempts=2, initial=SOON))
    def never(self) -> int:
        world().touch()
        raise ConnectionError("never")

    @step(on_crash="park")
    def add_at_most_once(self, n: int) -> int:
        world().touch()
        return n + 1

    @step
    def add_when_mended(self, n: int) -> int:
        world().touch()
        if current_step().flow_id not in world().mended:
            raise ConnectionError("somebody has to mend it")
        return n + 1

    def found_out(self, n: int, key: str) -> Done | None:
        return Done(n + 1) if key in world().booked else None

    @step(reconcile=found_out)
    def add_once(self, n: int, key: str) -> int:
        world().touch()
        world().booked.add(key)
        return n + 1

    @step(timeout=SOON)
    async def too_slow(self) -> int:
        world().touch()
        await asyncio.sleep(60)
        return 0

    @signal
    def confirm(self, n: int) -> int:
        world().touch()
        return n * 10


class InOrder(Steps):
    @flow(name="in order")
    async def main(self, n: int) -> int:
        return await self.add(await self.add(await self.add(n)))


class Retried(Steps):
    @flow(name="retried")
    async def main(self, n: int) -> list[Any]:
        first = await self.add_at_third(n)
        try:
            await self.never()
        except StepError as error:
            return [first, error.type, await self.add(first)]
        return []


class Delayed(Steps):
    @flow(name="delayed")
    async def main(self, n: int) -> int:
        return await self.add_later(await self.add_later(n))


class Slept(Steps):
    @flow(name="slept")
    async def main(self, n: int) -> int:
        await sleep(timedelta(seconds=10))
        n = await self.add(n)
        await sleep_until(now() + timedelta(seconds=20))
        await sleep(0)
        return await self.add(n)


class Signalled(Steps):
    @flow(name="signalled")
    async def main(self) -> list[int]:
        first = await self.confirm()
        second = await wait_for("more", int)
        return [first, second, await self.confirm()]


class Early(Steps):
    @flow(name="early")
    async def main(self) -> list[int]:
        await sleep(60)
        taken = [await wait_for("word", int) for _ in range(3)]
        return [*taken, await self.confirm()]


class Raced(Steps):
    """There is no race in the vocabulary: whoever is first says so."""

    def __init__(self) -> None:
        self.first = ""

    @flow(name="raced")
    async def main(self) -> list[Any]:
        answer, _ = await gather(self.answer(), self.deadline())
        return [answer, self.first, await self.add(answer)]

    async def answer(self) -> int:
        answer = await wait_for("answer", int)
        self.first = self.first or "answer"
        return answer

    async def deadline(self) -> None:
        await sleep(10)
        self.first = self.first or "deadline"


class Gathered(Steps):
    @flow(name="gathered")
    async def main(self, n: int) -> list[int]:
        return list(
            await gather(self.add(n), self.add_async(n + 1), self.add_later(n + 2), self.add_isolated(n))
        )


class Interleaved(Steps):
    @flow(name="interleaved")
    async def main(self, n: int) -> list[Any]:
        left, right, pair = await gather(self.left(n), self.right(n), gather(self.add(n), self.left(n + 10)))
        return [left, right, list(pair)]

    async def left(self, n: int) -> int:
        n = await self.add_async(n)
        await sleep(0.2 * random())
        return await self.add(n)

    async def right(self, n: int) -> int:
        n = await self.add(n)
        n = await self.add_at_third(n)
        assert uuid4()
        return await self.add_isolated(n)


class Paused(Steps):
    @flow(name="paused")
    async def main(self, n: int) -> int:
        for _ in range(4):
            n = await self.add(n)
            await sleep(2)
        return n


class Parked(Steps):
    @flow(name="parked")
    async def main(self, n: int) -> int:
        return await self.add_at_most_once(await self.add_at_most_once(n))


class Failed(Steps):
    """It fails while signals come, and takes them all when it is let run on."""

    @flow(name="failed")
    async def main(self, n: int) -> list[Any]:
        first, n = await gather(wait_for("word", int), self.add_when_mended(await self.add(n)))
        return [n, first, await self.confirm(), await self.add(n), await wait_for("word", int)]


class Isolated(Steps):
    @flow(name="isolated")
    async def main(self, n: int) -> int:
        self.kept = [0]
        n = await self.add_kept(n)
        self.kept = [*self.kept, n]
        return await self.add_kept(n)

    @step(isolated=True)
    def add_kept(self, n: int) -> int:
        world().touch()
        assert current_step().idempotency_key.endswith(f"/{len(self.kept)}")
        return n + len(self.kept)


class Asynchronous(Steps):
    @flow(name="asynchronous")
    async def main(self, n: int) -> list[Any]:
        n = await self.add_async(n)
        try:
            await self.too_slow()
        except StepError as error:
            return [await self.add_async(n), error.type]
        return []


class Reconciled(Steps):
    @flow(name="reconciled")
    async def main(self, n: int) -> int:
        return await self.add_once(await self.add_once(n, "first"), "second")


class Asked(Steps):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @flow(name="asked")
    async def main(self, n: int) -> list[int]:
        for _ in range(3):
            n = await self.add(n)
            self.seen = [*self.seen, n]
            await sleep(1)
        return self.seen

    @query
    def so_far(self) -> list[int]:
        return self.seen


class Upgraded(Steps):
    @flow(name="upgraded")
    async def main(self, n: int) -> int:
        n = await self.add(n)
        await sleep(5)
        n = await self.add_async(n)
        return await self.add(n)


class UpgradedWell(Steps):
    """The same, said otherwise, and with a step of another making."""

    @flow(name="upgraded")
    async def main(self, n: int) -> int:
        total = await self.add(n)
        await sleep(timedelta(seconds=5))
        (total,) = await gather(self.add_async(total))
        return await self.add(total)

    @step
    def add(self, n: int) -> int:
        world().touch()
        return 1 + n


class UpgradedBadly(Steps):
    """Something else, under the same name."""

    @flow(name="upgraded")
    async def main(self, n: int) -> int:
        n = await self.add(n)
        n = await self.add_async(n)
        await sleep(5)
        return await self.add(n)


class Deposited(msgspec.Struct, tag="deposited"):
    key: str
    amount: int
    notes: list[str] = []


class AccountState(msgspec.Struct):
    balance: int = 0
    keys: list[str] = []
    notes: list[list[str]] = []


class Account(EventSourcedActor[AccountState, Deposited], name="account"):
    """Its replies are all that it has seen: nothing of it may be missing from the log."""

    passivate_after = timedelta(seconds=2)

    def apply(self, state: AccountState, event: Deposited) -> None:
        state.balance += event.amount
        state.keys.append(event.key)
        state.notes.append(event.notes)

    @command
    def deposit(self, token: str, amount: int) -> list[str]:
        if token not in self.state.keys:
            notes = [token]
            self.record(Deposited(token, amount, notes))
            notes.append("changed after it was recorded")
        return self.state.keys

    @command
    def deposit_twice(self, token: str, amount: int) -> list[str]:
        if f"{token}/1" not in self.state.keys:
            self.record(Deposited(f"{token}/1", amount))
            self.record(Deposited(f"{token}/2", amount))
        return self.state.keys

    @command
    def deposit_in_vain(self, token: str) -> list[str]:
        self.record(Deposited(f"{token}/in vain", 1_000_000))
        raise Refused(f"{token}: " + " ".join(self.state.keys[:-1]))

    @query
    def seen(self) -> list[str]:
        return self.state.keys
