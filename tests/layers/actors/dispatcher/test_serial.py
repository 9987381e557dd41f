"""The same actors on one thread, in chosen order and virtual time."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from persistasaurus.actors.runtime.actor import BatchingActor, PooledActor
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.futures import PooledFuture, waiting
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.actors.runtime.serial import DeadlockError, Turns
from pykka import Timeout


class Relay(PooledActor):
    """Passes a number on to a random other one, now or after a while."""

    def __init__(self, name: Any, environment: Any, rng: Any, trace: Any) -> None:
        super().__init__()
        self.name, self.environment, self.rng, self.trace = name, environment, rng, trace
        self.others = []

    def on_receive(self, message: Any) -> None:
        if isinstance(message, list):
            self.others = message
            return
        self.trace.append((self.name, message, self.environment.clock.elapsed()))
        if message:
            ref = self.rng.choice(self.others)
            if self.rng.random() < 0.5:
                ref.tell(message - 1)
            else:
                at = self.environment.clock.elapsed() + self.rng.random()
                self.environment.alarms.call_at(at, lambda: ref.tell(message - 1))
        return


class Echo(PooledActor):
    def on_receive(self, message: Any) -> Any:
        return message


def make_environment(seed: int) -> Any:
    clock, rng = ManualClock(), random.Random(seed)
    turns = Turns(rng.randrange, clock)
    environment = Environment(
        clock=clock, alarms=ManualAlarms(clock), dispatcher=turns.dispatcher, new_seed=rng.getrandbits
    )
    return environment, turns, rng


def relay_run(seed: int) -> Any:
    environment, turns, rng = make_environment(seed)
    dispatcher, trace = environment.dispatcher("relays"), []
    refs = [Relay.start_on(dispatcher, number, environment, rng, trace) for number in range(5)]
    for ref in refs:
        ref.tell(refs)
        ref.tell(20)
    turns.run_until_idle()
    while (instant := environment.clock.next_instant()) is not None:
        environment.clock.advance(instant - environment.clock.elapsed())
        turns.run_until_idle()
    assert dispatcher.close()
    return trace


def test_the_same_seed_gives_the_same_run_and_others_differ() -> None:
    runs = [relay_run(seed) for seed in (1, 1, 2)]

    assert len(runs[0]) == 5 * 21
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_it_takes_no_threads() -> None:
    before = threading.active_count()
    relay_run(1)

    assert threading.active_count() == before


def test_whoever_waits_runs_the_actors_meanwhile() -> None:
    environment, turns, _rng = make_environment(1)
    with turns:
        assert Echo.start_on(environment.dispatcher("echoes")).ask("hello", timeout=30) == "hello"


def test_waiting_lets_virtual_time_pass() -> None:
    environment, turns, _rng = make_environment(1)
    future = PooledFuture()
    environment.alarms.call_at(3600, lambda: future.set("late"))

    with turns:
        with pytest.raises(Timeout):
            future.get(timeout=60)
        assert environment.clock.elapsed() == 60
        assert future.get() == "late"

    assert environment.clock.elapsed() == 3600
    assert waiting.by is None


def test_waiting_in_vain_is_found_at_once() -> None:
    _environment, turns, _rng = make_environment(1)

    with turns, pytest.raises(DeadlockError):
        PooledFuture().get()


def test_an_endless_conversation_is_found() -> None:
    class Babbler(PooledActor):
        def on_receive(self, message: Any) -> None:
            self.actor_ref.tell(message)

    environment, turns, _rng = make_environment(1)
    Babbler.start_on(environment.dispatcher("talk")).tell("and")

    with pytest.raises(DeadlockError):
        turns.run_until_idle(max_turns=100)


def test_batches_and_dead_letters_work_as_on_threads() -> None:
    letters, batches = [], []

    class Ledger(BatchingActor):
        def on_receive(self, message: Any) -> None:
            batches.append([e.message for e in message.envelopes])

    _environment, turns, _rng = make_environment(1)
    dispatcher = turns.dispatcher("ledger", on_dead_letter=lambda _to, message: letters.append(message))
    ref = Ledger.start_on(dispatcher)
    for message in (1, 2):
        ref.tell(message)
    ref.stop(block=False)
    ref.tell("late")

    turns.run_until_idle()

    assert (batches, letters, dispatcher.live_actors) == ([[1, 2]], ["late"], 0)
