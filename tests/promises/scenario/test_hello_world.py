"""The first diagram: five steps, numbered from 1 under the flow, which is step 0."""

from __future__ import annotations

from itertools import pairwise
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import Flow, flow, step
from persistasaurus.flows.examples import HelloWorldFlow
from scenario.world import DEAD_MAN_S, Told, calmly

if TYPE_CHECKING:
    from collections.abc import Callable

    from scenario.world import World

LINES = [*(f"Hello, World ({count})" for count in range(5)), "Sum: 10"]
DIAGRAM = [
    Told("flow_started", 0),
    *(Told(kind, number) for number in range(1, 6) for kind in ("step_started", "step_completed")),
    Told("flow_completed", 0),
]

looks: list[Callable[[int], Any]] = []


class WatchedHello(Flow):
    """The hello world flow, with somebody looking on while a step runs."""

    @flow(name="HelloWorldFlow")
    async def say_hello(self) -> int:
        return sum([await self.say("World", count) for count in range(5)])

    @step
    def say(self, name: str, count: int) -> int:
        for look in looks:
            look(count)
        return count


@pytest.fixture(autouse=True)
def _nobody_looks_on() -> None:
    looks.clear()


def test_the_flow_prints_what_the_seeds_print(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.open(HelloWorldFlow).run(HelloWorldFlow.say_hello) == 10

    assert capsys.readouterr().out.splitlines() == LINES


def test_the_record_is_the_diagram(world: World) -> None:
    world.open(HelloWorldFlow).run(HelloWorldFlow.say_hello, flow_id="hello")

    assert world.story("hello") == DIAGRAM


def test_the_record_says_what_each_step_was_given_and_what_it_returned(world: World) -> None:
    world.open(HelloWorldFlow).run(HelloWorldFlow.say_hello, flow_id="hello")

    history = [recorded.event for recorded in world.history("hello")]
    started, completed = history[1:-1:2], history[2:-1:2]
    assert [event.name for event in started] == ["say"] * 5
    assert [msgspec.json.decode(event.args) for event in started] == [
        {"name": "World", "count": count} for count in range(5)
    ]
    assert [msgspec.json.decode(event.result) for event in completed] == [0, 1, 2, 3, 4]
    assert msgspec.json.decode(history[-1].result) == 10


def test_versions_count_from_1_without_a_gap_and_time_never_goes_back(world: World) -> None:
    world.open(HelloWorldFlow).run(HelloWorldFlow.say_hello, flow_id="hello")

    history = world.history("hello")
    assert [recorded.version for recorded in history] == list(range(1, 13))
    assert all(one.at <= next_one.at for one, next_one in pairwise(history))


def test_a_step_is_on_record_before_it_runs_and_its_result_before_the_next_one_does(world: World) -> None:
    seen: list[list[Told]] = []
    looks.append(lambda _: seen.append(world.story("hello")))

    world.open(WatchedHello).run(WatchedHello.say_hello, flow_id="hello")

    assert seen == [DIAGRAM[: 2 + 2 * count] for count in range(5)]


def test_the_same_flow_again_is_answered_from_the_log(world: World) -> None:
    calls: list[int] = []
    looks.append(calls.append)
    world.open(WatchedHello).run(WatchedHello.say_hello, flow_id="hello")

    again = world.open(WatchedHello).start(WatchedHello.say_hello, flow_id="hello")

    assert again.result(5) == 10
    assert calls == [0, 1, 2, 3, 4]
    assert world.story("hello") == DIAGRAM


def test_a_shutdown_during_a_step_waits_for_it_and_no_step_is_repeated(world: World) -> None:
    calls: list[int] = []
    is_in_step, may_end = Event(), Event()

    def hold_the_third(count: int) -> None:
        calls.append(count)
        if count == 2:
            is_in_step.set()
            assert may_end.wait(DEAD_MAN_S)

    looks.append(hold_the_third)
    system = world.open(WatchedHello)
    system.start(WatchedHello.say_hello, flow_id="hello")
    assert is_in_step.wait(DEAD_MAN_S)
    closing = Thread(target=system.close)
    closing.start()
    world.until(lambda: system.client.admission.is_closed)
    may_end.set()
    closing.join(DEAD_MAN_S)

    assert world.open(WatchedHello).flow("hello").result(DEAD_MAN_S) == 10
    assert calls == [0, 1, 2, 3, 4]
    assert calmly(world.story("hello")) == DIAGRAM
