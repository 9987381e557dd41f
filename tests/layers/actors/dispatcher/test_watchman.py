"""The watchman: whatever holds a carrier holds up nobody for longer than some milliseconds."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.actors.runtime import primitives
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.dispatcher import DispatcherClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.dispatcher import Dispatcher

DEAD_MAN_S = 30.0


class Obedient(PooledActor):
    def on_receive(self, message: Any) -> Any:
        return message()


class Holder:
    """Has an actor hold its carrier until it is let go."""

    def __init__(self, dispatcher: Dispatcher, hold: Callable[[threading.Event], Any] | None = None) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        wait = hold or (lambda gate: gate.wait(DEAD_MAN_S))
        self.reply = Obedient.start_on(dispatcher).ask(
            lambda: (self.entered.set(), wait(self.gate)), block=False
        )
        assert self.entered.wait(DEAD_MAN_S)

    def let_go(self) -> None:
        self.gate.set()
        self.reply.get(timeout=DEAD_MAN_S)


def compute_until(gate: threading.Event) -> None:
    while not gate.is_set():
        pass


@pytest.fixture(name="watched")
def _watched(make_dispatcher: Callable[..., Dispatcher]) -> Dispatcher:
    return make_dispatcher(workers=1, has_watchman=True)


@pytest.mark.parametrize("hold", [None, compute_until], ids=["waits", "computes"])
def test_another_takes_over_from_a_carrier_that_is_held(watched: Dispatcher, hold: Any) -> None:
    other = Obedient.start_on(watched)
    for _ in range(5):
        holder = Holder(watched, hold)

        assert other.ask(lambda: "ran", timeout=DEAD_MAN_S) == "ran"

        holder.let_go()
    assert watched.live_threads <= 1 + 2


def test_what_was_sent_before_a_carrier_was_held_runs_meanwhile(watched: Dispatcher) -> None:
    gate, held = threading.Event(), Obedient.start_on(watched)
    others = [Obedient.start_on(watched) for _ in range(5)]
    holding = held.ask(lambda: gate.wait(DEAD_MAN_S), block=False)
    replies = [other.ask(lambda: "ran", block=False) for other in others]

    assert [reply.get(timeout=DEAD_MAN_S) for reply in replies] == ["ran"] * 5
    gate.set()
    assert holding.get(timeout=DEAD_MAN_S)


def test_a_lock_that_whoever_asks_another_actor_holds_is_no_deadlock(watched: Dispatcher) -> None:
    mine, entered = threading.Lock(), threading.Event()
    with mine:
        wants = Obedient.start_on(watched).ask(
            lambda: (entered.set(), mine.acquire(timeout=DEAD_MAN_S)), block=False
        )
        assert entered.wait(DEAD_MAN_S)
        assert Obedient.start_on(watched).ask(lambda: "ran", timeout=DEAD_MAN_S) == "ran"

    assert wants.get(timeout=DEAD_MAN_S) == (None, True)


def test_an_actor_that_is_held_handles_one_message_at_a_time(watched: Dispatcher) -> None:
    at_once: list[int] = []
    inside = 0

    def work() -> None:
        nonlocal inside
        inside += 1
        at_once.append(inside)
        threading.Event().wait(0.01)  # longer than the watchman looks on
        inside -= 1

    actor = Obedient.start_on(watched)
    replies = [actor.ask(work, block=False) for _ in range(10)]
    for reply in replies:
        reply.get(timeout=DEAD_MAN_S)

    assert at_once == [1] * 10


def test_as_many_may_be_held_as_there_may_be_threads_and_all_goes_on_when_one_is_free(
    make_dispatcher: Callable[..., Dispatcher],
) -> None:
    dispatcher = make_dispatcher(workers=1, max_threads=4, has_watchman=True)
    holders = [Holder(dispatcher) for _ in range(4)]
    late = Obedient.start_on(dispatcher).ask(lambda: "ran", block=False)
    assert dispatcher.live_threads == 4

    holders[2].let_go()

    assert late.get(timeout=DEAD_MAN_S) == "ran"
    for holder in holders:
        holder.let_go()


def test_it_does_not_look_while_there_is_nothing_to_see(watched: Dispatcher) -> None:
    Obedient.start_on(watched).ask(int, timeout=DEAD_MAN_S)
    watchman = watched.carriers._watchman
    deadline = monotonic() + DEAD_MAN_S

    while not watchman.is_asleep:
        assert monotonic() < deadline, "it looks for ever"
    holder = Holder(watched)
    while not watchman.is_asleep:
        assert monotonic() < deadline, "it looks at one that was relieved"
    holder.let_go()


def test_closing_ends_the_watchman_and_the_carriers_that_have_stepped_aside(watched: Dispatcher) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        holder = Holder(watched)
        Obedient.start_on(watched).ask(int, timeout=DEAD_MAN_S)
        holder.let_go()

    assert watched.close(timeout=DEAD_MAN_S)
    deadline = monotonic() + DEAD_MAN_S
    while set(threading.enumerate()) - before:
        assert monotonic() < deadline, "a thread is left"
    with pytest.raises(DispatcherClosedError):
        Obedient.start_on(watched)


def test_closing_while_one_is_held_gives_it_up_and_its_thread_ends_with_it(watched: Dispatcher) -> None:
    holder = Holder(watched)

    assert watched.close(timeout=0.01) is False

    holder.let_go()
    assert watched.close(timeout=DEAD_MAN_S) is True


def test_a_thread_that_is_refused_is_asked_for_again(
    watched: Dispatcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Obedient.start_on(watched)
    other.ask(int, timeout=DEAD_MAN_S)

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        holder = Holder(watched)
        late = other.ask(lambda: "ran", block=False)
        deadline = monotonic() + DEAD_MAN_S
        while not watched.carriers.lacks_threads:
            assert monotonic() < deadline, "nobody has asked for a thread"

    assert late.get(timeout=DEAD_MAN_S) == "ran"
    assert caplog.text.count("continues with 0 threads for now") == 1
    holder.let_go()


def test_without_a_thread_for_the_watchman_no_actor_is_taken_in(
    watched: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            Obedient.start_on(watched)
    assert watched.live_actors == 0

    assert Obedient.start_on(watched).ask(lambda: "ran", timeout=DEAD_MAN_S) == "ran"


def test_dispatchers_beside_each_other_share_threads_and_stop_their_own_actors(watched: Dispatcher) -> None:
    beside = watched.beside()
    name = primitives.current_thread_name
    first, second = Obedient.start_on(watched), Obedient.start_on(beside)
    assert first.ask(name, timeout=DEAD_MAN_S) == second.ask(name, timeout=DEAD_MAN_S)
    assert (watched.live_actors, beside.live_actors) == (1, 1)

    assert beside.close(timeout=DEAD_MAN_S)

    assert not second.is_alive()
    assert first.ask(lambda: "ran", timeout=DEAD_MAN_S) == "ran"
    with pytest.raises(DispatcherClosedError):
        Obedient.start_on(beside)
