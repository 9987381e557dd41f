"""A process that serves a store until it is killed: python server.py STORE EFFECTS. Says at which URL."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

from persistasaurus import Flow, FlowSystem, Retry, current_step, flow, gather, signal, sleep, step
from persistasaurus.api.http.access import OpenToAll
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.server import serve

SHORT = timedelta(milliseconds=20)
effects: list[Path] = []


def note(what: str) -> None:
    """Append to the file of effects; a line is written at once, or not at all."""
    line = f"{current_step().flow_id} {what}\n".encode()
    descriptor = os.open(effects[0], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


class Order(Flow):
    """Orders something: steps of two kinds, at once and again, a rest, and a word from outside."""

    @flow(name="order")
    async def place(self, amount: int) -> int:
        reserved = await self.reserve(amount)
        left, right = await gather(self.pack(reserved), self.bill(reserved))
        await sleep(SHORT)
        paid = await self.paid()
        await self.ship()
        return left + right + paid

    @step
    def reserve(self, amount: int) -> int:
        note("reserve")
        return amount

    @step
    async def pack(self, amount: int) -> int:
        note("pack")
        return amount * 10

    @step(retry=Retry(max_attempts=2, initial=SHORT))
    def bill(self, amount: int) -> int:
        if current_step().attempt == 1 and amount % 3 == 0:
            raise ConnectionError("not the first time")
        note("bill")
        return amount * 100

    @signal
    def paid(self, amount: int) -> int:
        return amount

    @step
    def ship(self) -> None:
        note("ship")


def result_of(amount: int) -> int:
    return amount * 110 + 1


def say(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def main(store: str, effects_path: str) -> None:
    effects.append(Path(effects_path))
    with FlowSystem(store, flows=[Order]) as system:
        serve(asgi_app(system, access=OpenToAll()), port=0, on_bound=say)


if __name__ == "__main__":
    main(*sys.argv[1:])
