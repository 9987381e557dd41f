"""A system at work: starts, recovery, handles, queries, pauses, lists, and what it refuses at its door."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowAlreadyExists,
    FlowDefinitionError,
    FlowFailed,
    FlowNotFound,
    FlowSystem,
    flow,
    query,
    step,
    wait_for,
)
from persistasaurus.flows.examples import HelloWorldFlow, signup_flow
from system.doubles import DEAD_MAN_S, kinds, live_flows, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Signup = signup_flow(timedelta(milliseconds=10))


class Waits(Flow):
    def __init__(self) -> None:
        self.seen: list[int] = []

    @flow
    async def main(self, n: int = 1) -> int:
        for _ in range(n):
            self.seen = [*self.seen, await wait_for("n", int)]
        return sum(self.seen)

    @query
    def so_far(self) -> list[int]:
        return self.seen

    @query
    def exits(self) -> None:
        raise SystemExit(3)

    @query
    def fails(self) -> None:
        raise KeyError("nothing")

    @query
    def assigns(self) -> None:
        self.seen = []


def test_the_example_of_the_design(path: Path) -> None:
    with FlowSystem(path, flows=[HelloWorldFlow, Signup]) as system:
        assert system.run(HelloWorldFlow.say_hello) == 10
        handle = system.start(Signup.sign_up, "ada", "ada@example.com", flow_id="signup-ada")
        handle.signal(Signup.confirm_email_address, datetime.now(UTC), signal_id="mail-1")
        user_id = handle.result(timeout=30)
    assert 1000 <= user_id < 10000


def test_opening_a_store_recovers_every_unfinished_flow(
    make_system: Callable[..., FlowSystem], path: Path, killed: Callable[[Path], Path]
) -> None:
    system = make_system(Waits, path=path)
    handles = [system.start(Waits.main, 2, flow_id=f"flow-{n}") for n in range(30)]
    for handle in handles:
        handle.signal("n", 1)
    wait_until(lambda: all(handle.query(Waits.so_far) == [1] for handle in handles))
    system = make_system(Waits, path=killed(path))
    again = [system.flow(f"flow-{n}") for n in range(30)]

    assert all(handle.query(Waits.so_far) == [1] for handle in again)
    for handle in again:
        handle.signal("n", 2)
    assert [handle.result(DEAD_MAN_S) for handle in again] == [3] * 30


def test_start_with_an_id_that_exists_returns_that_flow_when_type_and_arguments_agree(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Waits, HelloWorldFlow)
    first = system.start(Waits.main, 1, flow_id="same")
    second = system.start(Waits.main, 1, flow_id="same")
    first.signal("n", 5)

    assert second.result(DEAD_MAN_S) == 5
    assert system.start(Waits.main, 1, flow_id="same").result(DEAD_MAN_S) == 5
    assert kinds(first).count("flow_started") == 1
    with pytest.raises(FlowAlreadyExists, match="other arguments"):
        system.start(Waits.main, 2, flow_id="same")
    with pytest.raises(FlowAlreadyExists, match=r"not 'HelloWorldFlow"):
        system.start(HelloWorldFlow.say_hello, flow_id="same")


def test_start_with_an_id_that_exists_tolerates_a_parameter_with_a_default_added_since(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    class Before(Flow):
        @flow(name="grown")
        async def main(self, n: int) -> int:
            return n + await wait_for("n", int)

    class After(Flow):
        @flow(name="grown")
        async def main(self, n: int, factor: int = 1) -> int:
            return (n + await wait_for("n", int)) * factor

    make_system(Before, path=path).start(Before.main, 1, flow_id="grown")
    system = _reopened(make_system, path, After)

    handle = system.start(After.main, 1, flow_id="grown")
    with pytest.raises(FlowAlreadyExists):
        system.start(After.main, 1, 2, flow_id="grown")
    handle.signal("n", 2)
    assert handle.result(DEAD_MAN_S) == 3


def _reopened(make_system: Callable[..., FlowSystem], path: Path, *flows: Any) -> FlowSystem:
    from persistasaurus import StoreOwned  # noqa: PLC0415

    with pytest.raises(StoreOwned):
        make_system(*flows, path=path)
    _close_all(make_system)
    return make_system(*flows, path=path)


def _close_all(make_system: Callable[..., FlowSystem]) -> None:
    for active in make_system.__closure__ or ():
        if isinstance(active.cell_contents, list):
            for system in active.cell_contents:
                system.close()


def test_a_handle_tells_id_status_events_and_answers_queries_at_any_time(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Waits)
    handle = system.start(Waits.main, 2, flow_id="any")
    assert handle.id == "any"
    wait_until(lambda: handle.status == "waiting")
    handle.signal("n", 1)
    wait_until(lambda: handle.query(Waits.so_far) == [1])
    handle.signal("n", 2)
    assert handle.result(DEAD_MAN_S) == 3

    assert handle.status == "completed"
    assert handle.query(Waits.so_far) == [1, 2]
    assert [e.version for e in handle.events()] == list(range(1, len(handle.events()) + 1))
    assert all(e.at.tzinfo is UTC for e in handle.events())


def test_what_a_query_raises_goes_to_the_asker_and_harms_nobody(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Waits)
    handle = system.start(Waits.main)

    with pytest.raises(KeyError, match="nothing"):
        handle.query(Waits.fails)
    with pytest.raises(Exception, match="SystemExit: 3"):
        handle.query(Waits.exits)
    with pytest.raises(AttributeError, match="replay"):
        handle.query(Waits.assigns)
    handle.signal("n", 5)
    assert handle.result(DEAD_MAN_S) == 5


def test_a_paused_flow_starts_nothing_more_and_resumes_with_all_that_has_happened(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    system = make_system(Waits, path=path)
    handle = system.start(Waits.main, 2, flow_id="paused")
    handle.pause(by="somebody", why="to look")
    handle.pause()
    for n in (1, 2):
        handle.signal("n", n)
    assert handle.status == "paused"
    assert handle.query(Waits.so_far) == []
    with pytest.raises(TimeoutError):
        handle.result(0.01)
    system.close()
    handle = make_system(Waits, path=path).flow("paused")
    assert (handle.status, handle.query(Waits.so_far)) == ("paused", [])
    handle.resume()

    assert handle.result(DEAD_MAN_S) == 3


def test_a_timeout_or_a_lost_interest_leaves_nobody_waiting(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Waits)
    handle = system.start(Waits.main)
    for _ in range(3):
        with pytest.raises(TimeoutError, match="has not ended within"):
            handle.result(0.001)
    watchers = system.supervisor.actor_inbox.owner._watchers

    wait_until(lambda: len(watchers) == 0)


def test_flows_are_listed_in_pages_and_by_type_and_status(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Waits, HelloWorldFlow)
    for n in range(7):
        system.start(Waits.main, flow_id=f"w-{n}")
    system.run(HelloWorldFlow.say_hello, flow_id="h")
    wait_until(lambda: len(system.flows(status="waiting")) == 7)

    assert [f.stream for f in system.flows(limit=3)] == ["w-0", "w-1", "w-2"]
    assert [f.stream for f in system.flows(limit=3, after="w-2")] == ["w-3", "w-4", "w-5"]
    assert [f.stream for f in system.flows(after="w-6")] == ["h"]
    assert [f.stream for f in system.flows(status="completed")] == ["h"]
    assert len(system.flows(type="Waits.main")) == 7
    assert system.flows(type="nothing") == system.flows(status="failed") == []
    with pytest.raises(FlowNotFound):
        system.flows(after="nobody")


def test_what_is_not_registered_or_does_not_fit_is_refused_at_the_door(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Waits)

    with pytest.raises(FlowDefinitionError, match="not registered"):
        system.start(HelloWorldFlow.say_hello)
    with pytest.raises(TypeError):
        system.start(Waits.main, 1, 2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="flow id"):
        system.start(Waits.main, flow_id="")
    with pytest.raises(ValueError, match="signal id"):
        system.start(Waits.main).signal("n", 1, signal_id="a\nb")


def test_a_flow_that_uses_its_system_is_told_to_do_that_in_a_step(
    make_system: Callable[..., FlowSystem],
) -> None:
    class Uses(Flow):
        @flow
        async def main(self) -> None:
            systems[0].start(Waits.main)

    systems = [make_system(Waits, Uses)]
    with pytest.raises(FlowFailed, match="in a step"):
        systems[0].run(Uses.main)


def test_a_step_may_use_the_system(make_system: Callable[..., FlowSystem]) -> None:
    class Uses(Flow):
        @flow
        async def main(self) -> int:
            return await self.asks()

        @step
        def asks(self) -> int:
            handle = systems[0].start(Waits.main)
            handle.signal("n", 7)
            return handle.result(DEAD_MAN_S)

    systems = [make_system(Waits, Uses)]
    assert systems[0].run(Uses.main) == 7


def test_several_systems_live_in_one_process(make_system: Callable[..., FlowSystem], tmp_path: Path) -> None:
    systems = [make_system(Waits, path=tmp_path / f"{n}.db") for n in range(5)]
    handles = [system.start(Waits.main, flow_id="same") for system in systems]
    for n, handle in enumerate(handles):
        handle.signal("n", n)
    systems[0].close()

    assert [handle.result(DEAD_MAN_S) for handle in handles[1:]] == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_whatever_users_code_raises_is_that_flows_failure_and_nobody_elses(
    make_system: Callable[..., FlowSystem], error: type[BaseException]
) -> None:
    class Raises(Flow):
        def __init__(self) -> None:
            if where[0] == "init":
                raise error("injected")

        @flow
        async def body(self) -> None:
            raise error("injected")

        @flow
        async def steps(self) -> None:
            await self.one()

        @flow
        async def async_steps(self) -> None:
            await self.two()

        @step
        def one(self) -> None:
            raise error("injected")

        @step
        async def two(self) -> None:
            raise error("injected")

    where = [""]
    system = make_system(Raises, Waits)
    bystander = system.start(Waits.main)
    for kind in (Raises.body, Raises.steps, Raises.async_steps):
        with pytest.raises(FlowFailed, match=error.__name__):
            system.start(kind).result(DEAD_MAN_S)
    where[0] = "init"
    with pytest.raises(FlowFailed, match=error.__name__):
        system.start(Raises.body).result(DEAD_MAN_S)
    bystander.signal("n", 1)

    assert bystander.result(DEAD_MAN_S) == 1
    assert bystander.id not in live_flows(system) or bystander.status == "completed"


def test_a_payload_whose_comparison_exits_fails_its_flow_only(make_system: Callable[..., FlowSystem]) -> None:
    from dataclasses import dataclass  # noqa: PLC0415

    @dataclass(eq=False)
    class Nasty:
        n: int

        def __eq__(self, other: object) -> bool:
            raise SystemExit(4)

        __hash__ = None  # type: ignore[assignment]

    class Returns(Flow):
        @flow
        async def main(self) -> None:
            await self.nasty()

        @step
        def nasty(self):  # type: ignore[no-untyped-def]
            return Nasty(1)

    Returns.__dict__["nasty"].function.__annotations__["return"] = Nasty
    system = make_system(Returns, Waits)
    with pytest.raises(FlowFailed):
        system.start(Returns.main).result(DEAD_MAN_S)
    handle = system.start(Waits.main)
    handle.signal("n", 2)
    assert handle.result(DEAD_MAN_S) == 2
