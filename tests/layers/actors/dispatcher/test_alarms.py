"""Alarms, on a clock that tests move."""

from __future__ import annotations

import logging
import threading
from random import Random
from typing import TYPE_CHECKING, Any, Never

import pytest
from persistasaurus.actors.runtime import alarms as alarm_module
from persistasaurus.actors.runtime.alarms import Alarms, ManualAlarms
from persistasaurus.actors.runtime.primitives import ManualClock, SystemClock
from system.doubles import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="clock")
def _clock() -> Any:
    return ManualClock(now=1_000_000)


@pytest.fixture(name="alarms")
def _alarms(clock: ManualClock) -> Any:
    return ManualAlarms(clock)


@pytest.fixture(name="real")
def _real() -> Iterator[Any]:
    alarms = Alarms(SystemClock())
    yield alarms
    alarms.close()


def test_alarms_fire_in_the_order_of_instants_and_then_of_age(
    clock: ManualClock, alarms: ManualAlarms
) -> None:
    fired = []
    for name, instant in [("b1", 2), ("a", 1), ("b2", 2), ("late", 11)]:
        alarms.call_at(instant, lambda name=name: fired.append((name, clock.elapsed(), clock.now())))

    clock.advance(10)

    assert fired == [("a", 1, 2_000_000), ("b1", 2, 3_000_000), ("b2", 2, 3_000_000)]
    assert clock.elapsed() == 10
    assert clock.next_instant() == 11


def test_an_alarm_does_not_fire_early(clock: ManualClock, alarms: ManualAlarms) -> None:
    fired = []
    alarms.call_at(1, lambda: fired.append(1))

    clock.advance(0.999999)

    assert fired == []


def test_what_an_alarm_sets_fires_in_the_same_advance_when_due(
    clock: ManualClock, alarms: ManualAlarms
) -> None:
    fired = []

    def tick() -> None:
        fired.append(clock.elapsed())
        alarms.call_at(clock.elapsed() + 1, tick)

    alarms.call_at(1, tick)
    clock.advance(3.5)

    assert fired == [1, 2, 3]


def test_a_cancelled_alarm_does_not_fire(clock: ManualClock, alarms: ManualAlarms) -> None:
    fired = []
    alarm = alarms.call_at(1, lambda: fired.append("cancelled"))
    alarms.call_at(1, lambda: fired.append("kept"))

    alarm.cancel()
    clock.advance(2)

    assert fired == ["kept"]


def test_an_alarm_that_is_cancelled_on_its_way_to_be_fired_does_not_fire(
    alarms: ManualAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    fired = []
    alarm = alarms.call_at(0, lambda: fired.append("cancelled"))
    on_its_way = alarms._pop_due()
    assert on_its_way is alarm

    alarm.cancel()
    on_its_way.fire()

    assert fired == []
    assert caplog.records == []


def test_beside_many_that_wait_cancelled_ones_are_forgotten_and_the_others_come_in_their_order(
    clock: ManualClock, alarms: ManualAlarms
) -> None:
    rng = Random(1)
    fired: list[int] = []
    wanted: list[int] = []
    for number in range(2_000):
        instant = rng.randrange(1, 1_000)
        alarm = alarms.call_at(instant, lambda at=instant: fired.append(at))
        if number < 200:
            wanted.append(instant)
        else:
            alarm.cancel()

    assert len(alarms._heap) < 800
    clock.advance(1_000)
    assert fired == sorted(wanted)


def test_setting_and_cancelling_for_ever_takes_no_memory(alarms: ManualAlarms) -> None:
    for _ in range(10_000):
        alarms.call_at(1, int).cancel()

    assert len(alarms._heap) < 200


def test_a_callback_that_raises_harms_no_other_alarm(
    clock: ManualClock, alarms: ManualAlarms, caplog: pytest.LogCaptureFixture
) -> None:
    fired = []

    def throw() -> Never:
        raise SystemExit

    alarms.call_at(1, throw)
    alarms.call_at(1, lambda: fired.append(1))

    with caplog.at_level(logging.CRITICAL, logger="persistasaurus"):
        clock.advance(1)

    assert fired == [1]


def test_a_jump_of_the_wall_clock_moves_no_alarm(clock: ManualClock, alarms: ManualAlarms) -> None:
    fired = []
    alarms.call_at(5, lambda: fired.append(clock.now()))

    clock.jump_wall(-3600)
    clock.advance(4)
    clock.jump_wall(7200)

    assert fired == []
    clock.advance(1)
    assert fired == [1_000_000 + 3605 * 1_000_000]


def test_after_closing_nothing_fires(clock: ManualClock, alarms: ManualAlarms) -> None:
    fired = []
    alarms.call_at(1, lambda: fired.append("before"))
    alarms.close()
    alarms.call_at(1, lambda: fired.append("after"))

    clock.advance(2)

    assert fired == []


def test_time_does_not_run_backwards(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_real_alarms_fire_in_order_on_one_thread(real: Alarms) -> None:
    fired, gate, done = [], threading.Event(), threading.Event()
    real.call_at(0, lambda: gate.wait(30))
    for instant in (3, 1, 2):
        real.call_at(
            instant, lambda instant=instant: fired.append((instant, threading.current_thread().name))
        )
    real.call_at(4, done.set)

    gate.set()

    assert done.wait(30)
    assert fired == [(instant, "persistasaurus-alarms") for instant in (1, 2, 3)]


def test_a_real_alarm_that_is_earlier_than_the_rest_is_not_slept_over() -> None:
    looked = threading.Event()

    class Watched(SystemClock):
        def elapsed(self) -> float:
            looked.set()
            return super().elapsed()

    done, alarms = threading.Event(), Alarms(Watched())
    alarms.call_at(SystemClock().elapsed() + 3600, int)
    # The thread has the lock from this look on until it waits.
    assert looked.wait(30)

    alarms.call_at(SystemClock().elapsed() + 0.001, done.set)

    assert done.wait(20)
    alarms.close()


def test_real_alarms_go_on_after_a_callback_has_raised(
    real: Alarms, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def throw() -> Never:
        raise SystemExit

    with caplog.at_level(logging.CRITICAL, logger="persistasaurus"):
        real.call_at(0, throw)
        real.call_at(0, done.set)
        assert done.wait(30)


def test_closing_real_alarms_ends_their_thread_also_from_a_callback() -> None:
    for close_from_callback in (False, True):
        alarms, fired = Alarms(SystemClock(), name="closing"), threading.Event()
        alarms.call_at(SystemClock().elapsed() + 3600, int)
        if close_from_callback:
            alarms.call_at(0, lambda alarms=alarms, fired=fired: (alarms.close(), fired.set()))
            assert fired.wait(30)
        thread = alarms._thread

        alarms.close()
        alarms.call_at(0, int)
        thread.join(30)

        assert not thread.is_alive()


def test_closing_real_alarms_waits_for_a_callback_that_is_running() -> None:
    alarms, entered, ended = Alarms(SystemClock()), threading.Event(), []

    def callback() -> None:
        entered.set()
        wait_until(lambda: alarms._is_closed)
        ended.append(1)

    alarms.call_at(0, callback)
    assert entered.wait(30)
    alarms.close()

    assert ended == [1]


def test_no_thread_is_started_before_the_first_alarm() -> None:
    assert Alarms(SystemClock())._thread is None


def test_a_thread_that_was_started_early_is_the_only_one_and_none_is_started_after_close(
    real: Alarms, monkeypatch: pytest.MonkeyPatch
) -> None:
    fired, threads = threading.Event(), []
    start = alarm_module.start_thread
    monkeypatch.setattr(alarm_module, "start_thread", lambda *a, **k: threads.append(a) or start(*a, **k))
    real.start()
    real.start()

    real.call_at(0.0, fired.set)

    assert fired.wait(20)
    assert len(threads) == 1
    closed = Alarms(SystemClock())
    closed.close()
    closed.start()
    ManualAlarms(ManualClock()).start()
    assert len(threads) == 1
