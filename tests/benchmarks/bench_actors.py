"""What event-sourced actors take: one ask alone, one busy actor, many at a time, and their memory."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from typing import TYPE_CHECKING

import msgspec
from disk import limit, mean, percentile
from persistasaurus import EventSourcedActor, FlowSystem, command

if TYPE_CHECKING:
    from pathlib import Path

    from persistasaurus import Ref

APPENDS = 200
ALLOWED_US = 250.0
"""An ask alone may take so long beside 1.2 times what the disk takes."""


class Deposited(msgspec.Struct, tag="deposited"):
    amount: int


class AccountState(msgspec.Struct):
    balance: int = 0


class Account(EventSourcedActor[AccountState, Deposited], name="account"):
    mailbox = 1_000_000

    def apply(self, state: AccountState, event: Deposited) -> None:
        state.balance += event.amount

    @command
    def deposit(self, amount: int) -> int:
        self.record(Deposited(amount))
        return self.state.balance


def actors(folder: Path, asks: int) -> dict[str, float]:
    """Measure asks that are durable before they are answered; the memory last, since it takes a tracer."""
    with FlowSystem(folder / "actors.db", actors=[Account]) as system:
        one = system.actor(Account, "one")
        asyncio.run(_busy(one, 100))
        found = _alone(one, folder, min(asks, 1_000))
        found["hot_per_s"] = _rate(asks, lambda: _busy(one, asks))
        refs = [system.actor(Account, f"a{number}") for number in range(asks)]
        found["woken_per_s"] = _rate(asks, lambda: _each(refs))
        found["many_per_s"] = _rate(asks, lambda: _each(refs))
    with FlowSystem(actors=[Account]) as system:
        found["kib_each"] = _memory(system, min(asks, 2_000))
    return found


def _alone(ref: Ref[Account], folder: Path, asks: int) -> dict[str, float]:
    times: list[float] = []
    before = limit(folder, APPENDS)
    for _ in range(asks):
        began = time.perf_counter()
        ref.ask(Account.deposit, 1)
        times.append(time.perf_counter() - began)
    disk = mean(before, limit(folder, APPENDS))
    alone_us, disk_us = percentile(times, 0.5) * 1e6, disk.p50_s * 1e6
    return {
        "alone_us": alone_us,
        "fdatasync_us": disk_us,
        "share_of_allowed": alone_us / (1.2 * disk_us + ALLOWED_US),
    }


def _rate(asks: int, work: object) -> float:
    gc.collect()
    began = time.perf_counter()
    asyncio.run(work())  # type: ignore[operator]
    return asks / (time.perf_counter() - began)


async def _busy(ref: Ref[Account], asks: int) -> None:
    await asyncio.gather(*[ref.ask_async(Account.deposit, 1) for _ in range(asks)])


async def _each(refs: list[Ref[Account]]) -> None:
    await asyncio.gather(*[ref.ask_async(Account.deposit, 1) for ref in refs])


def _memory(system: FlowSystem, count: int) -> float:
    """Return how many KiB a live actor takes, by the allocations that stay."""

    def woken(first: int) -> None:
        for number in range(first, first + count):
            system.actor(Account, f"m{number}").tell(Account.deposit, 1)
        system.actor(Account, f"m{first + count - 1}").ask(Account.deposit, 1)

    woken(0)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    woken(count)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count / 1024
