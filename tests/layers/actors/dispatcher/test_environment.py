"""What the primitives and the environment promise."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus.actors.runtime import primitives
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import Clock, ManualClock, SystemClock, start_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus.actors.runtime.dispatcher import Dispatcher


@pytest.fixture(name="_small_stacks")
def _stacks() -> Iterator[Any]:
    before = threading.stack_size(64 * 1024)
    yield
    threading.stack_size(before)


def decode_deeply() -> str:
    """On too small a stack, this kills the process."""
    try:
        msgspec.msgpack.decode(b"\x91" * 100_000 + b"\x01")
    except RecursionError:
        return "refused"
    return "decoded"


@pytest.mark.usefixtures("_small_stacks")
def test_a_thread_of_ours_has_stack_enough_whatever_the_host_has_set(dispatcher: Dispatcher) -> None:
    class Decoding(PooledActor):
        def on_receive(self, message: Any) -> Any:
            return decode_deeply()

    answers = []
    thread = start_thread(lambda: answers.append(decode_deeply()), "deep", daemon=True)
    thread.join(30)

    assert answers == ["refused"]
    assert Decoding.start_on(dispatcher).ask("go", timeout=30) == "refused"
    # Reading resets it, so this must come last.
    assert threading.stack_size() == 64 * 1024


@pytest.mark.parametrize(
    ("configured", "default", "wanted"),
    [
        (64 * 1024, 8 << 20, 4 << 20),
        (4 << 20, 64 * 1024, 4 << 20),
        (6 << 20, 64 * 1024, 6 << 20),
        (0, 8 << 20, 0),
        (0, 128 * 1024, 4 << 20),
    ],
)
def test_a_stack_that_is_large_enough_stays_as_the_host_has_it(
    monkeypatch: pytest.MonkeyPatch, configured: Any, default: Any, wanted: Any
) -> None:
    monkeypatch.setattr(primitives, "_default_stack_bytes", lambda: default)

    assert primitives._stack_bytes(configured) == wanted


def test_both_clocks_are_clocks() -> None:
    assert isinstance(SystemClock(), Clock)
    assert isinstance(ManualClock(), Clock)


def test_the_system_clock_tells_microseconds_and_seconds_that_go_on() -> None:
    clock = SystemClock()

    assert 1_700_000_000_000_000 < clock.now() < 5_000_000_000_000_000
    assert clock.elapsed() <= clock.elapsed()


def test_ids_and_seeds_do_not_repeat() -> None:
    assert len({primitives.new_id() for _ in range(1000)}) == 1000
    assert len({primitives.new_seed() for _ in range(1000)}) == 1000
    assert len(primitives.new_id()) == len(uuid.uuid4().hex)


def test_the_systems_environment_runs_actors() -> None:
    class Echo(PooledActor):
        def on_receive(self, message: Any) -> Any:
            return message

    real = Environment.system()
    dispatcher = real.dispatcher("flows", workers=1)

    assert Echo.start_on(dispatcher).ask("hello", timeout=30) == "hello"
    assert dispatcher.close(timeout=30)
    real.alarms.close()
