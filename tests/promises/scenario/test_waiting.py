"""Waiting costs a row in a file: no thread, and after a while no actor either."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pykka import ActorRegistry
from scenario.signups import UNTIL_THE_CONFIRMATION, confirm
from scenario.world import Told

if TYPE_CHECKING:
    from scenario.signups import Signups
    from scenario.world import World

MANY = 300
FEW_THREADS = {"step_threads": 4, "workers": 2}


def wait_for_all(signups: Signups, count: int) -> None:
    """Have so many sign-ups wait for their persons."""
    signups.open(**FEW_THREADS)
    for number in range(count):
        signups.start(f"user-{number}")
    world = signups.world
    world.until(lambda: len(signups.steps) >= count)
    world.until(lambda: world.status_of_all() == {"waiting"})
    world.clock.advance(10)
    world.until(lambda: len(signups.steps) >= 2 * count)
    for number in range(count):
        world.until_told(f"user-{number}", "signal_awaited", 3)


def test_hundreds_that_wait_have_no_thread_of_their_own(signups: Signups) -> None:
    before = threading.active_count()
    wait_for_all(signups, 1)
    with_one = threading.active_count() - before

    wait_for_all(signups, MANY)

    most = with_one + FEW_THREADS["step_threads"] - 1
    assert threading.active_count() - before <= most


def test_hundreds_that_wait_have_no_actor_after_a_while(signups: Signups, world: World) -> None:
    before = len(ActorRegistry.get_all())
    wait_for_all(signups, MANY)
    of_the_system = 3

    world.clock.advance(60)

    world.until(lambda: len(ActorRegistry.get_all()) <= before + of_the_system)
    assert world.status_of_all() == {"waiting"}


def test_each_of_hundreds_can_be_woken_from_its_rest(signups: Signups, world: World) -> None:
    wait_for_all(signups, MANY)
    world.clock.advance(60)
    world.until(lambda: len(ActorRegistry.get_all()) < MANY)
    assert world.system is not None
    handles = [world.system.flow(f"user-{number}") for number in range(MANY)]

    for handle in handles[::50]:
        confirm(handle, f"mail of {handle.id}")
    for handle in handles[::50]:
        world.result(handle.id)

    assert world.status_of_all() == {"waiting", "completed"}
    assert world.story("user-1") == UNTIL_THE_CONFIRMATION


def test_a_restart_wakes_nobody_who_waits_for_a_person(signups: Signups, world: World) -> None:
    wait_for_all(signups, 20)
    before = len(ActorRegistry.get_all())
    ran = signups.steps[:]

    signups.open(**FEW_THREADS)
    world.settle("one")

    assert len(ActorRegistry.get_all()) <= before
    assert signups.steps == ran
    assert Told("signal_received", 0) not in world.story("user-0")
