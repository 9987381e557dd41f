"""What the guide's table "What happens when" says of steps, signals, values, changed code and deaths."""

from __future__ import annotations

import logging
from datetime import timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from persistasaurus import (
    Flow,
    FlowEnded,
    FlowFailed,
    FlowNotFound,
    FlowParked,
    Limits,
    PayloadError,
    PayloadLimits,
    Retry,
    SignalRejected,
    StepError,
    current_step,
    flow,
    gather,
    query,
    signal,
    step,
    wait_for,
)
from persistasaurus.store import SqliteStore
from system.doubles import DEAD_MAN_S, completions, kinds, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from persistasaurus import FlowHandle, FlowSystem
    from system.doubles import Gate


class Steps(Flow):
    """Steps that fail as they are told."""

    broken = True
    ran: list[str] = []  # noqa: RUF012 - what the world has seen

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @flow
    async def two(self) -> str:
        await self.first()
        return await self.second()

    @step
    def first(self) -> None:
        Steps.ran.append("first")

    @step
    def second(self) -> str:
        Steps.ran.append("second")
        if Steps.broken:
            raise RuntimeError("not yet")
        return "done"

    @flow
    async def retried(self) -> int:
        return await self.third_time()

    @step(retry=Retry(max_attempts=3, initial=timedelta(milliseconds=1)))
    def third_time(self) -> int:
        attempt = current_step().attempt
        if attempt < 3:
            raise OSError("again")
        return attempt

    @flow
    async def caught(self) -> str:
        try:
            await self.second()
        except StepError as error:
            return error.type
        return "?"

    @flow
    async def waits(self) -> list[int]:
        self.seen = [await self.number(), *self.seen]
        self.seen = [*self.seen, await self.number()]
        return self.seen

    @signal
    def number(self, n: int) -> int:
        return n

    @query
    def so_far(self) -> list[int]:
        return self.seen

    @flow
    async def too_large(self) -> str:
        try:
            await self.takes("x" * 2000)
        except PayloadError as error:
            return error.path
        return "?"

    @step
    def takes(self, text: str) -> None:
        Steps.ran.append(text)

    @flow
    async def unstorable(self) -> None:
        await self.returns_a_set()

    @step(retry=Retry(max_attempts=5, initial=timedelta(milliseconds=1)))
    def returns_a_set(self) -> Any:
        Steps.ran.append("effect")
        return {1, 2}

    @flow
    async def isolated_unstorable(self) -> None:
        await self.returns_a_tuple()

    @step(isolated=True, retry=Retry(max_attempts=5, initial=timedelta(milliseconds=1)))
    def returns_a_tuple(self) -> Any:
        return (1, 2)


@pytest.fixture(autouse=True)
def _clean() -> None:
    Steps.ran.clear()
    Steps.broken = True


@pytest.fixture
def system(make_system: Callable[..., FlowSystem]) -> FlowSystem:
    return make_system(Steps)


# ------------------------------------------------------------------------------------ a step raises
def test_a_step_that_raises_is_recorded_and_its_error_raised_in_the_flow(system: FlowSystem) -> None:
    handle = system.start(Steps.caught)

    assert handle.result(DEAD_MAN_S) == "RuntimeError"
    assert "step_failed" in kinds(handle)


def test_a_step_that_raises_is_retried_by_its_policy(system: FlowSystem) -> None:
    assert system.start(Steps.retried).result(DEAD_MAN_S) == 3


def test_an_unhandled_error_fails_the_flow_and_retry_runs_on_from_the_failed_step(system: FlowSystem) -> None:
    handle = system.start(Steps.two)
    with pytest.raises(FlowFailed, match="not yet"):
        handle.result(DEAD_MAN_S)
    assert handle.status == "failed"
    Steps.broken = False

    handle.retry(by="somebody", why="repaired")

    assert handle.result(DEAD_MAN_S) == "done"
    assert Steps.ran == ["first", "second", "second"]
    assert completions(handle) == {1: 1, 2: 1}


def test_there_is_nothing_to_retry_in_a_flow_that_runs_or_has_completed(system: FlowSystem) -> None:
    handle = system.start(Steps.waits)
    with pytest.raises(Exception, match="nothing to retry"):
        handle.retry()
    handle.signal(Steps.number, 1)
    handle.signal(Steps.number, 2)
    assert handle.result(DEAD_MAN_S) == [1, 2]
    with pytest.raises(Exception, match="nothing to retry"):
        handle.retry()


# -------------------------------------------------------------------------------------- the signals
def test_a_signal_before_the_flow_awaits_it_is_kept_in_order(system: FlowSystem) -> None:
    handle = system.start(Steps.waits)
    for n in (3, 1):
        handle.signal(Steps.number, n)

    assert handle.result(DEAD_MAN_S) == [3, 1]


def test_a_signal_that_was_delivered_while_the_engine_was_down_is_consumed(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    from persistasaurus.store import Deliver, Delivered  # noqa: PLC0415

    system = make_system(Steps, path=path)
    system.start(Steps.waits, flow_id="waits").signal(Steps.number, 1)
    system.close()
    store = SqliteStore.open(path, now=lambda: 0)
    assert isinstance(store.commit([Deliver("waits", "number", "from-outside", b'{"n":2}', 0)])[0], Delivered)
    store.close()

    assert make_system(Steps, path=path).flow("waits").result(DEAD_MAN_S) == [1, 2]


def test_the_same_signal_id_again_is_recorded_once_with_the_same_answer_also_after_the_end(
    system: FlowSystem,
) -> None:
    handle = system.start(Steps.waits)
    first = handle.signal(Steps.number, 1, signal_id="one")
    again = handle.signal(Steps.number, 1, signal_id="one")
    handle.signal(Steps.number, 2, signal_id="two")
    assert handle.result(DEAD_MAN_S) == [1, 2]
    after_the_end = handle.signal(Steps.number, 1, signal_id="one")

    assert (first.duplicate, again.duplicate, after_the_end.duplicate) == (False, True, True)
    assert first.at == again.at == after_the_end.at
    assert kinds(handle).count("signal_received") == 2


def test_a_signal_to_an_unknown_flow_is_refused(system: FlowSystem) -> None:
    handle = system.start(Steps.waits)
    handle.id = "nobody"
    for refused in (
        lambda: handle.signal(Steps.number, 1),
        lambda: handle.signal("number", 1),
        lambda: handle.query(Steps.so_far),
        handle.pause,
        lambda: handle.result(1),
        handle.events,
        lambda: handle.status,
        lambda: system.flow("nobody"),
    ):
        with pytest.raises(FlowNotFound):
            refused()


def test_a_signal_to_an_ended_flow_is_refused(system: FlowSystem) -> None:
    handle = system.start(Steps.caught)
    handle.result(DEAD_MAN_S)
    before = len(handle.events())

    with pytest.raises(FlowEnded, match="completed"):
        handle.signal(Steps.number, 1)
    with pytest.raises(FlowEnded, match="completed"):
        handle.pause()
    assert len(handle.events()) == before
    assert system.store.inbox(handle.id) == []


@pytest.mark.parametrize("payload", ["one", None, [1], 1.5])
def test_a_signal_with_a_payload_of_the_wrong_type_is_rejected(system: FlowSystem, payload: Any) -> None:
    handle = system.start(Steps.waits)

    with pytest.raises(SignalRejected, match="nothing was written"):
        handle.signal(Steps.number, payload)
    with pytest.raises(SignalRejected, match="nothing was written"):
        handle.signal("number", payload)
    assert system.store.inbox(handle.id) == []


def test_a_signal_id_that_was_used_with_another_payload_is_rejected(system: FlowSystem) -> None:
    handle = system.start(Steps.waits)
    handle.signal(Steps.number, 1, signal_id="one")

    with pytest.raises(SignalRejected, match="another name or payload"):
        handle.signal(Steps.number, 2, signal_id="one")


def test_a_flow_takes_a_thousand_signals_each_once_and_in_order(
    make_system: Callable[..., FlowSystem],
) -> None:
    class Adds(Flow):
        @flow
        async def main(self) -> list[int]:
            return [await wait_for("n", int) for _ in range(1000)]

    system = make_system(Adds)
    handle = system.start(Adds.main)

    def send(numbers: range) -> None:
        for n in numbers:
            assert not handle.signal("n", n, signal_id=f"n-{n}").duplicate
            assert handle.signal("n", n, signal_id=f"n-{n}").duplicate

    senders = [Thread(target=send, args=(range(k, 1000, 4),)) for k in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    got = handle.result(DEAD_MAN_S)
    assert sorted(got) == list(range(1000))
    assert all([n for n in got if n % 4 == k] == list(range(k, 1000, 4)) for k in range(4))


# -------------------------------------------------------------------------------------- the payloads
def test_an_argument_that_cannot_be_stored_is_refused_at_the_call_with_its_path(
    make_system: Callable[..., FlowSystem],
) -> None:
    limits = Limits(payload=PayloadLimits(size=1000))
    handle = make_system(Steps, limits=limits).start(Steps.too_large)

    assert handle.result(DEAD_MAN_S).startswith("$")
    assert Steps.ran == []
    assert "step_started" not in kinds(handle)


def test_a_result_that_cannot_be_stored_is_not_retried_since_the_effect_has_happened(
    system: FlowSystem,
) -> None:
    handle = system.start(Steps.unstorable)

    with pytest.raises(FlowFailed, match="PayloadError"):
        handle.result(DEAD_MAN_S)
    assert Steps.ran == ["effect"]


# ------------------------------------------------------------------------------------ code and bytes
def flow_named(make: Callable[[type[Flow]], Any]) -> type[Flow]:
    class Changing(Flow):
        @flow
        async def main(self) -> str:
            return await make(self)

        @step
        def one(self) -> str:
            return "one"

        @step
        def two(self) -> str:
            return "two"

    return Changing


def one_then_wait() -> type[Flow]:
    async def body(self: Any) -> str:
        return await self.one() + await wait_for("go", str)

    return flow_named(body)


def two_then_wait() -> type[Flow]:
    async def body(self: Any) -> str:
        return await self.two() + await wait_for("go", str)

    return flow_named(body)


def test_a_flow_whose_code_has_changed_is_parked_and_goes_on_when_the_code_is_back(
    make_system: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = one_then_wait(), two_then_wait()
    system = make_system(old, path=path)
    handle = system.start(old.main, flow_id="changing")  # type: ignore[attr-defined]
    wait_until(lambda: handle.status == "waiting")
    before = kinds(handle)
    system.close()

    for _ in range(2):  # the second time adds no event
        system = make_system(new, path=path)
        handle = system.flow("changing")
        handle.signal("go", "!", signal_id="go")
        with pytest.raises(FlowParked, match=r"(?s)recorded:.*'one'.*attempted:.*'two'") as caught:
            handle.result(DEAD_MAN_S)
        assert caught.value.reason == "nondeterminism"
        assert kinds(handle) == [*before, "parked"]
        system.close()
    system = make_system(old, path=path)

    assert system.flow("changing").result(DEAD_MAN_S) == "one!"
    parked = [r for r in caplog.records if "is parked" in r.message]
    assert [r.levelno for r in parked] == [logging.ERROR]


def test_a_flow_that_is_not_registered_any_more_is_parked_and_others_run(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    kind = one_then_wait()
    system = make_system(kind, Steps, path=path)
    handle = system.start(kind.main, flow_id="unknown")  # type: ignore[attr-defined]
    wait_until(lambda: handle.status == "waiting")
    handle.signal("go", "!")
    handle.result(DEAD_MAN_S)
    late = system.start(kind.main, flow_id="late")  # type: ignore[attr-defined]
    wait_until(lambda: late.status == "waiting")
    system.close()

    system = make_system(Steps, path=path)
    system.flow("late").signal("go", "?")
    with pytest.raises(FlowParked, match=r"no flow named 'Changing\.main' is registered") as caught:
        system.flow("late").result(DEAD_MAN_S)
    assert caught.value.reason == "unknown_flow"
    assert system.run(Steps.caught) == "RuntimeError"
    assert system.flow("unknown").result(DEAD_MAN_S) == "one!"
    system.close()

    assert make_system(kind, path=path).flow("late").result(DEAD_MAN_S) == "one?"


def test_a_flow_whose_bytes_cannot_be_decoded_is_parked_and_others_run(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    import apsw  # noqa: PLC0415

    system = make_system(Steps, path=path)
    for name in ("damaged", "sound"):
        handle = system.start(Steps.waits, flow_id=name)
        handle.signal(Steps.number, 1)
        wait_until(lambda handle=handle: kinds(handle)[-1] == "signal_awaited" and len(kinds(handle)) > 4)
    system.close()
    connection = apsw.Connection(str(path))
    connection.execute(
        "UPDATE record SET data = '{' WHERE version = 3"
        " AND stream = (SELECT id FROM stream WHERE name = 'damaged')"
    )
    connection.close()

    for _ in range(2):
        system = make_system(Steps, path=path)
        damaged = system.flow("damaged")
        damaged.signal(Steps.number, 2, signal_id="two")
        with pytest.raises(FlowParked) as caught:
            damaged.result(DEAD_MAN_S)
        assert caught.value.reason == "unreadable"
        assert system.store.header("damaged").status == "parked"  # type: ignore[union-attr]
        version = system.store.header("damaged").version  # type: ignore[union-attr]
        with pytest.raises(Exception, match="nothing was changed"):
            damaged.retry()
        assert system.store.header("damaged").version == version  # type: ignore[union-attr]
        system.close()
    system = make_system(Steps, path=path)
    system.flow("sound").signal(Steps.number, 2)
    assert system.flow("sound").result(DEAD_MAN_S) == [1, 2]


# ------------------------------------------------------------------------------------------- restart
def test_a_step_that_was_running_when_the_process_died_is_run_again(
    make_system: Callable[..., FlowSystem], path: Path, killed: Callable[[Path], Path], gate: Any
) -> None:
    class Doubtful(Flow):
        @flow
        async def main(self) -> int:
            return await self.hangs()

        @step
        def hangs(self) -> int:
            attempt = current_step().attempt
            if attempt == 1:
                gate()
            return attempt

    make_system(Doubtful, path=path).start(Doubtful.main, flow_id="doubtful")
    gate.wait()
    handle = make_system(Doubtful, path=killed(path)).flow("doubtful")

    assert handle.result(DEAD_MAN_S) == 2
    assert kinds(handle) == [
        "flow_started", "step_started", "step_attempted", "step_completed", "flow_completed"
    ]  # fmt: skip


def test_a_step_that_must_not_run_twice_parks_its_flow_when_the_process_died_during_it(
    make_system: Callable[..., FlowSystem], path: Path, killed: Callable[[Path], Path], gate: Any
) -> None:
    class AtMostOnce(Flow):
        @flow
        async def main(self) -> str:
            return await self.charge()

        @step(on_crash="park")
        def charge(self) -> str:
            if current_step().attempt == 1:
                gate()
            return "charged"

    make_system(AtMostOnce, path=path).start(AtMostOnce.main, flow_id="once")
    gate.wait()
    handle = make_system(AtMostOnce, path=killed(path)).flow("once")

    with pytest.raises(FlowParked) as caught:
        handle.result(DEAD_MAN_S)
    assert caught.value.reason == "in_doubt"
    handle.retry(by="somebody", why="it was not charged")
    assert handle.result(DEAD_MAN_S) == "charged"


class Branches(Flow):
    """One branch takes its time, and the other one fails until it is mended."""

    gate: ClassVar[Gate]
    ran: ClassVar[list[str]]
    is_mended: ClassVar[bool]

    @flow
    async def main(self) -> tuple[str, str]:
        return await gather(self.slow(), self.fails())

    @step
    def slow(self) -> str:
        Branches.ran.append("slow")
        Branches.gate()
        return "slow"

    @step
    async def fails(self) -> str:
        if not Branches.is_mended:
            raise RuntimeError("first")
        return "mended"


@pytest.fixture
def failed(make_system: Callable[..., FlowSystem], gate: Gate) -> FlowHandle[Any]:
    """A flow that has failed while its other branch is still at its step."""
    Branches.gate, Branches.ran, Branches.is_mended = gate, [], False
    handle = make_system(Branches).start(Branches.main)
    with pytest.raises(FlowFailed, match="first"):
        handle.result(DEAD_MAN_S)
    return handle


def test_branches_that_still_run_when_the_flow_fails_are_recorded_and_not_run_again(
    failed: FlowHandle[Any], gate: Gate
) -> None:
    gate.open()
    wait_until(lambda: completions(failed) == {1: 1})
    with pytest.raises(FlowFailed, match="first"):
        failed.result(DEAD_MAN_S)
    Branches.is_mended = True
    failed.retry()

    assert failed.result(DEAD_MAN_S) == ("slow", "mended")
    assert Branches.ran == ["slow"]


def test_a_flow_that_is_retried_while_its_step_still_runs_does_not_run_it_twice(
    failed: FlowHandle[Any], gate: Gate
) -> None:
    gate.wait()
    Branches.is_mended = True
    failed.retry()
    wait_until(lambda: completions(failed)[2] == 1)
    gate.open()

    assert failed.result(DEAD_MAN_S) == ("slow", "mended")
    assert Branches.ran == ["slow"]
