"""The flows that are measured: as little work of their own as possible."""

from __future__ import annotations

from datetime import timedelta

from persistasaurus import Flow, flow, sleep, step, wait_for


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


FLOWS = (Sequence, Pacing, Waiting)
