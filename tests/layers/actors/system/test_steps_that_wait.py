"""Steps that start other flows and wait for them, as a flow's body is told to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import DeadlockError, Flow, FlowFailed, FlowSystem, flow, query, step
from persistasaurus.actors.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEAD_MAN_S = 60.0
SYSTEM: list[Any] = []


class Child(Flow):
    def __init__(self) -> None:
        self.seen = 0

    @flow(name="child")
    async def go(self, n: int) -> int:
        self.seen = await self.work(n)
        return self.seen + await self.work_async(n)

    @flow(name="deep")
    async def deep(self, depth: int) -> int:
        return await self.descend(depth)

    @step
    def descend(self, depth: int) -> int:
        return SYSTEM[0].run(Child.deep, depth - 1) + 1 if depth else 0

    @query
    def peek(self) -> int:
        return self.seen

    @step
    def work(self, n: int) -> int:
        return n

    @step
    async def work_async(self, n: int) -> int:
        await asyncio.sleep(0)
        return n


class Parent(Flow):
    @flow(name="runs")
    async def runs(self, n: int) -> int:
        return await self.run(n)

    @flow(name="starts")
    async def starts(self, n: int) -> int:
        return await self.start(n)

    @flow(name="runs own loop")
    async def runs_own_loop(self, n: int) -> int:
        return await self.run_own_loop(n)

    @flow(name="awaits")
    async def awaits(self, n: int) -> int:
        return await self.run_async(n)

    @flow(name="blocks the loop")
    async def blocks_the_loop(self, n: int) -> int:
        return await self.run_blocking(n)

    @flow(name="blocks the loop later")
    async def blocks_the_loop_later(self, n: int) -> int:
        return await self.result_blocking(n)

    @flow(name="waits for itself")
    async def waits_for_itself(self, how: str) -> int:
        return await (self.own_result_async() if how == "async" else self.own_result())

    @step
    def run(self, n: int) -> int:
        return SYSTEM[0].run(Child.go, n)

    @step
    def start(self, n: int) -> int:
        handle = SYSTEM[0].start(Child.go, n, flow_id=f"child-{n}")
        return handle.result(timeout=DEAD_MAN_S) + handle.query(Child.peek) - n

    @step
    def run_own_loop(self, n: int) -> int:
        return asyncio.run(SYSTEM[0].run_async(Child.go, n))

    @step
    async def run_async(self, n: int) -> int:
        return await SYSTEM[0].run_async(Child.go, n)

    @step
    async def run_blocking(self, n: int) -> int:
        return SYSTEM[0].run(Child.go, n)

    @step
    async def result_blocking(self, n: int) -> int:
        handle = await SYSTEM[0].start_async(Child.go, n)
        return handle.result()

    @step
    def own_result(self) -> int:
        return SYSTEM[0].flow("myself").result()

    @step
    async def own_result_async(self) -> int:
        return await SYSTEM[0].flow("myself")


@pytest.fixture
def system() -> Iterator[FlowSystem]:
    with FlowSystem(flows=[Parent, Child], step_threads=3) as system:
        SYSTEM[:] = [system]
        yield system


@pytest.mark.parametrize("body", [Parent.runs, Parent.starts, Parent.awaits])
def test_any_number_of_steps_may_wait_for_flows_that_need_steps(
    body: Callable[..., Any], system: FlowSystem
) -> None:
    handles = [system.start(body, n) for n in range(300)]

    assert [handle.result(timeout=DEAD_MAN_S) for handle in handles] == [2 * n for n in range(300)]
    assert system.statistics().blocked_steps == 0


def test_steps_may_wait_on_an_asyncio_loop_of_their_own(system: FlowSystem) -> None:
    handles = [system.start(Parent.runs_own_loop, n) for n in range(20)]

    assert [handle.result(timeout=DEAD_MAN_S) for handle in handles] == [2 * n for n in range(20)]


def test_flows_may_wait_for_flows_that_wait_for_flows(system: FlowSystem) -> None:
    handles = [system.start(Child.deep, 20) for _ in range(5)]

    assert [handle.result(timeout=DEAD_MAN_S) for handle in handles] == [20] * 5


@pytest.mark.parametrize("body", [Parent.blocks_the_loop, Parent.blocks_the_loop_later])
def test_an_async_step_that_would_block_the_loop_is_told_what_to_await(
    body: Callable[..., Any], system: FlowSystem
) -> None:
    with pytest.raises(FlowFailed, match="DeadlockError: an `async def` step would block the loop") as failed:
        system.run(body, 1)

    assert "await" in failed.value.message.rpartition(":")[2]


@pytest.mark.parametrize("how", ["async", "def"])
def test_a_step_that_waits_for_its_own_flow_is_told_so(how: str, system: FlowSystem) -> None:
    with pytest.raises(FlowFailed, match="a step of flow 'myself' waits for that flow"):
        system.start(Parent.waits_for_itself, how, flow_id="myself").result(timeout=DEAD_MAN_S)


def test_a_flow_of_another_system_may_have_the_same_id(system: FlowSystem) -> None:
    with FlowSystem(flows=[Parent, Child]) as other:
        handle = other.start(Parent.starts, 7, flow_id="child-7")

        assert handle.result(timeout=DEAD_MAN_S) == 14


def test_a_deadlock_is_also_a_runtime_error_as_asyncio_raises_it() -> None:
    assert issubclass(DeadlockError, RuntimeError)


@pytest.mark.parametrize("body", [Parent.runs, Parent.starts, Parent.awaits])
def test_steps_may_wait_for_flows_in_a_simulated_world(body: Callable[..., Any]) -> None:
    with World() as world:
        world.register(Child)
        SYSTEM[:] = [world.system]
        handles = [world.start(body, n) for n in range(5)]

        assert [handle.result() for handle in handles] == [2 * n for n in range(5)]
