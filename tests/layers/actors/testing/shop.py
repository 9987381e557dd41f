"""Flows to be tested with the kit, and some that are wrong on purpose."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from time import perf_counter

import msgspec
from persistasaurus import (
    EventSourcedActor,
    Flow,
    Retry,
    command,
    current_step,
    flow,
    gather,
    now,
    query,
    random,
    signal,
    sleep,
    step,
)

charged: list[str] = []
calls = count(1)


@step
def convert(cents: int) -> float:
    return cents / 100


class OrderFlow(Flow):
    def __init__(self) -> None:
        self.stage = "new"

    @flow(name="order")
    async def fulfil(self, item: str) -> str:
        payment = await self.charge(item)
        self.stage = "charged"
        await sleep(timedelta(days=2))
        by = await self.approve()
        weight, label = await gather(self.weigh(item), self.print_label(item))
        return f"{item}, {payment}, {by}, {weight}, {label}"

    @step(retry=Retry(max_attempts=3, initial=timedelta(minutes=1)))
    def charge(self, item: str) -> str:
        charged.append(current_step().idempotency_key)
        return "payment-1"

    @signal
    def approve(self, by: str) -> str:
        return by

    @step(timeout=timedelta(seconds=5))
    async def weigh(self, item: str) -> int:
        return len(item)

    @step(isolated=True)
    def print_label(self, item: str) -> str:
        return item.upper()

    @query
    def how_far(self) -> str:
        return self.stage


class LotteryFlow(Flow):
    """Right: its chance is recorded."""

    @flow(name="lottery")
    async def draw(self) -> list[str]:
        return [str(random()), str(now()), await self.pay(random())]

    @step
    def pay(self, share: float) -> str:
        return f"{share:.3f}"


class ForgetfulFlow(Flow):
    """Wrong: it counts outside of itself, and so its replay does something else."""

    @flow(name="forgetful")
    async def go(self) -> int:
        await self.note(0)
        return await self.note(next(calls))

    @step
    def note(self, n: int) -> int:
        return n


class HastyFlow(Flow):
    """Wrong: it keeps the time, which is another in each replay."""

    @flow(name="hasty")
    async def go(self) -> None:
        self.began = perf_counter()
        await self.note(0)

    @step
    def note(self, n: int) -> int:
        return n


class GreedyFlow(Flow):
    """Wrong: its step does not bear being run twice."""

    @flow(name="greedy")
    async def go(self) -> int:
        return await self.take()

    @step
    def take(self) -> int:
        charged.append("greedy")
        return len(charged)


class Deposited(msgspec.Struct, tag="deposited"):
    amount: int


class Balance(msgspec.Struct):
    cents: int = 0
    notes: list[str] = []


class Account(EventSourcedActor[Balance, Deposited], name="account"):
    def apply(self, state, event) -> None:
        state.cents += event.amount

    @command
    def deposit(self, amount: int) -> int:
        if amount <= 0:
            raise ValueError("a deposit is more than nothing")
        self.record(Deposited(amount))
        return self.state.cents

    @query
    def how_much(self) -> int:
        return self.state.cents


class LeakyAccount(Account, name="leaky account"):
    """Wrong: it changes its state where it decides, and where it is only asked."""

    @command
    def deposit(self, amount: int) -> int:
        self.state.notes.append("one")
        self.record(Deposited(amount))
        return self.state.cents

    @query
    def how_much(self) -> int:
        self.state.cents += 1
        return self.state.cents


class MoodyAccount(Account, name="moody account"):
    """Wrong: what an event makes of its state depends on what is outside."""

    def apply(self, state, event) -> None:
        state.cents += len(charged)
