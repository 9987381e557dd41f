"""The second diagram: a record, an e-mail after ten seconds, and a wait for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from scenario.signups import FROM_THE_CONFIRMATION, UNTIL_THE_CONFIRMATION, UNTIL_THE_EMAIL, confirm

if TYPE_CHECKING:
    from scenario.signups import Signups
    from scenario.world import World

RESTARTS = [(1.0,), (9.999999,), (3.0, 3.0, 3.0), (0.5,) * 19]


def test_the_flow_prints_what_the_seeds_print(signups: Signups, capsys: pytest.CaptureFixture[str]) -> None:
    handle = signups.start_and_send_email()
    confirm(handle)
    user_id = handle.result(5)

    assert capsys.readouterr().out.splitlines()[:6] == [
        f"Created user record: {user_id} for ada (ada@example.com)",
        f"Sending welcome email to ada@example.com for user {user_id}",
        "✉️ Email sent! Please confirm your email address.",
        "Email confirmed at 2026-03-01 12:00:00+00:00",
        f"✅ Signup finalized for user {user_id}",
    ]


def test_a_sign_up_is_accepted_before_its_record_is_made(signups: Signups) -> None:
    handle = signups.start()

    assert handle.id == "ada"
    assert handle.status in ("running", "waiting")


def test_the_record_is_the_diagram_until_the_flow_waits_for_its_person(
    signups: Signups, world: World
) -> None:
    handle = signups.start_and_send_email()

    assert world.story("ada") == UNTIL_THE_CONFIRMATION
    assert handle.status == "waiting"


def test_the_record_is_the_diagram_to_the_end(signups: Signups, world: World) -> None:
    handle = signups.start_and_send_email()

    confirm(handle)

    user_id = handle.result(5)
    assert world.story("ada") == UNTIL_THE_CONFIRMATION + FROM_THE_CONFIRMATION
    assert handle.status == "completed"
    assert msgspec.json.decode(world.history("ada")[2].event.result) == user_id


def test_the_delay_is_on_record_as_an_instant(signups: Signups, world: World) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)

    scheduled = world.history("ada")[3]
    assert scheduled.event.due == round(scheduled.at.timestamp() * 1_000_000) + 10_000_000


def test_the_email_is_never_early_and_not_late(signups: Signups, world: World) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)

    world.clock.advance(9.999999)
    world.settle("one")
    early = list(signups.steps)
    world.clock.advance(0.000001)
    world.until_told("ada", "step_completed", 2)

    assert early == ["create_user_record"]
    assert signups.ran[1] == ("send_welcome_email", 10.0)


@pytest.mark.parametrize("pieces", RESTARTS, ids=lambda pieces: "+".join(map(str, pieces)))
def test_after_restarts_only_the_rest_of_the_delay_is_waited_for(
    signups: Signups, world: World, pieces: tuple[float, ...]
) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)

    for number, seconds in enumerate(pieces):
        world.clock.advance(seconds)
        signups.again()
        world.settle(f"look-{number}")
        assert signups.steps == ["create_user_record"]
    world.clock.advance(10 - sum(pieces))
    world.until_told("ada", "step_completed", 2)

    assert [name for name, _ in signups.ran] == ["create_user_record", "send_welcome_email"]
    assert signups.ran[1][1] == pytest.approx(10.0)


def test_a_delay_that_ended_while_nothing_ran_is_made_up_for_at_once(signups: Signups, world: World) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)
    world.close()

    world.clock.advance(3600)
    signups.again()
    world.until_told("ada", "step_completed", 2)

    assert signups.ran[1] == ("send_welcome_email", 3600.0)


def test_another_delay_in_the_code_does_not_change_one_that_is_recorded(
    signups: Signups, world: World
) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)

    signups.open(delay_s=0)
    world.clock.advance(9)
    world.settle("one")
    early = list(signups.steps)
    world.clock.advance(1)
    world.until_told("ada", "step_completed", 2)

    assert early == ["create_user_record"]
    assert signups.ran[1] == ("send_welcome_email", 10.0)


def test_a_clock_that_is_set_forward_does_not_send_the_email_early(signups: Signups, world: World) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)

    world.clock.jump_wall(3600)
    world.settle("one")
    early = list(signups.steps)
    world.clock.advance(10)
    world.until_told("ada", "step_completed", 2)

    assert early == ["create_user_record"]


def test_a_restart_repeats_no_step_and_hands_on_what_they_returned(signups: Signups, world: World) -> None:
    signups.start_and_send_email()
    recorded = msgspec.json.decode(world.history("ada")[2].event.result)

    handle = signups.again()
    confirm(handle)

    assert handle.result(5) == recorded
    assert signups.steps == [
        "create_user_record",
        "send_welcome_email",
        "confirm_email_address",
        "finalize_signup",
    ]
    finalized = world.history("ada")[-3].event
    assert msgspec.json.decode(finalized.args) == {"user_id": recorded}


def test_a_restart_of_a_flow_that_waits_adds_nothing_to_its_record(signups: Signups, world: World) -> None:
    signups.start_and_send_email()

    for number in range(3):
        signups.again()
        world.settle(f"look-{number}")

    assert world.story("ada") == UNTIL_THE_CONFIRMATION


def test_a_sign_up_that_is_started_again_is_the_same_one(signups: Signups, world: World) -> None:
    signups.start()
    world.until_told("ada", "step_scheduled", 2)

    signups.open()
    again = signups.start()

    assert again.id == "ada"
    assert world.story("ada") == UNTIL_THE_EMAIL
    assert signups.steps == ["create_user_record"]
