"""Flows of a store that is copied and moved, and a program that keeps an engine busy with them."""

from __future__ import annotations

import sys

from persistasaurus import Flow, FlowSystem, flow, step, wait_for

STEPS = 12


class Sums(Flow):
    @flow
    async def main(self, start: int) -> int:
        total = start
        for n in range(STEPS):
            total = await self.plus(total, n)
        return total + await wait_for("bonus", int)

    @step
    def plus(self, a: int, b: int) -> int:
        return a + b


def expected(start: int) -> int:
    return start + sum(range(STEPS)) + 1000


def keep_busy(path: str) -> None:
    """Start flows for ever, and give each the signal that it waits for at the end."""
    with FlowSystem(path, flows=[Sums]) as system:
        for n in range(1_000_000):
            handle = system.start(Sums.main, n, flow_id=f"sum-{n}")
            handle.signal("bonus", 1000, signal_id="only")
            if n % 20 == 0:
                sys.stdout.write(f"{n}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    keep_busy(sys.argv[1])
