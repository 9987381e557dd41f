"""What pooled actors promise beyond Pykka's own tests."""

from __future__ import annotations

import gc
import logging
import random
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Never

import pykka
import pytest
from persistasaurus.actors.runtime.actor import EscapedError, PooledActor
from persistasaurus.actors.runtime.dispatcher import Dispatcher, DispatcherClosedError
from pykka import ActorDeadError, ActorRef, ActorRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Recorder(PooledActor):
    """Keeps what it gets; runs what can be run."""

    def __init__(self) -> None:
        super().__init__()
        self.got = []
        self.failures = []

    def on_receive(self, message: Any) -> Any:
        if callable(message):
            return message()
        if message == "got":
            return self.got
        self.got.append(message)
        return message

    def on_failure(self, *exc_info: object) -> None:
        self.failures.append(exc_info[1])


def raising(error: BaseException) -> Any:
    def throw() -> Never:
        raise error

    return throw


@pytest.fixture(name="_tiny_switch_interval")
def _switch_interval() -> Iterator[Any]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_an_actor_started_on_a_dispatcher_is_not_in_pykkas_registry(dispatcher: Dispatcher) -> None:
    ref = Recorder.start_on(dispatcher)

    assert ref.ask(1, timeout=30) == 1
    assert ActorRegistry.get_by_urn(ref.actor_urn) is None


@pytest.mark.usefixtures("_tiny_switch_interval")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_each_senders_messages_arrive_in_order_and_one_at_a_time(
    make_dispatcher: Callable[..., Dispatcher], workers: int
) -> None:
    senders, count = 4, 1000
    overlaps = []

    class Exclusive(Recorder):
        busy = False

        def on_receive(self, message: Any) -> Any:
            if self.busy:
                overlaps.append(message)
            self.busy = True
            result = super().on_receive(message)
            self.busy = False
            return result

    dispatcher = make_dispatcher(workers=workers, throughput=5)
    refs = [Exclusive.start_on(dispatcher) for _ in range(10)]

    def send(sender: Any) -> None:
        for number in range(count):
            for ref in refs:
                ref.tell((sender, number))

    threads = [threading.Thread(target=send, args=(s,)) for s in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    for ref in refs:
        got = ref.ask("got", timeout=60)
        assert [[n for s, n in got if s == sender] for sender in range(senders)] == [
            list(range(count))
        ] * senders
    assert overlaps == []


@pytest.mark.usefixtures("_tiny_switch_interval")
def test_no_wake_up_is_lost_when_an_actor_goes_idle_again_and_again(
    make_dispatcher: Callable[..., Dispatcher],
) -> None:
    # Each ask finds the actor idle or just going idle; a lost wake-up would hang it.
    dispatcher = make_dispatcher(workers=2)
    refs = [Recorder.start_on(dispatcher) for _ in range(4)]
    unanswered = []

    def ping(ref: ActorRef[Any]) -> None:
        for number in range(1500):
            try:
                ref.ask(number, timeout=30)
            except pykka.Timeout:
                unanswered.append(number)
                return

    threads = [threading.Thread(target=ping, args=(ref,)) for ref in refs * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)

    assert unanswered == []


@pytest.mark.usefixtures("_tiny_switch_interval")
def test_an_ask_that_races_with_a_stop_is_answered(make_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = make_dispatcher(workers=2)
    futures = []

    def ask_until_dead(ref: ActorRef[Any]) -> None:
        while True:
            future = ref.ask("ping", block=False)
            futures.append(future)
            if not ref.is_alive():
                return

    for _ in range(200):
        ref = Recorder.start_on(dispatcher)
        asker = threading.Thread(target=ask_until_dead, args=(ref,))
        asker.start()
        ref.stop(block=False)
        asker.join(30)

    dispatcher.close(timeout=30)
    assert len(futures) >= 200
    assert [future for future in futures if not future.is_done] == []


def test_a_busy_actor_lets_others_have_their_turn(make_dispatcher: Callable[..., Dispatcher]) -> None:
    dispatcher = make_dispatcher(workers=1, throughput=10)
    order = []
    gate = threading.Event()
    busy, other = Recorder.start_on(dispatcher), Recorder.start_on(dispatcher)
    busy.tell(lambda: gate.wait(30))
    for _ in range(100):
        busy.tell(lambda: order.append("busy"))
    other.tell(lambda: order.append("other"))

    gate.set()
    busy.ask("got", timeout=30)

    assert order.index("other") <= 10


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")])
def test_a_base_exception_is_contained(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    bystander = Recorder.start()
    asked, told = Recorder.start_on(dispatcher), Recorder.start_on(dispatcher)
    victim = told.actor_inbox.owner
    threads = dispatcher.live_threads

    with caplog.at_level(logging.CRITICAL, logger="pykka"):
        with pytest.raises(EscapedError) as raised:
            asked.ask(raising(error), timeout=30)
        told.tell(raising(error))
        assert told.actor_stopped.wait(30)

    assert raised.value.__cause__ is error
    assert asked.ask("alive", timeout=30) == "alive"
    assert bystander.ask("alive", timeout=30) == "alive"
    assert dispatcher.live_threads == threads
    asked.ask("barrier", timeout=30)
    dispatcher.close(timeout=30)
    assert [failure.__cause__ for failure in victim.failures] == [error]
    bystander.stop(timeout=30)


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3)])
@pytest.mark.parametrize("hook", ["on_stop", "on_failure"])
def test_what_a_hook_raises_ends_only_its_actor(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture, hook: str, error: BaseException
) -> None:
    class Faulty(Recorder):
        pass

    setattr(Faulty, hook, lambda *_args: raising(error)())
    faulty, other = Faulty.start_on(dispatcher), Recorder.start_on(dispatcher)

    with caplog.at_level(logging.CRITICAL, logger="pykka"):
        faulty.tell(raising(ValueError("even"))) if hook == "on_failure" else faulty.stop(block=False)
        assert faulty.actor_stopped.wait(30)
        assert other.ask("alive", timeout=30) == "alive"
        other.stop(timeout=30)
        assert dispatcher.close(timeout=30)


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(3)])
def test_somebody_learns_that_on_start_has_failed(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    learned = []
    done = threading.Event()

    class Stillborn(PooledActor):
        def on_start(self) -> Never:
            raise error

        def on_start_failure(self, error: BaseException) -> None:
            learned.append((error, self.actor_ref.is_alive()))
            done.set()

    with caplog.at_level(logging.CRITICAL, logger="pykka"):
        ref = Stillborn.start_on(dispatcher)
        future = ref.ask("anything", block=False)
        assert done.wait(30)

    with pytest.raises(ActorDeadError):
        future.get(timeout=30)
    assert learned == [(error, False)]


def test_what_an_actor_leaves_goes_to_the_dead_letters_and_asks_fail(
    make_dispatcher: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture
) -> None:
    letters = []
    dispatcher = make_dispatcher(workers=1, on_dead_letter=lambda to, message: letters.append((to, message)))
    gate = threading.Event()
    ref = Recorder.start_on(dispatcher)
    name = str(ref)
    ref.tell(lambda: gate.wait(30))
    ref.tell(raising(ValueError("odd")))
    ref.tell("lost")
    question = ref.ask("unanswered", block=False)
    stop = ref.stop(block=False)

    with caplog.at_level(logging.CRITICAL, logger="pykka"):
        gate.set()
        with pytest.raises(ActorDeadError) as raised:
            question.get(timeout=30)

    assert isinstance(raised.value.__cause__, ValueError)
    assert stop.get(timeout=30) is True
    assert letters == [(name, "lost")]


def test_a_tell_that_comes_too_late_goes_to_the_dead_letters(
    make_dispatcher: Callable[..., Dispatcher],
) -> None:
    letters = []
    dispatcher = make_dispatcher(on_dead_letter=lambda _to, message: letters.append(message))
    ref = Recorder.start_on(dispatcher)
    ref.stop(timeout=30)
    dispatcher.close(timeout=30)

    # As a sender does who has looked whether the actor is alive just before.
    ref.actor_inbox.put(pykka._envelope.Envelope("late"))

    assert letters == ["late"]


def test_a_dead_letter_callback_that_raises_harms_nobody(
    make_dispatcher: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture
) -> None:
    dispatcher = make_dispatcher(workers=1, on_dead_letter=lambda *_: raising(SystemExit(1))())
    gate = threading.Event()
    ref, other = Recorder.start_on(dispatcher), Recorder.start_on(dispatcher)
    ref.tell(lambda: gate.wait(30))
    ref.stop(block=False)
    ref.tell("lost")

    with caplog.at_level(logging.CRITICAL, logger="persistasaurus"):
        gate.set()
        assert other.ask("alive", timeout=30) == "alive"


@pytest.mark.parametrize("end", ["stop", "crash"])
def test_a_stopped_actor_is_freed_without_the_garbage_collector(
    make_dispatcher: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture, end: str
) -> None:
    class Plain(PooledActor):
        def on_receive(self, message: Any) -> Any:
            raise ValueError(message)

    freed = threading.Event()
    ref = Plain.start_on(make_dispatcher(workers=1))
    gc.collect()
    gc.disable()
    try:
        actor = weakref.ref(ref.actor_inbox.owner, lambda _actor: freed.set())
        with caplog.at_level(logging.CRITICAL, logger="pykka"):
            ref.stop(block=False) if end == "stop" else ref.tell("boom")
            assert freed.wait(10)
        assert actor() is None
    finally:
        gc.enable()


def test_messages_from_before_the_start_are_handled(dispatcher: Dispatcher) -> None:
    class Eager(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.actor_ref.tell("early")

    assert Eager.start_on(dispatcher).ask("got", timeout=30) == ["early"]


def test_nothing_starts_on_a_closed_dispatcher(dispatcher: Dispatcher) -> None:
    dispatcher.close(timeout=30)

    with pytest.raises(DispatcherClosedError):
        Recorder.start_on(dispatcher)


def test_urns_are_unique_and_random_looking() -> None:
    urns = {PooledActor().actor_urn for _ in range(1000)}

    assert len(urns) == 1000


@pytest.mark.parametrize("seed", range(3))
def test_random_crashes_leave_no_ask_without_an_answer(
    make_dispatcher: Callable[..., Dispatcher], caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    rng = random.Random(seed)
    dispatcher = make_dispatcher(workers=2, throughput=3)
    futures = []
    with caplog.at_level(logging.CRITICAL, logger="pykka"):
        for _ in range(100):
            ref = Recorder.start_on(dispatcher)
            for _ in range(10):
                if not ref.is_alive():
                    break
                if rng.random() < 0.1:
                    ref.actor_inbox.put(pykka._envelope.Envelope(raising(ValueError("odd"))))
                futures.append(ref.ask("ping", block=False))
        dispatcher.close(timeout=30)

    assert [future for future in futures if not future.is_done] == []
