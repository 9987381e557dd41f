"""Code of one flow that blocks or computes delays others by milliseconds, and not for as long as it takes."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, FlowSystem, flow, query, step, wait_for
from system.doubles import DEAD_MAN_S, Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUND_S = 2.0
"""Wide enough for any machine. What holds others up does so until the gate opens, which is later."""


class Holds(Flow):
    gate: Gate
    lock: threading.Lock

    @flow(name="holds in its body")
    async def in_body(self) -> None:
        Holds.gate()

    @flow(name="computes in its body")
    async def computes(self) -> None:
        Holds.gate.arrived.set()
        while not Holds.gate.is_open:
            pass

    @flow(name="holds in a step")
    async def in_step(self) -> None:
        await self.hold()

    @flow(name="wants a lock")
    async def wants_lock(self) -> None:
        await self.take_lock()

    @flow(name="holds in a query")
    async def in_query(self) -> None:
        await wait_for("never")

    @step
    def hold(self) -> None:
        Holds.gate()

    @step
    def take_lock(self) -> None:
        with Holds.lock:
            pass

    @query
    def look(self) -> None:
        Holds.gate()


class Quick(Flow):
    @flow(name="quick")
    async def main(self) -> int:
        return sum([await self.one() for _ in range(3)])

    @step
    def one(self) -> int:
        return 1


class HeldGate(Gate):
    is_open = False

    def open(self) -> None:
        self.is_open = True
        super().open()


@pytest.fixture(name="system")
def _system() -> Iterator[FlowSystem]:
    Holds.gate, Holds.lock = HeldGate(), threading.Lock()
    with FlowSystem(flows=[Holds, Quick]) as system:
        yield system
        Holds.gate.open()


def quick_ones_get_through(system: FlowSystem) -> None:
    begun = monotonic()
    for _ in range(5):
        assert system.start(Quick.main).result(timeout=DEAD_MAN_S) == 3
    assert monotonic() - begun < BOUND_S


def in_background(call: Callable[[], Any]) -> None:
    threading.Thread(target=call, daemon=True).start()


@pytest.mark.parametrize("what", [Holds.in_body, Holds.computes, Holds.in_step])
def test_a_body_or_a_step_holds_up_nobody(system: FlowSystem, what: Any) -> None:
    in_background(lambda: system.start(what))
    Holds.gate.wait()

    quick_ones_get_through(system)


def test_a_query_holds_up_nobody(system: FlowSystem) -> None:
    handle = system.start(Holds.in_query)
    in_background(lambda: handle.query(Holds.look))
    Holds.gate.wait()

    quick_ones_get_through(system)
    Holds.gate.open()


def test_a_listener_holds_up_nobody(system: FlowSystem) -> None:
    system.on_commit(Holds.gate)
    system.start(Quick.main)
    Holds.gate.wait()

    quick_ones_get_through(system)


def test_a_step_that_wants_a_lock_which_its_caller_holds_is_no_deadlock(system: FlowSystem) -> None:
    with Holds.lock:
        handle = system.start(Holds.wants_lock)
        quick_ones_get_through(system)

    handle.result(timeout=DEAD_MAN_S)


def test_a_step_that_blocks_is_not_parked_however_long_it_takes(
    make_system: Any, environment: Any, pass_time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Holds.gate = HeldGate()
    system = make_system(Holds, Quick, environment=environment)
    handle = system.start(Holds.in_step)
    Holds.gate.wait()
    pass_time(60.0)

    assert handle.status == "running"
    assert "has held a thread" not in caplog.text
    Holds.gate.open()
    handle.result(timeout=DEAD_MAN_S)


def test_threads_are_those_of_the_carriers_while_steps_are_short(system: FlowSystem) -> None:
    for _ in range(20):
        system.run(Quick.main)

    names = {thread.name for thread in threading.enumerate()}
    assert not {name for name in names if name.startswith("persistasaurus-step")}
