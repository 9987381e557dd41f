"""Flows that the old bugs would have broken, and a store that fails when it is told to."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from threading import Event
from typing import TYPE_CHECKING, Any

from persistasaurus import Flow, Retry, current_step, flow, gather, signal, sleep, sleep_until, step, wait_for
from persistasaurus.store import StoreError

if TYPE_CHECKING:
    from persistasaurus.actors.testing.simulation import Simulation
    from persistasaurus.store import EventStore

effects: Counter[str] = Counter()
DEAD_MAN_S = 20.0


class Errand(Flow):
    """Two steps, a rest between them, and a word from outside."""

    @flow(name="errand")
    async def run(self, seconds: float = 10.0) -> str:
        await self.leave()
        await sleep(seconds)
        word = await self.word()
        await self.arrive()
        return word

    @step
    def leave(self) -> None:
        effects[f"{current_step().flow_id}/leave"] += 1

    @signal
    def word(self, text: str) -> str:
        return text

    @step
    def arrive(self) -> None:
        effects[f"{current_step().flow_id}/arrive"] += 1


class Stubborn(Flow):
    """Fails once, and is tried again after a while."""

    @flow(name="stubborn")
    async def run(self) -> int:
        return await self.trying()

    @step(retry=Retry(max_attempts=3, initial=timedelta(seconds=100), factor=1.0, jitter=0.0))
    def trying(self) -> int:
        attempt = current_step().attempt
        if attempt == 1:
            raise ConnectionError("not yet")
        return attempt


class Two(Flow):
    """Two wait for the same."""

    @flow(name="two")
    async def run(self) -> list[int]:
        return list(await gather(wait_for("go", int), wait_for("go", int)))


class Appointment(Flow):
    @flow(name="appointment")
    async def run(self, at: datetime) -> int:
        await sleep_until(at)
        return await self.meet()

    @step
    def meet(self) -> int:
        effects[f"{current_step().flow_id}/meet"] += 1
        return effects[f"{current_step().flow_id}/meet"]


class Held(Flow):
    """A step that stands still, the first time, until it is let go."""

    arrived = Event()
    let_go = Event()

    @flow(name="held")
    async def run(self) -> str:
        first = await self.hold()
        await self.after()
        return first

    @step
    def hold(self) -> str:
        effects[f"{current_step().flow_id}/hold"] += 1
        if effects[f"{current_step().flow_id}/hold"] > 1:
            return "second"
        self.arrived.set()
        assert self.let_go.wait(DEAD_MAN_S)
        return "first"

    @step
    def after(self) -> None:
        effects[f"{current_step().flow_id}/after"] += 1


class BadReads:
    """Passes everything on to a store, but for one reading, which fails."""

    def __init__(self, inner: EventStore, fail_at: int) -> None:
        self._inner = inner
        self.left = fail_at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in ("read", "header", "headers", "inbox", "due", "load"):
            return found

        def reading(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise StoreError(f"{name} fails, this once")
            return found(*args, **options)

        return reading


def finish_errand(simulation: Simulation, flow_id: str) -> Any:
    simulation.insist(
        lambda system: system.flow(flow_id).signal(Errand.word, "hello", signal_id=f"{flow_id}-word")
    )
    return simulation.insist(lambda system: system.flow(flow_id).result(timeout=10_000))
