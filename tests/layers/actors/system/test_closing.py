"""Closing: in good order, in time, from anywhere; what was not through goes on at the next start."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from datetime import timedelta
from threading import Event, Thread
from threading import enumerate as threads
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowParked,
    FlowSystem,
    NotInFlowError,
    StoreOwned,
    SystemClosed,
    current_step,
    flow,
    gather,
    query,
    sleep,
    step,
    wait_for,
)
from persistasaurus.store import StoreReader
from system.doubles import DEAD_MAN_S, completions, kinds, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from system.doubles import Gate


class Waits(Flow):
    @flow
    async def main(self) -> int:
        return await wait_for("n", int)

    @query
    def nothing(self) -> None:
        return None


def test_a_closed_system_refuses_everything(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Waits)
    handle = system.start(Waits.main)
    system.close()

    async def in_a_loop() -> None:
        for refused in (
            lambda: system.start_async(Waits.main),
            lambda: handle.signal_async("n", 1),
            handle.result_async,
            lambda: handle.query_async(Waits.nothing),
            handle.pause_async,
        ):
            with pytest.raises(SystemClosed):
                await refused()

    for refused in (
        lambda: system.start(Waits.main),
        lambda: system.run(Waits.main),
        lambda: system.flow(handle.id),
        system.flows,
        handle.result,
        handle.events,
        lambda: handle.status,
        lambda: handle.signal("n", 1),
        lambda: handle.query(Waits.nothing),
        handle.pause,
        handle.resume,
        handle.retry,
    ):
        with pytest.raises(SystemClosed):
            refused()
    asyncio.run(in_a_loop())


def test_whoever_waits_for_a_result_hears_that_the_system_is_closed(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Waits)
    handle = system.start(Waits.main)
    heard: list[BaseException] = []

    def wait() -> None:
        try:
            handle.result()
        except SystemClosed as error:
            heard.append(error)

    waiting = Thread(target=wait)
    waiting.start()
    watchers = system.supervisor.actor_inbox.owner._watchers
    wait_until(lambda: len(watchers) == 1)
    system.close()
    waiting.join(DEAD_MAN_S)

    assert len(heard) == 1


def test_closing_twice_and_from_several_threads_is_fine(
    make_system: Callable[..., FlowSystem], gate: Gate
) -> None:
    class Runs(Flow):
        @flow
        async def main(self) -> None:
            await self.hold()

        @step
        def hold(self) -> None:
            gate()

    system = make_system(Runs)
    system.start(Runs.main)
    gate.wait()
    closers = [Thread(target=system.close) for _ in range(4)]
    for closer in closers:
        closer.start()
    gate.open()
    for closer in closers:
        closer.join(DEAD_MAN_S)
    system.close()

    assert not any(closer.is_alive() for closer in closers)


def test_a_body_that_raises_closes_the_system_and_its_error_comes_through(path: Path) -> None:
    def body() -> None:
        with FlowSystem(path, flows=[Waits]) as system:
            system.start(Waits.main)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()

    FlowSystem(path, flows=[Waits]).close()


def test_no_thread_and_no_lock_is_left_behind(path: Path) -> None:
    before = set(threads())

    class Uses(Flow):
        @flow
        async def main(self) -> int:
            return sum(await gather(self.one(), self.two()))

        @step
        def one(self) -> int:
            return 1

        @step
        async def two(self) -> int:
            return 2

    for _ in range(3):
        with FlowSystem(path, flows=[Uses]) as system:
            assert system.run(Uses.main) == 3
        wait_until(lambda: not set(threads()) - before)


def test_no_thread_of_a_system_that_nobody_closes_keeps_its_process_from_ending(
    make_system: Callable[..., FlowSystem],
) -> None:
    before = set(threads())
    system = make_system(Waits)
    system.start(Waits.main)
    started = set(threads()) - before

    assert any("alarms" in thread.name for thread in started)
    assert [thread.name for thread in started if not thread.daemon] == []


class Pair(Flow):
    """Two steps at a time, that are held up."""

    gates: tuple[Any, Any]

    @flow
    async def main(self) -> tuple[int, int]:
        return await gather(self.one(), self.two())

    @flow
    async def chain(self) -> int:
        await self.one()
        return await self.three()

    @step
    def one(self) -> int:
        if current_step().attempt == 1:
            self.gates[0]()
        return 1

    @step
    def two(self) -> int:
        if current_step().attempt == 1:
            self.gates[1]()
        return 2

    @step
    def three(self) -> int:
        return 3


def test_steps_that_end_by_the_deadline_are_recorded_and_nothing_new_is_started(
    make_system: Callable[..., FlowSystem], path: Path, gate: Gate
) -> None:
    Pair.gates = (gate, gate)
    system = make_system(Pair, path=path)
    for n in range(10):
        system.start(Pair.main, flow_id=f"main-{n}")
        system.start(Pair.chain, flow_id=f"chain-{n}")
    wait_until(lambda: len(system._executor.running()) == 30)
    closer = Thread(target=system.close)
    closer.start()
    wait_until(lambda: system._executor._is_closed)
    gate.open()
    closer.join(DEAD_MAN_S)
    store_only = make_system(Waits, path=path)
    # Not registered here: they are parked, and their history is as it was.
    assert all(completions(store_only.flow(f"main-{n}")) == {1: 1, 2: 1} for n in range(10))
    assert all(completions(store_only.flow(f"chain-{n}")) == {1: 1} for n in range(10))
    assert not any("step_interrupted" in kinds(store_only.flow(f"main-{n}")) for n in range(10))
    store_only.close()
    system = make_system(Pair, path=path)

    assert [system.flow(f"main-{n}").result(DEAD_MAN_S) for n in range(10)] == [(1, 2)] * 10
    assert [system.flow(f"chain-{n}").result(DEAD_MAN_S) for n in range(10)] == [3] * 10
    assert "step_attempted" not in kinds(system.flow("main-0"))


def test_closing_does_not_wait_for_a_step_that_hangs(
    make_system: Callable[..., FlowSystem], path: Path, gate: Gate
) -> None:
    Pair.gates = (gate, lambda: None)
    system = make_system(Pair, path=path)
    handle = system.start(Pair.main, flow_id="hangs")
    gate.wait()
    wait_until(lambda: completions(handle) == {2: 1})
    began = monotonic()
    system.close(timeout=0.2)
    took = monotonic() - began
    system = make_system(Pair, path=path)
    handle = system.flow("hangs")

    assert took < 5
    assert handle.result(DEAD_MAN_S) == (1, 2)
    assert "step_interrupted" in kinds(handle)


def test_a_clean_close_does_not_count_towards_poison(
    make_system: Callable[..., FlowSystem], path: Path, gate: Gate
) -> None:
    class Slow(Flow):
        @flow
        async def main(self) -> int:
            return await self.slow()

        @step
        def slow(self) -> int:
            attempt = current_step().attempt
            if attempt <= 5:
                began.set()
                gate()
            return attempt

    for n in range(5):
        began = Event()
        system = make_system(Slow, path=path)
        if n == 0:
            system.start(Slow.main, flow_id="slow")
        assert began.wait(DEAD_MAN_S)
        system.close(timeout=0.01)

    assert make_system(Slow, path=path).flow("slow").result(DEAD_MAN_S) == 6


class AtMostOnce(Flow):
    ran: list[int] = []  # noqa: RUF012 - what the world has seen
    gate: Any

    @flow
    async def main(self, n: int) -> int:
        return await self.charge(n)

    @step(on_crash="park")
    def charge(self, n: int) -> int:
        AtMostOnce.ran.append(n)
        if current_step().attempt == 1:
            self.gate()
        return n


def test_a_step_that_was_never_started_is_not_in_doubt_after_a_clean_close(
    make_system: Callable[..., FlowSystem], path: Path, gate: Gate
) -> None:
    AtMostOnce.ran, AtMostOnce.gate = [], staticmethod(gate)
    system = make_system(AtMostOnce, path=path, step_threads=1)
    handles = [system.start(AtMostOnce.main, n, flow_id=f"charge-{n}") for n in range(3)]
    gate.wait()
    wait_until(lambda: all(kinds(handle)[-1] == "step_started" for handle in handles))
    (begun,) = AtMostOnce.ran
    system.close(timeout=0.1)
    gate.open()
    system = make_system(AtMostOnce, path=path)

    for n in range(3):
        handle = system.flow(f"charge-{n}")
        if n == begun:
            with pytest.raises(FlowParked) as caught:
                handle.result(DEAD_MAN_S)
            assert caught.value.reason == "in_doubt"
        else:
            assert handle.result(DEAD_MAN_S) == n
    assert sorted(AtMostOnce.ran) == [0, 1, 2]


def test_a_forked_child_is_refused_and_does_its_parent_no_harm(path: Path) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    script = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
from persistasaurus import *
class F(Flow):
    @flow
    async def main(self) -> int: return await wait_for("n", int)
with FlowSystem({str(path)!r}, flows=[F]) as system:
    handle = system.start(F.main)
    pid = os.fork()
    if pid == 0:
        refused = 0
        for call in (lambda: system.start(F.main), lambda: handle.signal("n", 1), lambda: handle.result(1),
                     lambda: handle.status, system.flows):
            try: call()
            except SystemClosed: refused += 1
        system.close()
        try: FlowSystem({str(path)!r}, flows=[F])
        except StoreOwned: refused += 1
        os._exit(refused)
    _, status = os.waitpid(pid, 0)
    handle.signal("n", 5)
    print(os.waitstatus_to_exitcode(status), handle.result(10))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.split() == ["6", "5"], done.stderr


def test_a_second_owner_is_refused_and_told_who_the_first_is(
    make_system: Callable[..., FlowSystem], path: Path
) -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    make_system(Waits, path=path)
    script = f"from persistasaurus import FlowSystem; FlowSystem({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )

    assert "StoreOwned" in done.stderr
    assert str(os.getpid()) in done.stderr
    with pytest.raises(StoreOwned):
        FlowSystem(path)


def test_a_system_can_be_closed_and_used_as_a_context_in_a_loop(path: Path) -> None:
    async def main() -> int:
        async with FlowSystem(path, flows=[Waits]) as system:
            handle = await system.start_async(Waits.main)
            await handle.signal_async("n", 3)
            return await handle

    assert asyncio.run(main()) == 3


@pytest.mark.parametrize("interrupted", ["close", "exit"])
def test_a_signal_that_closes_during_a_close_does_not_wait_for_it(
    make_system: Callable[..., FlowSystem], gate: Gate, interrupted: str
) -> None:
    class Long(Flow):
        @flow
        async def main(self) -> None:
            await self.work()

        @step
        def work(self) -> None:
            gate()

    system = make_system(Long)
    took: list[float] = []

    def handle(*_: Any) -> None:
        begun = monotonic()
        system.close()
        took.append(monotonic() - begun)
        gate.open()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        system.start(Long.main)
        gate.wait()
        Thread(
            target=lambda: (wait_until(lambda: system._is_closing), os.kill(os.getpid(), signal.SIGUSR1))
        ).start()
        if interrupted == "close":
            system.close()
        else:
            system.__exit__(None, None, None)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert took
    assert took[0] < 5
    assert system._is_closed


def test_a_close_that_was_broken_off_can_be_finished(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Waits)
    system.start(Waits.main)

    def strike(deadline: float) -> Any:
        del system._executor.close
        raise KeyboardInterrupt

    system._executor.close = strike
    with pytest.raises(KeyboardInterrupt):
        system.close()
    system.close()

    with pytest.raises(SystemClosed):
        system.flows()


@pytest.mark.parametrize("number", range(7))
def test_a_close_that_was_broken_off_anywhere_leaves_the_store_free_after_the_next(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = FlowSystem(path, flows=[Waits])
    system.start(Waits.main, flow_id="waits")
    parts: list[Any] = [system._executor, *system._dispatchers, system._watchdog, system.environment.alarms]

    def strike(*_: Any) -> Any:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(parts[number], "close", strike)
    with pytest.raises(KeyboardInterrupt):
        system.close()
    system.close()

    assert system._is_closed
    with FlowSystem(path, flows=[Waits]) as again:
        assert again.flow("waits").status == "waiting"


class Closes(Flow):
    system: Any = None

    @flow
    async def by_step(self) -> str:
        return await self.plain()

    @flow
    async def by_async_step(self) -> str:
        return await self.coroutine()

    @flow
    async def by_body(self) -> str:
        try:
            Closes.system.close()
        except NotInFlowError as error:
            return str(error)
        return "closed"

    @flow
    async def waits(self) -> None:
        await wait_for("nothing")

    @step
    def plain(self) -> str:
        Closes.system.close()
        return "closing"

    @step
    async def coroutine(self) -> str:
        await Closes.system.close_async()
        return "closing"

    @query
    def ask(self) -> str:
        Closes.system.close()
        return "closing"


@pytest.mark.parametrize("by", ["by_step", "by_async_step"])
def test_a_step_can_close_its_system_and_is_recorded(path: Path, by: str) -> None:
    Closes.system = FlowSystem(path, flows=[Closes])
    handle = Closes.system.start(getattr(Closes, by), flow_id="f")
    begun = monotonic()
    with suppress(SystemClosed):  # whichever comes first
        handle.result()
    Closes.system.close()
    assert monotonic() - begun < 8

    with FlowSystem(path, flows=[Closes]) as system:
        assert system.flow("f").result(timeout=DEAD_MAN_S) == "closing"
        assert completions(system.flow("f"))[1] == 1


def test_a_query_and_a_listener_can_close_their_system(path: Path) -> None:
    Closes.system = system = FlowSystem(path, flows=[Closes])
    assert system.start(Closes.waits, flow_id="f").query(Closes.ask) == "closing"
    system.close()

    heard = Event()
    system = FlowSystem(path, flows=[Closes])

    def listen() -> None:
        system.close()
        heard.set()

    system.on_commit(listen)
    system.start(Closes.waits, flow_id="g")
    assert heard.wait(5)
    system.close()
    FlowSystem(path, flows=[Closes]).close()


def test_a_body_cannot_close_its_system(make_system: Callable[..., FlowSystem]) -> None:
    Closes.system = make_system(Closes)
    assert "a flow's body closed" in Closes.system.run(Closes.by_body)


def test_whoever_starts_flows_while_the_system_closes_is_answered(path: Path) -> None:
    system = FlowSystem(path, flows=[Waits])
    refused: list[Exception] = []

    def start() -> None:
        try:
            while True:
                system.start(Waits.main)
        except SystemClosed as error:
            refused.append(error)

    starters = [Thread(target=start) for _ in range(8)]
    for thread in starters:
        thread.start()
    wait_until(lambda: system.statistics().commits > 5)
    system.close()
    for thread in starters:
        thread.join(DEAD_MAN_S)
    assert len(refused) == 8


class Naps(Flow):
    @flow
    async def nap(self) -> None:
        await sleep(timedelta(days=1))


@pytest.mark.parametrize("body", [Waits.main, Naps.nap])
def test_a_flow_that_waits_is_on_record_as_waiting_after_the_stop(
    make_system: Callable[..., FlowSystem], path: Path, body: Any
) -> None:
    system = make_system(Waits, Naps, path=path)
    handle = system.start(body, flow_id="waits")
    wait_until(lambda: handle.status == "waiting")
    before = handle.header()

    system.close()

    with StoreReader.open(path) as reader:
        assert reader.header("waits") == before


def test_a_flow_whose_code_stands_still_with_news_is_looked_after_at_the_next_start(
    make_system: Callable[..., FlowSystem], path: Path, gate: Gate
) -> None:
    Pair.gates = (gate, lambda: None)
    system = make_system(Pair, path=path)
    handle = system.start(Pair.main, flow_id="news")
    gate.wait()
    closer = Thread(target=system.close)
    closer.start()
    wait_until(lambda: system._executor._is_closed)
    gate.open()
    closer.join(DEAD_MAN_S)

    with StoreReader.open(path) as reader:
        header = reader.header("news")
    assert header is not None
    assert header.status == "running"
    assert header.wake_at is not None
    assert make_system(Pair, path=path).flow("news").result(DEAD_MAN_S) == (1, 2)
    assert handle.id == "news"
