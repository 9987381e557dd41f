"""The kits for one flow's machine, and for one actor: one input, and what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from persistasaurus import ActorStateError, NondeterminismError, PayloadError
from persistasaurus.actors.testing import ActorTestKit, FlowTestKit
from testing.shop import (
    Account,
    Balance,
    Deposited,
    ForgetfulFlow,
    LeakyAccount,
    MoodyAccount,
    OrderFlow,
    charged,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="kit")
def _kit() -> Iterator[FlowTestKit[str]]:
    kit = FlowTestKit(OrderFlow.fulfil, "a book")
    yield kit
    kit.close()


def test_each_input_tells_its_events_and_its_effects(kit: FlowTestKit[str]) -> None:
    assert kit.decided.kinds == ["flow_started", "step_started"]
    assert [(e.kind, e.name, e.args) for e in kit.decided.effects] == [("run", "charge", {"item": "a book"})]
    assert kit.step_fails(OSError("down")).kinds == ["step_failed"]
    assert kit.advance(minutes=1).kinds == ["step_attempted"]
    assert kit.step_succeeds("p").kinds == ["step_completed", "timer_set"]
    assert kit.status == "waiting"
    assert kit.advance(days=1).kinds == []
    assert kit.advance(days=1).kinds == ["timer_fired", "signal_awaited"]
    assert kit.signal(OrderFlow.approve, "eve").kinds == ["signal_received", "step_started"]
    assert kit.step_succeeds("eve").kinds == ["step_completed", "step_started", "step_started"]
    kit.step_succeeds(6, step=OrderFlow.weigh)
    assert kit.step_succeeds("LABEL", step=4).kinds == ["step_completed", "flow_completed"]
    assert (kit.status, kit.result) == ("completed", "a book, p, eve, 6, LABEL")


def test_a_decision_can_be_read(kit: FlowTestKit[str]) -> None:
    told = repr(kit.decided)

    assert "step_started step=1 name='charge' args={'item': 'a book'} line='shop.py:" in told
    assert "→ run step 1 'charge', attempt 1(item='a book')" in told
    assert repr(kit.advance(seconds=0)) == "Decided: nothing"


def test_a_restart_leaves_steps_in_doubt_and_a_pause_leaves_the_flow_still(kit: FlowTestKit[str]) -> None:
    assert kit.restart().kinds == ["step_attempted"]
    assert [effect.attempt for effect in kit.running] == [2]
    assert kit.pause(by="ops").kinds == ["paused"]
    assert kit.step_succeeds("p").kinds == ["step_completed"]
    assert kit.status == "paused"
    assert kit.resume().kinds == ["resumed", "timer_set"]


def test_a_failed_flow_can_be_retried(kit: FlowTestKit[str]) -> None:
    for _ in range(3):
        kit.step_fails(OSError("down"))
        kit.advance(hours=1)
    assert kit.status == "failed"
    with pytest.raises(AssertionError, match="the flow is failed"):
        _ = kit.result
    assert kit.retry(by="ops").kinds[0] == "repaired"
    assert kit.step_succeeds("p").kinds == ["step_completed", "timer_set"]


def test_what_is_told_is_held_against_the_flow(kit: FlowTestKit[str]) -> None:
    with pytest.raises(PayloadError):
        kit.step_succeeds(3)
    with pytest.raises(AssertionError, match="Those that run are: 1 'charge'"):
        kit.step_succeeds(3, step=OrderFlow.weigh)


def test_a_flow_that_does_not_repeat_itself_does_not_restart() -> None:
    kit = FlowTestKit(ForgetfulFlow.go)
    kit.step_succeeds(0)
    with pytest.raises(NondeterminismError):
        kit.restart()


def test_an_actor_tells_its_events_its_reply_and_its_state() -> None:
    with ActorTestKit(Account, "acc-1") as kit:
        assert kit.events == []
        assert kit.run(Account.deposit, 100) == ([Deposited(100)], 100, Balance(100))
        with pytest.raises(ValueError, match="more than nothing"):
            kit.run(Account.deposit, -1)
        assert kit.run(Account.deposit(amount=5)) == ([Deposited(5)], 105, Balance(105))
        assert kit.restart() == Balance(105)
        assert kit.run(Account.how_much) == ([], 105, Balance(105))


def test_an_actor_that_changes_its_state_without_an_event_is_found_at_once() -> None:
    with ActorTestKit(LeakyAccount) as kit:
        with pytest.raises(ActorStateError, match=r"deposit' changed state\.notes.* outside of apply"):
            kit.run(LeakyAccount.deposit, 1)
        with pytest.raises(ActorStateError, match=r"how_much' changed state\.cents"):
            kit.run(LeakyAccount.how_much)
        assert (kit.events, kit.state) == ([], Balance())


def test_an_actor_whose_events_make_something_else_later_is_found_by_a_restart() -> None:
    with ActorTestKit(MoodyAccount) as kit:
        kit.run(Account.deposit, 1)
        charged.append("meanwhile")
        with pytest.raises(AssertionError, match=r"state\.cents was \d+, and recovered \d+"):
            kit.restart()
