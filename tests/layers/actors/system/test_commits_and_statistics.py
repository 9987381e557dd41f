"""Hearing of commits, and a system's figures."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, FlowSystem, StoreUnavailable, SystemClosed, flow, step, wait_for
from persistasaurus.actors.runtime.primitives import current_thread_name
from persistasaurus.store import CommitUnknown, StoreFenced, StoreHalted
from system.doubles import DEAD_MAN_S, FaultyStore, memory_store, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.runtime.primitives import ManualClock
    from system.doubles import Gate


class Waits(Flow):
    @flow
    async def main(self) -> int:
        return await wait_for("n", int)


def test_whoever_listens_hears_of_each_commit_when_it_can_be_read_and_until_the_end_is_called(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Waits)
    seen: list[tuple[str, int]] = []
    end = system.on_commit(lambda: seen.append((current_thread_name(), len(system.store.read_all()))))
    handle = system.start(Waits.main)
    wait_until(lambda: seen)
    assert seen[0][0].startswith("persistasaurus-listeners")
    assert seen[0][1] >= 2
    handle.signal("n", 1)
    handle.result(20)
    wait_until(lambda: seen[-1][1] == len(system.store.read_all()))
    end()
    end()
    heard = len(seen)
    system.start(Waits.main)
    assert len(seen) == heard


def test_whoever_listens_hears_of_what_turns_out_to_be_durable_when_the_store_is_open_again(
    make_system: Callable[..., FlowSystem], clock: ManualClock, environment: Environment
) -> None:
    store: Any = FaultyStore(memory_store())
    system = make_system(Waits, store=store, environment=environment)
    system.start(Waits.main)
    heard, asked = Event(), Event()
    end = system.on_commit(heard.set)

    def keep(_number: int, faulty: FaultyStore) -> None:
        faulty.inner.commit(faulty.writes)
        raise CommitUnknown("the disk has failed")

    def fail() -> None:
        asked.set()
        raise StoreHalted("it fails still")

    store.fail, store.before_reopen = keep, fail
    with pytest.raises(StoreUnavailable):
        system.start(Waits.main, flow_id="kept")
    assert asked.wait(DEAD_MAN_S)
    store.fail = store.before_reopen = None
    heard.clear()
    clock.advance(60)

    assert heard.wait(DEAD_MAN_S)
    assert store.header("kept") is not None
    end()


def test_a_listener_that_fails_keeps_nobody_from_hearing_and_nothing_from_being_written(
    make_system: Callable[..., FlowSystem], caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise SystemExit(5)

    system = make_system(Waits)
    heard = Event()
    system.on_commit(fails)
    system.on_commit(heard.set)
    handle = system.start(Waits.main)
    handle.signal("n", 1)
    assert handle.result(20) == 1
    assert heard.wait(DEAD_MAN_S)
    assert "A listener for commits failed" in caplog.text


def test_one_of_two_listeners_that_are_the_same_may_end(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Waits)
    heard: list[int] = []

    def listen() -> None:
        heard.append(system.statistics().commits)

    end = system.on_commit(listen)
    system.on_commit(listen)
    end()
    system.start(Waits.main)
    wait_until(lambda: heard)
    assert len(heard) == len(set(heard))


def test_a_commit_whose_outcome_was_unknown_for_a_while_is_told_when_it_is_there() -> None:
    store = FaultyStore(memory_store())
    with FlowSystem(store=store, flows=[Waits]) as system:
        heard: list[int] = []
        system.on_commit(lambda: heard.append(len(system.store.read_all())))

        def unknown(_: int, store: FaultyStore) -> None:
            store.fail = None
            store.inner.commit(store.writes)
            store.inner._halted = error = CommitUnknown("injected")
            raise error

        store.fail = unknown
        system.start(Waits.main)
        wait_until(lambda: heard)
        assert heard[0] >= 2


def test_a_closed_system_takes_no_listeners_and_still_tells_its_figures(
    make_system: Callable[..., FlowSystem],
) -> None:
    system = make_system(Waits)
    system.start(Waits.main)
    system.close()
    with pytest.raises(SystemClosed):
        system.on_commit(lambda: None)
    assert system.statistics().live_flows == 0


def test_the_figures_say_what_goes_on(make_system: Callable[..., FlowSystem], gate: Gate) -> None:
    class Works(Flow):
        @flow
        async def main(self) -> None:
            await self.hold()

        @step
        def hold(self) -> None:
            gate()

    system = make_system(Works, Waits)
    idle = system.statistics()
    assert (idle.live_flows, idle.commits, idle.running_steps, idle.leaked_steps) == (0, 0, 0, 0)
    handle = system.start(Works.main)
    system.start(Waits.main)
    gate.wait()
    busy = system.statistics()
    assert (busy.live_flows, busy.running_steps, busy.is_writable) == (2, 1, True)
    assert 1 <= busy.commits <= 4
    gate.open()
    handle.result(20)
    wait_until(lambda: system.statistics().running_steps == 0)
    wait_until(lambda: system.statistics().live_flows == 1)
    after = system.statistics()
    assert after.commits > busy.commits
    assert (after.queued_writes, after.queued_requests) == (0, 0)


def test_the_figures_say_when_nothing_can_be_written() -> None:
    def fenced(_: int, __: FaultyStore) -> None:
        raise StoreFenced("epoch 2")

    with FlowSystem(store=(store := FaultyStore(memory_store())), flows=[Waits]) as system:
        handle: Any = system.start(Waits.main)
        store.fail = fenced
        with pytest.raises(StoreUnavailable):
            handle.signal("n", 1)
        wait_until(lambda: not system.statistics().is_writable)
