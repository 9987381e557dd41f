"""A flow that uses everything, and a driver that asks again whatever was not confirmed."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from persistasaurus import (
    Flow,
    FlowHandle,
    FlowSystem,
    Retry,
    StoreUnavailable,
    current_step,
    flow,
    gather,
    query,
    signal,
    sleep,
    step,
    wait_for,
)
from persistasaurus.flows import events
from system.doubles import DEAD_MAN_S, completions, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

effects: Counter[str] = Counter()


def _note() -> None:
    effects[current_step().idempotency_key] += 1


class Reference(Flow):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @flow
    async def main(self, n: int) -> int:
        a = await self.add(n)
        await sleep(0.001)
        b, c = await gather(self.add(a), self.add_async(a))
        s = await wait_for("go", int)
        self.seen = [*self.seen, s]
        t = await self.confirm()
        self.seen = [*self.seen, t]
        d = await self.flaky(s)
        e = await self.late(d)
        return a + b + c + s + t + d + e

    @query
    def so_far(self) -> list[int]:
        return self.seen

    @step
    def add(self, n: int) -> int:
        _note()
        return n + 1

    @step
    async def add_async(self, n: int) -> int:
        _note()
        return n + 2

    @signal
    def confirm(self, by: int) -> int:
        _note()
        return by * 2

    @step(retry=Retry(max_attempts=3, initial=timedelta(milliseconds=1)))
    def flaky(self, n: int) -> int:
        _note()
        if effects[current_step().idempotency_key] == 1:
            raise ValueError("the first time, always")
        return n

    @step(delay=timedelta(milliseconds=1))
    def late(self, n: int) -> int:
        _note()
        return n


RESULT = 2 + 3 + 4 + 10 + 40 + 10 + 10
EFFECTS = {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 1}


def insist(call: Callable[[], Any]) -> Any:
    """Ask again, with the same ids, until it is confirmed."""
    answers: list[Any] = []

    def is_confirmed() -> bool:
        try:
            answers.append(call())
        except StoreUnavailable:
            return False
        return True

    wait_until(is_confirmed)
    return answers[0]


def drive(system: FlowSystem, flow_id: str) -> FlowHandle[int]:
    """Run the flow from outside, as an insistent client does."""
    for step_number in EFFECTS:
        effects.pop(f"{flow_id}/{step_number}", None)
    handle: FlowHandle[int] = insist(lambda: system.start(Reference.main, 1, flow_id=flow_id))
    insist(lambda: handle.signal("go", 10, signal_id="go-1"))
    insist(lambda: handle.query(Reference.so_far))
    insist(lambda: handle.pause(by="the test"))
    insist(lambda: handle.resume(by="the test"))
    insist(lambda: handle.signal(Reference.confirm, 20, signal_id="confirm-1"))
    insist(lambda: handle.signal("go", 10, signal_id="go-1"))
    return handle


def check(handle: FlowHandle[int]) -> None:
    """Hold what has come of it against a run without faults."""
    assert handle.result(timeout=DEAD_MAN_S) == RESULT
    assert completions(handle) == dict.fromkeys(EFFECTS, 1)
    received = [e.event.key for e in handle.events() if isinstance(e.event, events.SignalReceived)]
    assert sorted(received) == ["confirm-1", "go-1"]
    assert {n: effects[f"{handle.id}/{n}"] for n in EFFECTS} == EFFECTS
    assert insist(lambda: handle.query(Reference.so_far)) == [10, 40]
