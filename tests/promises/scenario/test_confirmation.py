"""The third diagram: the confirmation of a person, whenever and however often it comes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import FlowEnded, FlowNotFound, SignalRejected
from persistasaurus.flows.examples import SignupFlow
from persistasaurus.store import Deliver, Delivered
from scenario.signups import FROM_THE_CONFIRMATION, NOON, UNTIL_THE_CONFIRMATION, confirm
from scenario.world import DEAD_MAN_S, Told, calmly

if TYPE_CHECKING:
    from scenario.signups import Signups
    from scenario.world import World

RECEIVED = Told("signal_received", 0)
DIAGRAM = calmly(UNTIL_THE_CONFIRMATION + FROM_THE_CONFIRMATION)


def returned_by(step: int, world: World) -> Any:
    """Return what a step returned; a confirmation may be on record before it."""
    of_step = [r.event for r in world.history("ada") if getattr(r.event, "step", None) == step]
    return msgspec.json.decode(of_step[-1].result)


def deliver(world: World, signal_id: str = "mail-1") -> Any:
    """Put a confirmation into the store, as a program does that runs no flows."""
    call = SignupFlow.confirm_email_address(NOON)
    store = world.store()
    try:
        return store.commit([Deliver("ada", call.name, signal_id, call.data, world.clock.now())])[0]
    finally:
        store.close()


def assert_confirmed_once(signups: Signups, world: World) -> None:
    """See that the flow has come to its end, with one confirmation, and has repeated nothing."""
    user_id = world.result("ada")
    story = world.story("ada")
    assert returned_by(1, world) == user_id
    assert signups.steps == [
        "create_user_record",
        "send_welcome_email",
        "confirm_email_address",
        "finalize_signup",
    ]
    assert [t for t in calmly(story) if t != RECEIVED] == [t for t in DIAGRAM if t != RECEIVED]
    assert story.count(RECEIVED) == 1
    assert returned_by(3, world) == NOON.isoformat().replace("+00:00", "Z")


# ------------------------------------------------------------------------------------------------ when
def test_a_confirmation_makes_the_flow_go_on(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()

    receipt = confirm(handle)

    assert (receipt.signal_id, receipt.duplicate) == ("mail-1", False)
    assert_confirmed_once(signups, world)


def test_a_confirmation_before_the_email_is_kept_until_it_is_awaited(signups: Signups, world: World) -> None:
    handle = signups.start()
    world.until_told("ada", "step_scheduled", 2)

    confirm(handle)
    world.settle("one")
    before = signups.steps[:]
    world.clock.advance(10)

    assert before == ["create_user_record"]
    assert_confirmed_once(signups, world)


def test_a_confirmation_right_behind_the_start_is_kept(signups: Signups, world: World) -> None:
    handle = signups.start()

    confirm(handle)
    world.until_told("ada", "step_scheduled", 2)
    world.clock.advance(10)

    assert_confirmed_once(signups, world)


def test_a_confirmation_before_a_restart_is_not_lost(signups: Signups, world: World) -> None:
    confirm(signups.start_and_send_email())

    signups.again()

    assert_confirmed_once(signups, world)


def test_an_early_confirmation_before_a_restart_is_not_lost(signups: Signups, world: World) -> None:
    handle = signups.start()
    world.until_told("ada", "step_scheduled", 2)
    confirm(handle)

    signups.again()
    world.clock.advance(10)

    assert_confirmed_once(signups, world)


def test_a_confirmation_while_no_system_is_open_is_taken_at_the_next_start(
    signups: Signups, world: World
) -> None:
    signups.start_and_send_email()

    delivered = deliver(world)
    signups.again()

    assert isinstance(delivered, Delivered)
    assert_confirmed_once(signups, world)


def test_an_early_confirmation_while_no_system_is_open_is_taken_when_it_is_awaited(
    signups: Signups, world: World
) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)

    deliver(world)
    signups.again()
    world.settle("one")
    before = signups.steps[:]
    world.clock.advance(10)

    assert before == ["create_user_record"]
    assert_confirmed_once(signups, world)


def test_a_confirmation_during_the_recovery_is_taken(signups: Signups, world: World) -> None:
    signups.start_and_send_email()

    confirm(signups.again())

    assert_confirmed_once(signups, world)


def test_a_confirmation_days_later_finds_a_flow_at_rest(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()

    world.clock.advance(3 * 24 * 3600)
    confirm(handle)

    assert_confirmed_once(signups, world)


# ------------------------------------------------------------------------------------------- how often
def test_the_same_confirmation_twice_is_one_with_one_receipt(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()

    first = confirm(handle)
    world.clock.advance(7)
    second = confirm(handle)

    assert (first.duplicate, second.duplicate) == (False, True)
    assert second.at == first.at
    assert_confirmed_once(signups, world)


def test_the_same_confirmation_before_and_after_a_restart_is_one(signups: Signups, world: World) -> None:
    first = confirm(signups.start_and_send_email())

    second = confirm(signups.again())

    assert (second.duplicate, second.at) == (True, first.at)
    assert_confirmed_once(signups, world)


def test_the_same_confirmation_after_the_end_is_answered_as_the_first(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()
    first = confirm(handle)
    handle.result(DEAD_MAN_S)

    second = confirm(handle)
    third = confirm(signups.again())

    assert [receipt.duplicate for receipt in (first, second, third)] == [False, True, True]
    assert first.at == second.at == third.at
    assert_confirmed_once(signups, world)


def test_another_confirmation_after_the_end_is_refused(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()
    confirm(handle)
    handle.result(DEAD_MAN_S)

    with pytest.raises(FlowEnded, match="completed"):
        confirm(handle, "mail-2")

    assert_confirmed_once(signups, world)


def test_the_id_of_a_confirmation_cannot_be_used_for_another_one(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()
    confirm(handle)

    with pytest.raises(SignalRejected, match="mail-1"):
        confirm(handle, at=NOON + timedelta(days=1))

    assert_confirmed_once(signups, world)


# ---------------------------------------------------------------------------------------- to no avail
def test_a_confirmation_of_an_unknown_flow_is_refused_and_writes_nothing(
    signups: Signups, world: World
) -> None:
    system = signups.open()
    handle = signups.start()
    world.until_told("ada", "step_scheduled", 2)
    handle.id = "nobody"
    before = system.store.read_all()

    with pytest.raises(FlowNotFound, match="nobody"):
        confirm(handle)

    assert system.store.read_all() == before
    assert system.store.header("nobody") is None
    assert system.store.dead_letters() == []


def test_a_flow_that_is_unknown_has_no_handle(signups: Signups) -> None:
    with pytest.raises(FlowNotFound):
        signups.open().flow("nobody")


def test_a_confirmation_that_is_no_date_is_refused_and_writes_nothing(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()

    with pytest.raises(SignalRejected):
        handle.signal("confirm_email_address", "yesterday", signal_id="mail-0")

    confirm(handle)
    assert_confirmed_once(signups, world)
