"""Programs that are killed, or kill themselves, and are started again on the same store."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from persistasaurus import Done, Flow, FlowParked, FlowSystem, current_step, flow, gather, step, wait_for

PATH = Path(sys.argv[2])
LOG = PATH.with_suffix(".log")


def note(what: str) -> None:
    with LOG.open("a") as log:
        log.write(what + "\n")


class Poison(Flow):
    @flow
    async def main(self) -> str:
        return await self.kills()

    @step
    def kills(self) -> str:
        note("poison")
        os._exit(66)


class Innocent(Flow):
    @flow
    async def main(self, n: int) -> int:
        a, b = await gather(self.slow(n), self.slow(n))
        return a + b + await self.slow(n)

    @step
    async def slow(self, n: int) -> int:
        await asyncio.sleep(0.05)
        return n


class Charge(Flow):
    @flow
    async def parks(self) -> str:
        return await self.once()

    @step(on_crash="park")
    def once(self) -> str:
        note("once")
        os._exit(66)

    @flow
    async def finds_out(self) -> str:
        return await self.looked_up()

    def _find_out(self) -> Done | None:
        note("reconcile")
        return Done("found") if LOG.read_text().count("looked_up") >= 2 else None

    @step(reconcile=_find_out)
    def looked_up(self) -> str:
        note("looked_up")
        os._exit(66)


class Adds(Flow):
    @flow
    async def main(self, until: int) -> int:
        total = 0
        while total < until:
            total = await self.plus(total, await wait_for("n", int))
        return total

    @step
    def plus(self, a: int, b: int) -> int:
        note(current_step().idempotency_key)
        return a + b


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


FLOWS = [Poison, Innocent, Charge, Adds]


def outcome(system: FlowSystem, flow_id: str) -> Any:
    try:
        return system.flow(flow_id).result(30)
    except FlowParked as parked:
        return parked.reason


def start(kind: str, count: int) -> None:
    """Start flows, see how they end if nothing kills this process, and tell."""
    with FlowSystem(PATH, flows=FLOWS) as system:
        if kind == "poison":
            for n in range(count):
                system.start(Innocent.main, n, flow_id=f"innocent-{n}")
            system.start(Poison.main, flow_id="poison")
            names = ["poison", *(f"innocent-{n}" for n in range(count))]
        else:
            system.start(getattr(Charge, kind), flow_id=kind)
            names = [kind]
        sys.stdout.write(" ".join(str(outcome(system, name)) for name in names) + "\n")


def serve() -> None:
    """Send numbered signals for ever, telling which were confirmed."""
    with FlowSystem(PATH, flows=FLOWS) as system:
        handles = [system.start(Adds.main, 1_000_000, flow_id=f"adds-{n}") for n in range(5)]
        tell("ready")
        for n in range(1_000_000):
            for handle in handles:
                handle.signal("n", 1, signal_id=f"{os.getpid()}-{n}")
                tell(handle.id)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        start(sys.argv[1], int(sys.argv[3]))
