"""The intake: whatever lies in the spool, and whoever dies when, each order is carried out once, in order."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import FlowSystem, StoreUnavailable
from persistasaurus.actors.remote.protocol import PauseOrder, ResumeOrder, RetryOrder
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.actors.runtime.serial import Turns
from persistasaurus.store import CommitUnknown, SqliteStore, StoreFenced, StoreFull
from persistasaurus.store.files.spool import Spool
from system.doubles import FaultyStore, kinds, wait_until
from system.spooling import FLOWS, Declares, Fails, Hears, answer, leave, spool_of, word

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = Path(__file__).with_name("intake_target.py")


@pytest.fixture
def make(make_system: Callable[..., FlowSystem], path: Path) -> Callable[..., FlowSystem]:
    return lambda **options: make_system(*FLOWS, path=path, **options)


def emptied(path: Path) -> Callable[[], bool]:
    return lambda: not spool_of(path).pending()


def advanced(clock: ManualClock, condition: Callable[[], Any]) -> Callable[[], Any]:
    """Let a little time go by before each look."""

    def look() -> Any:
        clock.advance(0.05)
        return condition()

    return look


# ---------------------------------------------------------------------------------------------- death
def killed_at(path: Path, moment: str) -> None:
    """Open the store in a process that dies at a moment of handling an order."""
    done = subprocess.run(
        [sys.executable, TARGET, path, moment], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


MOMENTS = [
    "before signal_json", "before commit", "after commit", "before refuse", "after refuse", "before answer",
    "before unlink", "after unlink",
]  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_counts_once_wherever_the_engine_dies_while_handling_it(
    make: Callable[..., FlowSystem], path: Path, moment: str
) -> None:
    with make() as system:
        hears = system.start(Hears.main, 3, flow_id="hears")
        declares = system.start(Declares.main, flow_id="declares")
    names = leave(path, word("declares", "wrong", name="confirm"), word("hears", "a"), word("hears", "b"))
    for _ in range(2):
        killed_at(path, moment)
    with make() as system:
        wait_until(emptied(path))
        hears, declares = system.flow("hears"), system.flow("declares")
        hears.signal("word", "c")
        declares.signal("confirm", 5)
        assert hears.result(20) == ["a", "b", "c"]
        assert declares.result(20) == 5
        assert kinds(hears).count("signal_received") == 3
    refused, *done = [answer(path, name) for name in names]
    assert [a.is_done for a in done if a is not None] == [True, True]
    assert refused is not None
    assert refused.kind == "SignalRejected"
    assert spool_of(path).refused() == []


@pytest.mark.parametrize("moment", ["before commit", "after commit", "before answer", "before unlink"])
def test_a_retry_is_done_once_wherever_the_engine_dies_while_handling_it(
    make: Callable[..., FlowSystem], path: Path, moment: str
) -> None:
    with make() as system:
        handle = system.start(Fails.main, flow_id="fails")
        wait_until(lambda: handle.status == "failed")
        version = handle.header().version
    [name] = leave(path, RetryOrder("fails", "ada", "again", version))
    killed_at(path, moment)
    with make() as system:
        wait_until(emptied(path))
        handle = system.flow("fails")
        wait_until(lambda: handle.status == "failed")
        assert kinds(handle).count("repaired") == 1
    told = answer(path, name)
    assert told is not None
    assert told.is_done


@pytest.mark.parametrize("moment", ["before commit", "after commit", "before answer", "before unlink"])
def test_pause_and_resume_come_in_their_order_wherever_the_engine_dies(
    make: Callable[..., FlowSystem], path: Path, moment: str
) -> None:
    with make() as system:
        system.start(Hears.main, 1, flow_id="hears")
    leave(path, PauseOrder("hears", "a", "b"), ResumeOrder("hears", "a", "b"), PauseOrder("hears", "a", "b"))
    killed_at(path, moment)
    with make() as system:
        wait_until(emptied(path))
        handle = system.flow("hears")
        assert handle.status == "paused"
        assert [k for k in kinds(handle) if k in ("paused", "resumed")] == ["paused", "resumed", "paused"]


def test_what_is_not_answered_when_the_system_closes_is_done_at_the_next_start(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreFull("injected")

    with make() as system:
        system.start(Hears.main, 2, flow_id="hears")
        monkeypatch.setattr(Spool, "answer", full)
        names = leave(path, word("hears", 1), word("hears", 2))
        wait_until(lambda: system.store.header("hears").version > 2)  # type: ignore[union-attr]
    monkeypatch.undo()
    assert spool_of(path).pending() == names
    with make() as system:
        assert system.flow("hears").result(20) == [1, 2]


# ---------------------------------------------------------------------------------------------- order
def test_a_flow_hears_in_order_also_when_the_first_is_put_off(path: Path, clock: ManualClock) -> None:
    """The store fails for a while; nobody overtakes whoever waits for it to come back."""

    def lost(_: int, store: FaultyStore) -> None:
        if any(getattr(write, "name", "") == "word" for write in store.writes):
            store.inner._halted = error = CommitUnknown("injected")
            store.fail, store.before_reopen = None, lambda: reopened.append(1) or raise_(error)
            raise error

    def raise_(error: Exception) -> None:
        if len(reopened) < 3:
            raise error

    reopened: list[int] = []
    store = FaultyStore(SqliteStore.open(path, now=clock.now))
    environment = Environment(
        clock=clock, alarms=ManualAlarms(clock), dispatcher=Environment.system().dispatcher
    )
    with FlowSystem(store=store, flows=FLOWS, environment=environment) as system:
        handle = system.start(Hears.main, 6, flow_id="hears")
        store.fail = lost
        names = leave(path, *(word("hears", n) for n in range(6)))
        wait_until(advanced(clock, emptied(path)))
        assert handle.result(20) == [0, 1, 2, 3, 4, 5]
        assert len(reopened) == 3
    assert [answer(path, name).receipt.duplicate for name in names] == [False] * 6  # type: ignore[union-attr]


@pytest.mark.parametrize("at_once", [1, 64])
def test_more_orders_than_are_worked_on_at_once_come_through_each_flow_in_its_order(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("persistasaurus.actors.remote.poller._SIGNALS_MAX", at_once)
    with make() as system:
        names = [system.start(Hears.main, 3, flow_id=f"hears-{n}").id for n in range(60)]
    leave(path, *(word(name, [name, n]) for n in range(3) for name in names))
    with make() as system:
        for name in names:
            assert system.flow(name).result(30) == [[name, n] for n in range(3)]
        wait_until(emptied(path))


def test_a_flow_hears_in_order_also_when_the_next_can_not_be_read_for_a_moment(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """All but the first are read twice: when they are found, and when it is their turn."""
    real, reads = Spool.read, list[str]()

    def read(self: Spool, name: str) -> bytes | None:
        reads.append(name)
        if name == second and reads.count(name) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(self, name)

    with make() as system:
        system.start(Hears.main, 3, flow_id="hears")
    _, second, _ = leave(path, *(word("hears", n) for n in range(3)))
    monkeypatch.setattr(Spool, "read", read)
    with make() as system:
        assert system.flow("hears").result(20) == [0, 1, 2]
    assert reads.count(second) == 3
    assert "could not handle" not in caplog.text


@pytest.mark.parametrize("is_signal", [True, False])
def test_only_what_has_a_key_may_come_back_after_the_loss_of_power(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch, *, is_signal: bool
) -> None:
    asked: list[bool] = []
    real = Spool.answer

    def answers(self: Spool, name: str, data: bytes, *, durable: bool) -> None:
        asked.append(durable)
        real(self, name, data, durable=durable)

    monkeypatch.setattr(Spool, "answer", answers)
    make().start(Hears.main, 2, flow_id="hears")
    leave(path, word("hears", 1) if is_signal else PauseOrder("hears", "", ""))
    wait_until(lambda: asked)
    assert asked == [not is_signal]


def test_an_order_that_can_not_be_done_now_keeps_no_other_flow_waiting(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    system = make()
    handles = [system.start(Hears.main, 1, flow_id=name) for name in ("stuck", "free")]
    real = system.client.admission.signal_json

    def fails(flow_id: str, *rest: Any) -> Any:
        if flow_id == "stuck":
            raise StoreUnavailable("injected")
        return real(flow_id, *rest)

    monkeypatch.setattr(system.client.admission, "signal_json", fails)
    [name, *_] = leave(path, *(word("stuck", n) for n in range(100)), word("free", 1))
    assert handles[1].result(20) == [1]
    assert name in spool_of(path).pending()
    assert caplog.text.count("stays in the spool for now: injected") <= 2
    monkeypatch.undo()
    assert handles[0].result(20) == [0]


# ------------------------------------------------------------------------------------- what goes wrong
def test_a_full_disk_delays_the_answer_and_nothing_is_done_twice(
    make: Callable[..., FlowSystem],
    path: Path,
    environment: Environment,
    clock: ManualClock,
    monkeypatch: Any,
) -> None:
    system = make(environment=environment)
    handle = system.start(Hears.main, 2, flow_id="hears")
    tries: list[str] = []
    real = os.fdopen

    def full(file: int, mode: str) -> Any:
        if mode == "rb":
            return real(file, mode)
        os.close(file)
        tries.append("")
        raise OSError(errno.ENOSPC, "No space left on device")

    pausing = leave(path, PauseOrder("hears", "ada", ""))[0]
    monkeypatch.setattr("persistasaurus.store.files.private_folder.os.fdopen", full)
    wait_until(advanced(clock, lambda: len(tries) >= 3))
    assert handle.status == "paused"
    assert spool_of(path).pending() == [pausing]
    handle.resume()  # by somebody else, meanwhile
    monkeypatch.undo()
    wait_until(advanced(clock, emptied(path)))
    assert answer(path, pausing).is_done  # type: ignore[union-attr]
    assert handle.status == "waiting"
    assert kinds(handle).count("paused") == 1


RUBBISH = {
    "no JSON": b"\xff\x00",
    "nothing": b"",
    "another kind": b'{"kind":"cancel","flow_id":"hears","by":""}',
    "an unknown field": b'{"kind":"pause","flow_id":"hears","by":"","why":"","x":1}',
    "a field missing": b'{"kind":"pause","flow_id":"hears","by":""}',
    "a wrong type": b'{"kind":"pause","flow_id":1,"by":"","why":""}',
    "no id": b'{"kind":"pause","flow_id":"","by":"","why":""}',
    "too deep": b'{"kind":"pause","x":' + b"[" * 100_000,
    "a list": b"[]",
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_an_order_that_makes_no_sense_is_answered_and_kept_and_stops_nobody(
    make: Callable[..., FlowSystem], path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    handle = system.start(Hears.main, 1, flow_id="hears")
    name = spool_of(path).put(RUBBISH[kind], "a")
    leave(path, word("hears", "sense"))
    assert handle.result(20) == ["sense"]
    wait_until(emptied(path))
    assert [(r.name, r.data) for r in spool_of(path).refused()] == [(name, RUBBISH[kind])]
    told = answer(path, name)
    assert told is not None
    assert not told.is_done
    assert len([r for r in caplog.records if "is refused" in r.message]) == 1


def test_whatever_else_lies_in_the_spool_is_set_aside_once_and_stops_nobody(
    make: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    handle = system.start(Hears.main, 2, flow_id="hears")
    leave(path, word("hears", "before"))
    new = spool_of(path).folder / "new"
    (new / f"{1:020d}-link").symlink_to("/etc/passwd")
    os.mkfifo(new / f"{2:020d}-pipe")
    (new / f"{3:020d}-folder").mkdir()
    (new / "notes.txt").write_text("mine")
    (new / "\udcff").write_text("mine")
    with (new / f"{4:020d}-huge").open("wb") as huge:
        huge.truncate(2**34)
    leave(path, word("hears", "after"))
    assert handle.result(20) == ["before", "after"]
    wait_until(emptied(path))
    assert len([r for r in caplog.records if "is set aside" in r.message]) == 6
    assert len(spool_of(path).refused()) == 6


def test_what_can_not_be_read_is_passed_over_and_not_looked_at_all_the_time(
    make: Callable[..., FlowSystem], path: Path, environment: Environment, monkeypatch: Any, caplog: Any
) -> None:
    clock: Any = environment.clock
    system = make(environment=environment)
    handle = system.start(Hears.main, 1, flow_id="hears")
    real, reads = Spool.read, []

    def read(self: Spool, name: str) -> bytes | None:
        if name == broken:
            reads.append(name)
            raise OSError(errno.EIO, "Input/output error")
        return real(self, name)

    monkeypatch.setattr(Spool, "read", read)
    spool = spool_of(path)
    broken = f"{0:020d}-a"
    leave(path, word("hears", 1))
    (spool.folder / "new" / broken).touch()
    wait_until(advanced(clock, lambda: handle.status == "completed" and reads))
    for _ in range(100):
        clock.advance(0.05)
    assert len(reads) == 1
    assert caplog.text.count("cannot be read") == 1
    monkeypatch.undo()
    clock.advance(60)
    wait_until(advanced(clock, emptied(path)))  # it is no order, as it turns out


def test_a_spool_that_others_may_write_to_is_not_believed_until_it_is_in_order(
    make: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = spool_of(path).folder
    path.touch(mode=0o600)
    leave(path, word("hears", 1))
    path.unlink()
    folder.chmod(0o777)
    system = make()
    handle = system.start(Hears.main, 1, flow_id="hears")
    wait_until(lambda: "can be written by others" in caplog.text)
    handle.pause()
    handle.resume()
    assert handle.status == "waiting"
    folder.chmod(0o700)
    assert handle.result(20) == [1]
    assert caplog.text.count("can be written by others") == 1


def test_an_error_in_the_intake_itself_stops_it_for_one_look_only(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    handle = system.start(Hears.main, 1, flow_id="hears")
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "pending", lambda _: 1 // 0)
        wait_until(lambda: "could not handle LookIn" in caplog.text)
    leave(path, word("hears", 1))
    assert handle.result(20) == [1]


def test_who_has_lost_the_store_takes_nothing_that_is_for_the_new_owner(
    path: Path, environment: Environment, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = FaultyStore(SqliteStore.open(path, now=clock.now))
    with FlowSystem(store=store, flows=FLOWS, environment=environment) as system:
        handle = system.start(Hears.main, 1, flow_id="hears")

        def fenced(_: int, __: FaultyStore) -> None:
            raise StoreFenced("epoch 2")

        store.fail = fenced
        with pytest.raises(StoreUnavailable):
            handle.signal("word", 1)
        [name] = leave(path, word("hears", 2))
        (spool_of(path).folder / "new" / "rubbish").touch()
        for _ in range(50):
            clock.advance(0.05)
        system.close()
    assert spool_of(path).pending() == [name, "rubbish"]
    assert "rubbish" not in caplog.text


# ------------------------------------------------------------------------------------ where it works
def test_a_store_in_memory_has_no_spool_and_looks_for_none(
    make_system: Any, environment: Environment
) -> None:
    system = make_system(Hears, environment=environment)
    assert system.run(Hears.main, 0) == []
    assert system._control.live_actors == 2  # the supervisor and the timers


def test_it_takes_turns_with_all_others_on_one_thread_and_in_virtual_time(path: Path) -> None:
    clock = ManualClock()
    turns = Turns(clock=clock, throughput=1)
    environment = Environment(clock=clock, alarms=ManualAlarms(clock), dispatcher=turns.dispatcher)
    with turns, FlowSystem(path, flows=FLOWS, environment=environment) as system:
        handle = system.start(Hears.main, 2, flow_id="hears")
        [name, _] = leave(path, word("hears", 1), word("hears", 2))
        began = clock.elapsed()
        assert handle.result() == [1, 2]
        assert clock.elapsed() - began <= 0.1
        assert answer(path, name) is not None


def test_a_signal_never_comes_from_the_future_by_a_clock_that_was_set_back(
    make: Callable[..., FlowSystem], path: Path, environment: Environment, clock: ManualClock
) -> None:
    """The order is dated by today's clock, and the system's shows another year."""
    system = make(environment=environment)
    handle = system.start(Hears.main, 1, flow_id="hears")
    [name] = leave(path, word("hears", 1))
    wait_until(advanced(clock, lambda: handle.status == "completed"))
    wait_until(emptied(path))
    told = answer(path, name)
    assert told is not None
    assert told.receipt is not None
    assert told.receipt.at.timestamp() <= clock.now() / 1e6


def test_nobody_hears_of_a_refusal_twice(
    make: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        make()
        path_names = leave(path, word("nobody", 1))
        wait_until(emptied(path))
    assert caplog.text.count("there is no flow 'nobody'") == 1
    assert [r.name for r in spool_of(path).refused()] == path_names
