"""Actors that get all that is queued as one message."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Never

import pytest
from persistasaurus.actors.runtime.actor import BatchingActor
from persistasaurus.actors.runtime.mailbox import MessageBatch
from pykka import ActorDeadError, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persistasaurus.actors.runtime.dispatcher import Dispatcher

SILENT = "silent"


class Ledger(BatchingActor):
    """Answers every ask but the silent ones; the first message can hold it up."""

    max_batch = 4

    def __init__(self, events: Any = None) -> None:
        super().__init__()
        self.events = events if events is not None else []

    def on_receive(self, message: Any) -> None:
        assert isinstance(message, MessageBatch)
        self.events.append([e.message for e in message.envelopes if not callable(e.message)])
        for envelope in message.envelopes:
            if callable(envelope.message):
                envelope.message()
            elif envelope.reply_to is not None and envelope.message != SILENT:
                envelope.reply_to.set(len(self.events))

    def on_stop(self) -> None:
        self.events.append("stopped")


@pytest.fixture(name="held")
def _held(make_dispatcher: Callable[..., Dispatcher]) -> Iterator[Any]:
    """A ledger that is busy until its gate opens, and what it has seen."""
    dispatcher = make_dispatcher(workers=1)
    gate, entered, events = threading.Event(), threading.Event(), []
    ref = Ledger.start_on(dispatcher, events)
    ref.tell(lambda: (entered.set(), gate.wait(30)))
    assert entered.wait(30)
    yield ref, gate, events
    gate.set()


def test_what_is_queued_comes_as_one_batch_of_at_most_max_batch(held: Any) -> None:
    ref, gate, events = held
    futures = [ref.ask(number, block=False) for number in range(6)]

    gate.set()
    answers = [future.get(timeout=30) for future in futures]

    assert events == [[], [0, 1, 2, 3], [4, 5]]
    assert answers == [2, 2, 2, 2, 3, 3]


def test_a_stop_is_delivered_alone_and_in_order(held: Any) -> None:
    ref, gate, events = held
    before = [ref.ask(number, block=False) for number in range(2)]
    stop = ref.stop(block=False)
    after = ref.ask("late", block=False)

    gate.set()

    assert stop.get(timeout=30) is True
    assert [future.get(timeout=30) for future in before] == [2, 2]
    with pytest.raises(ActorDeadError):
        after.get(timeout=30)
    assert events == [[], [0, 1], "stopped"]


def test_a_stop_that_is_first_or_fills_the_batch_is_delivered(held: Any) -> None:
    ref, gate, events = held
    for number in range(4):
        ref.tell(number)
    stop = ref.stop(block=False)

    gate.set()

    assert stop.get(timeout=30) is True
    assert events == [[], [0, 1, 2, 3], "stopped"]


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3)])
def test_asks_in_a_batch_that_crashes_fail(
    held: Any, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def throw() -> Never:
        raise error

    ref, gate, _events = held
    answered = ref.ask("answered", block=False)
    in_batch = ref.ask(SILENT, block=False)
    ref.tell(throw)
    queued = [ref.ask(number, block=False) for number in range(6)]
    stop = ref.stop(block=False)

    with caplog.at_level(logging.CRITICAL, logger="pykka"):
        gate.set()
        assert answered.get(timeout=30) == 2
        for future in [in_batch, *queued]:
            with pytest.raises(ActorDeadError) as raised:
                future.get(timeout=30)
            causes = (raised.value.__cause__, getattr(raised.value.__cause__, "__cause__", None))
            assert error in causes
        assert stop.get(timeout=30) is True


def test_a_stop_right_behind_a_batch_that_crashes_is_answered(held: Any) -> None:
    def throw() -> Never:
        raise ValueError("odd")

    ref, gate, events = held
    ref.tell(throw)
    stop = ref.stop(block=False)

    gate.set()

    assert stop.get(timeout=30) is True
    assert "stopped" not in events


def test_an_ask_may_be_answered_after_its_batch_but_fails_when_the_actor_ends(held: Any) -> None:
    ref, gate, _events = held
    later, never = ref.ask(SILENT, block=False), ref.ask(SILENT, block=False)
    gate.set()
    ref.ask("barrier", timeout=30)
    with pytest.raises(Timeout):
        later.get(timeout=0)

    later.set("answer")
    ref.ask("barrier", timeout=30)
    ref.stop(timeout=30)

    assert later.get(timeout=30) == "answer"
    with pytest.raises(ActorDeadError):
        never.get(timeout=30)
