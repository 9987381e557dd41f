"""Scenarios in which something holds a carrier, on real threads: others must get on, and all must end.

What waits in vain is given up after some seconds, and said to be wrong. The last one plays in virtual time.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from persistasaurus import Flow, FlowSystem, flow, query, step
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.dispatcher import Dispatcher
from persistasaurus.actors.testing.simulation import Simulation
from pykka import Timeout
from simulation.planted.holdups import Wrong, must

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 3.0
"""What takes milliseconds when all is well, also on a machine that is busy."""


class _Obedient(PooledActor):
    def on_receive(self, message: Any) -> Any:
        return message()


@contextmanager
def _carriers() -> Iterator[tuple[Dispatcher, threading.Event]]:
    dispatcher, gate = Dispatcher("planted", workers=1, has_watchman=True), threading.Event()
    try:
        yield dispatcher, gate
    finally:
        gate.set()
        dispatcher.close(timeout=PATIENCE_S)


def _hold(dispatcher: Dispatcher, gate: threading.Event) -> Any:
    entered = threading.Event()
    reply = _Obedient.start_on(dispatcher).ask(lambda: (entered.set(), gate.wait(30)), block=False)
    must(entered.wait(PATIENCE_S), "an actor does not come to run")
    return reply


def one_carrier_after_another_is_held() -> None:
    """Judge: whenever some are held, another takes over; then they count again, and all end."""
    with _carriers() as (dispatcher, _):
        other = _Obedient.start_on(dispatcher)
        for _ in range(2):
            gate = threading.Event()
            try:
                holding = [_hold(dispatcher, gate) for _ in range(4)]
                other.ask(int, timeout=PATIENCE_S)
            except Timeout:
                raise Wrong("nobody takes over from a carrier that is held") from None
            finally:
                gate.set()
            for one in holding:
                one.get(timeout=PATIENCE_S)
        must(_soon(lambda: dispatcher.live_threads <= 1 + 2), "there are more and more threads")
        must(dispatcher.close(timeout=PATIENCE_S), "a thread is left when the dispatcher is closed")
    names = lambda: [t.name for t in threading.enumerate() if t.name.startswith("planted")]  # noqa: E731
    must(_soon(lambda: not names()), "a thread is left that the dispatcher knows nothing of")


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = monotonic() + PATIENCE_S
    while not condition():
        if monotonic() > deadline:
            return False
        threading.Event().wait(0.005)
    return True


def a_thread_is_refused() -> None:
    """Judge: who could not be relieved for want of a thread is relieved when there is one."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with _carriers() as (dispatcher, gate):
        other = _Obedient.start_on(dispatcher)
        other.ask(int, timeout=PATIENCE_S)
        with patch.object(threading.Thread, "start", refuse):
            _hold(dispatcher, gate)
            late = other.ask(int, block=False)
            _soon(lambda: dispatcher.carriers.lacks_threads)
        try:
            late.get(timeout=PATIENCE_S)
        except Timeout:
            raise Wrong("a thread that was refused once is never asked for again") from None


class Carried(Flow):
    system: Any = None
    gate: threading.Event

    @flow(name="carried")
    async def quick(self) -> int:
        return await self.one()

    @flow(name="runs another")
    async def runs_another(self) -> int:
        return await self.run_another()

    @flow(name="blocked")
    async def blocked(self) -> bool:
        return await self.block()

    @flow(name="asks itself")
    async def asks_itself(self) -> int:
        return await self.ask()

    @step
    def one(self) -> int:
        return 1

    @step
    def run_another(self) -> int:
        return Carried.system.run(Carried.quick)

    @step
    def block(self) -> bool:
        return Carried.gate.wait(30)

    @step
    def ask(self) -> int:
        return Carried.system.flow("itself").query(Carried.seven)

    @query
    def seven(self) -> int:
        return 7


def a_step_waits_for_another_flow() -> None:
    """Judge: it does not count while it waits, so that the other flow's step may run."""
    with FlowSystem(flows=[Carried], step_threads=1) as system:
        Carried.system = system
        handle = system.start(Carried.runs_another)
        try:
            handle.result(timeout=PATIENCE_S)
        except TimeoutError:
            raise Wrong("a step waits for ever for a flow whose step may not run") from None
        finally:
            system._executor.close(system.environment.clock.elapsed())


def many_steps_block() -> None:
    """Judge: more of them than there are carriers hold up no other flow."""
    Carried.gate = threading.Event()
    with FlowSystem(flows=[Carried], step_threads=100) as system:
        try:
            for _ in range(80):
                system._start(Carried.blocked, (), {}, None)
            last = system._start(Carried.quick, (), {}, "last")
            last.reply.get(timeout=4 * PATIENCE_S)
            system.flow("last").result(timeout=PATIENCE_S)
        except (Timeout, TimeoutError):
            raise Wrong("steps that block hold up all others") from None
        finally:
            Carried.gate.set()


def a_step_asks_its_own_flow() -> None:
    """Judge: it is answered, since the flow has no turn while its step runs."""
    for seed in range(5):
        with Simulation([Carried], seed=seed) as simulation:
            Carried.system = simulation.system
            handle = simulation.system.start(Carried.asks_itself, flow_id="itself")
            simulation.run_until_idle()
            must(handle.status == "completed", f"a flow is {handle.status} whose step asks it something")


SCENARIOS: tuple[Callable[[], None], ...] = (
    one_carrier_after_another_is_held,
    a_thread_is_refused,
    a_step_waits_for_another_flow,
    many_steps_block,
    a_step_asks_its_own_flow,
)
