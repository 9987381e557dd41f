"""Turns: a step that may have killed the process runs alone; the next one begins as soon as it is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from persistasaurus import Flow, FlowParked, current_step, flow, step, wait_for
from persistasaurus.actors.testing.simulation import Simulation
from system.doubles import FaultyStore, damage_inbox, losing_records, memory_store, supervisor_of

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP_S = 5
begun: Counter[str] = Counter()


class Suspected(Flow):
    @flow
    async def main(self) -> int:
        await self.takes()
        return await wait_for("n", int)

    @step
    async def takes(self) -> None:
        begun[current_step().flow_id] += 1
        await asyncio.sleep(STEP_S)


class Suspects(NamedTuple):
    """Two flows whose steps were under way each time that the process died; `first` has its turn."""

    simulation: Simulation
    store: FaultyStore
    first: str
    second: str

    def have_begun(self) -> tuple[int, int]:
        """Tell how often their steps were begun after the last death."""
        return begun[self.first] - 2, begun[self.second] - 2

    def signal_the_first(self) -> None:
        self.simulation.system.flow(self.first).signal("n", 1)
        self.simulation.advance(1)


@pytest.fixture
def suspects() -> Iterator[Suspects]:
    store = FaultyStore(memory_store())

    def opened(_: Any) -> Any:
        store.reopen()
        return store

    begun.clear()
    with Simulation([Suspected], store=opened) as simulation:
        for name in ("a", "b"):
            simulation.system.start(Suspected.main, flow_id=name)
        for _ in range(2):
            simulation.advance(1)
            simulation.crash()
        simulation.boot()
        simulation.run_until_idle()
        turns = supervisor_of(simulation.system)._suspect_queue
        first, (second, _) = turns._flow_id, turns._waiting[0]
        found = Suspects(simulation, store, first, second)
        assert found.have_begun() == (1, 0)
        yield found
    store.inner.close()


def test_the_next_has_its_turn_as_soon_as_the_step_has_ended(suspects: Suspects) -> None:
    suspects.simulation.advance(STEP_S - 1)
    assert suspects.have_begun() == (1, 0)
    suspects.simulation.advance(1)
    assert suspects.have_begun() == (1, 1)


def test_the_next_has_its_turn_as_soon_as_the_flow_is_parked(suspects: Suspects) -> None:
    damage_inbox(suspects.store, suspects.first, "injected")
    suspects.signal_the_first()

    with pytest.raises(FlowParked, match="injected"):
        suspects.simulation.system.flow(suspects.first).result(0.1)
    assert suspects.have_begun() == (1, 1)


def test_the_next_has_its_turn_as_soon_as_the_actor_of_the_flow_has_crashed(suspects: Suspects) -> None:
    suspects.store.fail = losing_records
    suspects.signal_the_first()

    assert suspects.store.fail is None
    assert suspects.have_begun() == (1, 1)
