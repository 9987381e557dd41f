"""The example flows' diagrams as specifications: real flows follow them, killed or not, and no others do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import persistasaurus.flows.examples
import pytest
from persistasaurus import Flow, FlowHandle, FlowSystem, flow, step
from persistasaurus.api.diagrams import LEVELS, assert_matches_diagram, draw
from persistasaurus.flows.examples import HelloWorldFlow
from scenario.signups import confirm
from scenario.world import DEAD_MAN_S

if TYPE_CHECKING:
    from diagrams.reference import Reference
    from scenario.signups import Signups
    from scenario.world import World

SPECIFICATIONS = Path(persistasaurus.flows.examples.__file__).parent / "diagrams"
HELLO, SIGNUP, CONFIRMATION = (SPECIFICATIONS / f"{n}.mmd" for n in ("hello_world", "signup", "confirmation"))
CHILD = """
import os, sys
from persistasaurus import FlowSystem, step
from persistasaurus.flows.examples import HelloWorldFlow

class Mortal(HelloWorldFlow):
    @step
    def say(self, name: str, count: int) -> int:
        if count == 2 and sys.argv[2] == "dies":
            os._exit(9)
        return count

with FlowSystem(sys.argv[1], flows=[Mortal]) as system:
    system.run(Mortal.say_hello, flow_id="hello")
"""


def live(path: Path, how: str) -> int:
    command = [sys.executable, "-c", CHILD, str(path), how]
    return subprocess.run(command, check=False, timeout=60).returncode


def holds_at_every_level(run: FlowHandle[Any], tmp_path: Path) -> None:
    for level in LEVELS:
        drawn = tmp_path / f"{level}.mmd"
        drawn.write_text(draw(run, level=level).mermaid(), encoding="utf-8")
        assert_matches_diagram(run, drawn)


# -------------------------------------------------------------------------------------- hello world
def test_hello_world_follows_its_diagram(world: World, tmp_path: Path) -> None:
    system = world.open(HelloWorldFlow)
    handle = system.start(HelloWorldFlow.say_hello, flow_id="hello")
    handle.result(DEAD_MAN_S)

    assert_matches_diagram(handle, HELLO)
    assert_matches_diagram(handle.events(), str(HELLO))
    holds_at_every_level(handle, tmp_path)


def test_hello_world_follows_its_diagram_when_the_process_dies_in_the_third_step(tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    assert [live(store, "dies"), live(store, "dies"), live(store, "lives")] == [9, 9, 0]

    with FlowSystem(store, flows=[HelloWorldFlow]) as system:
        handle = system.flow("hello")
        assert draw(handle).mermaid().count("the process died") == 2
        assert_matches_diagram(handle, HELLO)
        holds_at_every_level(handle, tmp_path)


class Held(Flow):
    """The hello world flow, whose third step takes until it is let go."""

    may_end = Event()
    is_in_step = Event()

    @flow(name="HelloWorldFlow")
    async def say_hello(self) -> int:
        return sum([await self.say("World", count) for count in range(5)])

    @step
    def say(self, name: str, count: int) -> int:
        if count == 2:
            Held.is_in_step.set()
            Held.may_end.wait(DEAD_MAN_S)
        return count


def test_hello_world_follows_its_diagram_when_the_system_is_closed_in_a_step(
    world: World, tmp_path: Path
) -> None:
    Held.may_end.clear()
    system = world.open(Held)
    system.start(Held.say_hello, flow_id="hello")
    assert Held.is_in_step.wait(DEAD_MAN_S)
    system.close(timeout=0)
    Held.may_end.set()

    handle = world.open(Held).flow("hello")
    assert handle.result(DEAD_MAN_S) == 10
    assert "the system was closed" in draw(handle).mermaid()
    assert_matches_diagram(handle, HELLO)
    holds_at_every_level(handle, tmp_path)


class Otherwise(Flow):
    """Flows by the same name that do something else."""

    @flow(name="HelloWorldFlow")
    async def four_times(self) -> int:
        return sum([await self.say("World", count) for count in range(1, 5)])

    @step
    def say(self, name: str, count: int) -> int:
        return count


class Shouting(Flow):
    @flow(name="HelloWorldFlow")
    async def shout(self) -> int:
        return sum([await self.shouted("World", count) for count in range(5)])

    @step
    def shouted(self, name: str, count: int) -> int:
        return count


@pytest.mark.parametrize(
    ("kind", "definition"),
    [(Otherwise, Otherwise.four_times), (Shouting, Shouting.shout)],
    ids=["a step too few", "another name"],
)
def test_a_flow_that_does_something_else_does_not_follow_it(kind: Any, definition: Any, world: World) -> None:
    handle = world.open(kind).start(definition, flow_id="hello")
    handle.result(DEAD_MAN_S)

    expected = r"does not follow hello_world\.mmd[\s\S]*> +\d+ \| +\S+: record step started: say"
    with pytest.raises(AssertionError, match=expected):
        assert_matches_diagram(handle, HELLO)


# ------------------------------------------------------------------------------------------ sign-up
def test_a_sign_up_follows_its_diagram_up_to_the_wait_and_no_further(signups: Signups) -> None:
    handle = signups.start_and_send_email()

    assert_matches_diagram(handle, SIGNUP)
    assert_matches_diagram(handle, SIGNUP, partial=True)

    confirm(handle)
    handle.result(DEAD_MAN_S)
    with pytest.raises(AssertionError, match=r"The diagram ends, and the run continues"):
        assert_matches_diagram(handle, SIGNUP)


def test_a_sign_up_that_has_not_come_to_the_wait_follows_part_of_its_diagram(
    signups: Signups, world: World
) -> None:
    handle = signups.start()
    world.until_told("ada", "step_scheduled", 2)

    assert_matches_diagram(handle, SIGNUP, partial=True)
    with pytest.raises(
        AssertionError, match=r"continues:\n[\s\S]*> +\d+ \| +Note over SignupFlow: wait before"
    ):
        assert_matches_diagram(handle, SIGNUP)


def test_a_sign_up_follows_its_diagram_whenever_the_system_is_closed(signups: Signups, world: World) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)
    signups.again()
    world.clock.advance(10)
    world.until_told("ada", "signal_awaited", 3)

    assert_matches_diagram(signups.again(), SIGNUP)


def test_another_delay_is_not_the_one_in_the_diagram(signups: Signups, world: World) -> None:
    signups.open(delay_s=11)
    handle = signups.start()
    world.until_told("ada", "step_scheduled", 2)
    world.clock.advance(11)
    world.until_told("ada", "signal_awaited", 3)

    with pytest.raises(AssertionError, match=r"> +\d+ \| +Note over SignupFlow: waits 10 s before step 2"):
        assert_matches_diagram(handle, SIGNUP)


# ------------------------------------------------------------------------------------- confirmation
def test_a_confirmation_follows_its_diagram_to_the_end(signups: Signups, tmp_path: Path) -> None:
    handle = signups.start_and_send_email()
    with pytest.raises(AssertionError, match=r"> +\d+ \| +Client->>Journal: signal confirm_email_address"):
        assert_matches_diagram(handle, CONFIRMATION)

    confirm(handle)
    handle.result(DEAD_MAN_S)

    assert_matches_diagram(handle, CONFIRMATION)
    holds_at_every_level(handle, tmp_path)


def test_a_confirmation_follows_its_diagram_in_another_life_and_when_it_comes_twice(signups: Signups) -> None:
    signups.start_and_send_email()
    handle = signups.again()
    confirm(handle)
    confirm(handle)
    handle.result(DEAD_MAN_S)

    assert_matches_diagram(signups.again(), CONFIRMATION)


def test_a_confirmation_that_comes_early_does_not_begin_with_a_wait(signups: Signups, world: World) -> None:
    handle = signups.start()
    confirm(handle)
    world.until_told("ada", "step_scheduled", 2)
    world.clock.advance(10)
    world.result("ada")

    with pytest.raises(AssertionError, match=r"begins with a note, and the run has never been there"):
        assert_matches_diagram(handle, CONFIRMATION)


# ---------------------------------------------------------------------------------------- the files
def test_a_diagram_about_another_flow_is_not_followed(signups: Signups) -> None:
    with pytest.raises(
        AssertionError, match="The diagram is about HelloWorldFlow, and the run is one of Sign"
    ):
        assert_matches_diagram(signups.start_and_send_email(), HELLO)


def test_a_file_that_is_not_there_is_an_error_and_no_assertion(world: World, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        assert_matches_diagram([], tmp_path / "nothing.mmd")


def test_mermaid_reads_the_specifications(reference: Reference) -> None:
    files = sorted(SPECIFICATIONS.glob("*.mmd"))

    assert len(files) == 3
    assert reference.complaints([file.read_text(encoding="utf-8") for file in files]) == []
