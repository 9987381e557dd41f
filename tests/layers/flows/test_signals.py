"""Signals: kept in order, given out first come, first served, and refused when they cannot fit."""

from dataclasses import dataclass

import msgspec
from persistasaurus.flows import Flow, events, flow, gather, signal, wait_for
from persistasaurus.flows.machine.history import Recorded
from persistasaurus.flows.machine.messages import PauseRequested, ResumeRequested, SignalArrived
from persistasaurus.flows.summary import summary_of
from stories import Story, same_at_every_prefix


@dataclass
class Order:
    amount: int

    def __post_init__(self):
        if self.amount > 1000:
            raise KeyError(self.amount)


class Shop(Flow):
    @flow
    async def three(self) -> list[int]:
        return [await wait_for("n", int) for _ in range(3)]

    @flow
    async def crowd(self) -> list[int]:
        return list(await gather(wait_for("n", int), wait_for("n", int), wait_for("n", int)))

    @flow
    async def order(self) -> int:
        return (await wait_for("order", Order)).amount

    @flow
    async def approved(self) -> list[str]:
        return list(await gather(self.approve(), self.approve()))

    @signal
    def approve(self, by: str) -> str:
        return by


def test_early_signals_are_kept_in_order() -> None:
    story = Story(Shop.three).start()
    for n in (1, 2, 3):
        story.send("n", n)

    assert story.result == [1, 2, 3]
    same_at_every_prefix(story)


def test_several_waits_are_served_in_the_order_in_which_they_began() -> None:
    story = Story(Shop.crowd).start()
    for n in (7, 8, 9):
        story.send("n", n)

    assert story.result == [7, 8, 9]


def test_a_signal_that_is_told_twice_is_recorded_once() -> None:
    story = Story(Shop.three).start()
    message = SignalArrived(5, "n", "k", b"1")

    assert story.tell(message) == ["signal_received", "signal_awaited"]
    assert story.tell(message) == []
    assert story.machine.handle(message, story.moment).consumed == []


def test_a_payload_of_the_wrong_type_is_rejected_and_the_wait_goes_on() -> None:
    story = Story(Shop.crowd).start()
    assert story.send("n", "no number") == []

    ((entry, reason),) = story.rejected
    assert entry == 1
    assert "signal 'n'" in reason
    assert story.status == "waiting"


def test_a_type_that_raises_anything_rejects_the_payload() -> None:
    story = Story(Shop.order).start()
    story.send("order", {"amount": 2000})
    assert story.rejected
    story.send("order", {"amount": 20})

    assert story.result == 20


def test_a_payload_that_is_too_deep_or_too_large_is_rejected() -> None:
    story = Story(Shop.order).start()
    story.tell(SignalArrived(1, "other", "k", b"[" * 100_000))
    story.tell(SignalArrived(2, "other", "k", b'"' + b"x" * (1 << 20) + b'"'))

    assert [entry for entry, _ in story.rejected] == [1, 2]


def test_an_early_payload_that_turns_out_not_to_fit_is_passed_over_with_a_warning() -> None:
    story = Story(Shop.order)
    story.send("order", "what?")
    story.start()
    assert story.status == "waiting"
    assert "passed over" in story.warnings[0]
    story.send("order", {"amount": 1})

    assert story.result == 1
    assert not story.fork().warnings


def test_a_declared_signal_is_checked_before_anybody_waits() -> None:
    story = Story(Shop.order).start()
    story.send("approve", {"by": 5})

    assert story.rejected


def test_signals_of_a_pause_are_consumed_after_it() -> None:
    story = Story(Shop.approved).start()
    story.tell(PauseRequested())
    assert story.signal(Shop.approve("a")) == ["signal_received"]
    assert story.signal(Shop.approve("b")) == ["signal_received"]
    assert story.tell(ResumeRequested()) == ["resumed", "step_started", "step_started"]
    story.finish()

    assert story.result == ["a", "b"]
    same_at_every_prefix(story)


def test_a_signal_after_the_end_is_left_in_the_inbox() -> None:
    story = Story(Shop.order).start()
    story.send("order", {"amount": 1})
    decision = story.machine.handle(SignalArrived(9, "order", "k", b"{}"), story.moment)

    assert not decision.events
    assert not decision.consumed
    assert not decision.rejected


def test_names_that_are_waited_for_and_met_leave_nothing_behind() -> None:
    class Many(Flow):
        @flow
        async def go(self) -> None:
            for i in range(100):
                await wait_for(f"n{i}")

    story = Story(Many.go).start()
    for i in range(100):
        story.send(f"n{i}", i)

    boxes = story.machine._execution.signals
    assert not boxes._early
    assert not boxes._waits


def test_signals_of_a_history_that_no_wait_has_taken_are_counted() -> None:
    def received(key: str, name: str = "a") -> events.SignalReceived:
        return events.SignalReceived(name, key, msgspec.Raw(b"1"))

    told = [received("1"), events.SignalAwaited("a"), received("2"), received("3"), received("4", "b")]
    undone = [
        events.SignalAwaited("b"),
        events.FlowFailed(events.Failure("E", "e")),
        events.Repaired(since=6),
    ]
    history = [Recorded(version, 0, event) for version, event in enumerate([*told, *undone], 1)]

    assert summary_of(history[:5]).unread == {"a": 2, "b": 1}
    assert summary_of(history[:7], {"3"}).unread == {"a": 1}
    assert summary_of(history, {"3"}).unread == {"a": 1, "b": 1}
