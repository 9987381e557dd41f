"""An async step that blocks its loop: the steps beside it are in doubt, and each is seen to as it says."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Done, Flow, FlowParked, FlowSystem, Retry, flow, step
from system.doubles import DEAD_MAN_S, Gate, kinds, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from persistasaurus.actors.runtime.environment import Environment


class Besides(Flow):
    gate: Gate
    begun: dict[str, int]

    @flow(name="blocks")
    async def culprit(self) -> str:
        return await self.block()

    @flow(name="blocks with timeout")
    async def impatient(self) -> str:
        return await self.block_for_short()

    @flow(name="beside")
    async def beside(self, kind: str) -> str:
        return await {"retry": self.often, "park": self.at_most_once, "reconcile": self.findable}[kind]()

    @step
    async def block(self) -> str:
        Besides.gate()
        return "at last"

    @step(timeout=timedelta(seconds=2), retry=Retry(max_attempts=2, initial=timedelta(seconds=1)))
    async def block_for_short(self) -> str:
        if _begin("impatient") == 1:
            Besides.gate()
        return "at last"

    @step
    async def often(self) -> str:
        return await _once_in_vain("retry")

    @step(on_crash="park")
    async def at_most_once(self) -> str:
        return await _once_in_vain("park")

    def find_out(self) -> Done[str] | None:
        return Done("found")

    @step(reconcile=find_out)
    async def findable(self) -> str:
        return await _once_in_vain("reconcile")


def _begin(kind: str) -> int:
    Besides.begun[kind] = Besides.begun.get(kind, 0) + 1
    return Besides.begun[kind]


async def _once_in_vain(kind: str) -> str:
    if _begin(kind) == 1:
        await asyncio.Event().wait()
    return f"done by attempt {Besides.begun[kind]}"


@pytest.fixture(name="system")
def _system(
    make_system: Callable[..., FlowSystem], environment: Environment, path: Path
) -> Iterator[FlowSystem]:
    Besides.gate, Besides.begun = Gate(), {}
    yield make_system(Besides, environment=environment, path=path)
    Besides.gate.open()


def begun(kind: str) -> None:
    wait_until(lambda: Besides.begun.get(kind))


def test_a_step_beside_it_runs_again_as_after_a_crash(system: FlowSystem, pass_time: Any) -> None:
    beside = system.start(Besides.beside, "retry")
    begun("retry")
    culprit = system.start(Besides.culprit)
    Besides.gate.wait()
    pass_time(6.0)

    assert beside.result(timeout=DEAD_MAN_S) == "done by attempt 2"
    assert kinds(beside) == [
        "flow_started",
        "step_started",
        "step_interrupted",
        "step_attempted",
        "step_completed",
        "flow_completed",
    ]
    Besides.gate.open()
    assert culprit.result(timeout=DEAD_MAN_S) == "at last"


def test_one_that_must_not_run_twice_waits_for_a_person(system: FlowSystem, pass_time: Any) -> None:
    beside = system.start(Besides.beside, "park")
    begun("park")
    system.start(Besides.culprit)
    Besides.gate.wait()
    pass_time(6.0)

    with pytest.raises(FlowParked, match="in_doubt"):
        beside.result(timeout=DEAD_MAN_S)
    assert Besides.begun["park"] == 1
    beside.retry()
    assert beside.result(timeout=DEAD_MAN_S) == "done by attempt 2"


def test_one_that_can_find_out_is_asked(system: FlowSystem, pass_time: Any) -> None:
    beside = system.start(Besides.beside, "reconcile")
    begun("reconcile")
    system.start(Besides.culprit)
    Besides.gate.wait()
    pass_time(6.0)

    assert beside.result(timeout=DEAD_MAN_S) == "found"
    assert Besides.begun["reconcile"] == 1


def test_the_next_attempt_of_one_that_blocks_beyond_its_timeout_runs(
    system: FlowSystem, pass_time: Any
) -> None:
    impatient = system.start(Besides.impatient)
    Besides.gate.wait()
    pass_time(2.5)
    wait_until(lambda: "step_failed" in kinds(impatient))
    wait_until(lambda: pass_time(1.0) or impatient.status == "completed")

    assert impatient.result(timeout=DEAD_MAN_S) == "at last"
    assert system.statistics().leaked_steps == 1


def test_a_paused_flow_sees_to_its_lost_step_when_it_is_resumed(system: FlowSystem, pass_time: Any) -> None:
    beside = system.start(Besides.beside, "retry")
    begun("retry")
    beside.pause()
    system.start(Besides.culprit)
    Besides.gate.wait()
    pass_time(6.0)
    wait_until(lambda: "step_interrupted" in kinds(beside))
    assert beside.status == "paused"
    assert Besides.begun["retry"] == 1

    beside.resume()
    assert beside.result(timeout=DEAD_MAN_S) == "done by attempt 2"
