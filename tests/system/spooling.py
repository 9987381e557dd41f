"""Flows that hear from other processes, and what leaves orders for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from persistasaurus import Flow, flow, query, signal, step, wait_for
from persistasaurus.actors.remote.protocol import SignalOrder, decode_answer, encode
from persistasaurus.actors.runtime.primitives import SystemClock, new_id
from persistasaurus.store.files.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

    from persistasaurus.actors.remote.protocol import Answered, Order


class Hears(Flow):
    """Takes so many signals, and returns them in the order in which they came."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @flow(name="hears")
    async def main(self, count: int) -> list[Any]:
        while len(self.heard) < count:
            self.heard.append(await wait_for("word", Any))
        return self.heard

    @query
    def so_far(self) -> list[Any]:
        return self.heard


class Declares(Flow):
    @flow(name="declares")
    async def main(self) -> int:
        return await self.confirm()

    @signal
    def confirm(self, amount: int) -> int:
        return amount


class Fails(Flow):
    """Fails for as long as somebody says so."""

    is_down: bool = True

    @flow(name="fails")
    async def main(self) -> str:
        return await self.risky()

    @step
    def risky(self) -> str:
        if Fails.is_down:
            raise ConnectionError("down")
        return "up"


FLOWS = (Hears, Declares, Fails)


def spool_of(path: Path) -> Spool:
    return Spool(path, SystemClock().now)


def word(flow_id: str, payload: Any, *, signal_id: str | None = None, name: str = "word") -> SignalOrder:
    raw = msgspec.Raw(msgspec.json.encode(payload))
    return SignalOrder(flow_id, "tests", name, signal_id or new_id(), raw, SystemClock().now())


def leave(path: Path, *orders: Order) -> list[str]:
    """Leave orders for whoever owns the store."""
    spool = spool_of(path)
    return [spool.put(encode(order), new_id()) for order in orders]


def answer(path: Path, name: str) -> Answered | None:
    data = spool_of(path).take_answer(name)
    return None if data is None else decode_answer(data)
