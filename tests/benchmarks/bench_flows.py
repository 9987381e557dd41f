"""The flows that are measured: as little work of their own as possible."""

from __future__ import annotations

import threading
import time
import warnings
from datetime import UTC, datetime, timedelta

from persistasaurus import Flow, NotDurableWarning, flow, sleep, sleep_until, step, wait_for

# `Ringing` looks at the clock, and no replay comes of it that matters.
warnings.filterwarnings("ignore", category=NotDurableWarning)


class Sequence(Flow):
    """Trivial steps, one after the other."""

    @flow(name="sequence")
    async def count(self, steps: int) -> int:
        total = 0
        for number in range(steps):
            total += await self.one(number)
        return total

    @step
    def one(self, number: int) -> int:
        return 1 if number >= 0 else 0


class Pacing(Flow):
    """Trivial steps, as many as each signal asks for; remembers nothing else."""

    @flow(name="pacing")
    async def follow(self) -> int:
        total = 0
        while (steps := await wait_for("more", int)) > 0:
            for number in range(steps):
                total += await self.one(number)
        return total

    @step
    def one(self, number: int) -> int:
        return 1 if number >= 0 else 0


class Waiting(Flow):
    """Waits for a signal, or for a timer that is far away."""

    @flow(name="waiting")
    async def wait(self, by: str) -> int:
        if by == "timer":
            await sleep(timedelta(days=30))
            return 0
        return await wait_for("go", int)


rang: list[float] = []
"""How many seconds after its time each `Ringing` went on, by the clock of the system."""


class Ringing(Flow):
    """Waits for an instant, and ends."""

    @flow(name="ringing")
    async def ring(self, due: float) -> None:
        await sleep_until(datetime.fromtimestamp(due, UTC))
        rang.append(time.time() - due)


class Pausing(Flow):
    """A step that takes its time, on a thread of the pool."""

    @flow(name="pausing")
    async def rest(self, seconds: float) -> None:
        await self.pause(seconds)

    @step
    def pause(self, seconds: float) -> None:
        threading.Event().wait(seconds)


FLOWS = (Sequence, Pacing, Waiting, Ringing, Pausing)
