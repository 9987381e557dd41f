"""The request poller: whatever was left, and whoever dies when, each request is done once, in order."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from persistasaurus import FlowFailed, FlowSystem, StoreUnavailable
from persistasaurus.actors.remote.client import RemoteClient
from persistasaurus.actors.remote.poller import RequestPoller
from persistasaurus.actors.remote.protocol import RetryRequest
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.actors.runtime.serial import Turns
from persistasaurus.store import CommitUnknown, SqliteStore, StoreFenced, StoreFull, StoreHalted
from persistasaurus.store.requests import RequestsDamaged
from persistasaurus.store.sqlite.requests import SqliteRequests
from store.damage import edit
from system.doubles import DEAD_MAN_S, FaultyStore, kinds, wait_until
from system.requesting import (
    FLOWS,
    Declares,
    Fails,
    Hears,
    leave,
    opened,
    pause,
    pending,
    refusals,
    response,
    resume,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = Path(__file__).with_name("poller_target.py")


@pytest.fixture
def make(make_system: Callable[..., FlowSystem], path: Path) -> Callable[..., FlowSystem]:
    return lambda **options: make_system(*FLOWS, **{"path": path, **options})


def emptied(path: Path) -> Callable[[], bool]:
    return lambda: not pending(path)


def advanced(clock: ManualClock, condition: Callable[[], Any]) -> Callable[[], Any]:
    """Let a little time go by before each look."""

    def look() -> Any:
        clock.advance(0.05)
        return condition()

    return look


# ---------------------------------------------------------------------------------------------- death
def killed_at(path: Path, moment: str) -> None:
    """Open the store in a process that dies at a moment of handling a request."""
    done = subprocess.run(
        [sys.executable, TARGET, path, moment], timeout=60, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


MOMENTS = ["before signal_json", "before commit", "after commit", "before respond", "after respond"]


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
    refused, *done = [response(path, name) for name in names]
    assert [a.is_done for a in done if a is not None] == [True, True]
    assert refused is not None
    assert refused.kind == "SignalRejected"
    assert refusals(path) == []


@pytest.mark.parametrize("moment", ["before commit", "after commit", "before respond", "after respond"])
def test_a_retry_is_done_once_wherever_the_engine_dies_while_handling_it(
    make: Callable[..., FlowSystem], path: Path, moment: str
) -> None:
    with make() as system:
        handle = system.start(Fails.main, flow_id="fails")
        wait_until(lambda: handle.status == "failed")
        version = handle.header().version
    [name] = leave(path, RetryRequest("fails", "ada", why="again", version=version))
    killed_at(path, moment)
    with make() as system:
        wait_until(emptied(path))
        handle = system.flow("fails")
        wait_until(lambda: handle.status == "failed")
        assert kinds(handle).count("repaired") == 1
    told = response(path, name)
    assert told is not None
    assert told.is_done


@pytest.mark.parametrize("moment", ["before commit", "after commit", "before respond", "after respond"])
def test_pause_and_resume_come_in_their_order_wherever_the_engine_dies(
    make: Callable[..., FlowSystem], path: Path, moment: str
) -> None:
    with make() as system:
        system.start(Hears.main, 1, flow_id="hears")
    leave(path, pause("hears"), resume("hears"), pause("hears"))
    killed_at(path, moment)
    with make() as system:
        wait_until(emptied(path))
        handle = system.flow("hears")
        assert handle.status == "paused"
        assert [k for k in kinds(handle) if k in ("paused", "resumed")] == ["paused", "resumed", "paused"]


ORDERS = {
    "a pause": (pause, "waiting"),
    "a pause of what is paused": (pause, "paused"),
    "a resumption": (resume, "paused"),
    "a resumption of what is not paused": (resume, "waiting"),
}


@pytest.mark.parametrize("is_before", [True, False], ids=["before flows begin", "while they run"])
@pytest.mark.parametrize("kind", ORDERS)
def test_what_somebody_has_taken_back_is_not_done_again_though_its_response_could_not_be_written(
    make: Callable[..., FlowSystem],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    is_before: bool,  # noqa: FBT001 - a parameter
) -> None:
    order, status = ORDERS[kind]

    def full(_: Any, responses: Any) -> None:
        tries.append(len(responses))
        raise StoreFull("injected")

    def restarted(system: FlowSystem) -> FlowSystem:
        system.close()
        return make()

    tries: list[int] = []
    system = make()
    handle = system.start(Hears.main, 1, flow_id="hears")
    if status == "paused":
        handle.pause()
    monkeypatch.setattr(SqliteRequests, "respond", full)
    system = restarted(system) if not is_before else system
    with RemoteClient(path) as client:
        sent = client.pause("hears") if order is pause else client.resume("hears")
        system = restarted(system) if is_before else system
        wait_until(lambda: tries)
        handle = system.flow("hears")
        if order is pause:
            handle.resume()
        else:
            handle.pause()
        history = kinds(handle)
        monkeypatch.undo()
        system = restarted(system)
        told = sent.wait(DEAD_MAN_S)
    assert told is not None
    assert told.is_done
    handle = system.flow("hears")
    assert handle.status == ("waiting" if order is pause else "paused")
    assert kinds(handle) == history


def test_flows_begin_before_signals_that_were_left_and_after_a_pause_that_was_left_behind_them(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make() as system:
        for name in ("hears", "paused"):
            system.start(Hears.main, 200, flow_id=name)
    sent = leave(path, *(word(name, n) for n in range(100) for name in ("hears", "paused")), pause("paused"))
    begun = Event()
    real = RequestPoller._send

    def send(self: RequestPoller, request: Any) -> Any:
        assert begun.wait(DEAD_MAN_S)
        return real(self, request)

    monkeypatch.setattr(RequestPoller, "_send", send)
    system = make()
    assert system.run(Hears.main, 0) == []
    assert system.flow("paused").status == "paused"
    assert kinds(system.flow("paused")) == ["flow_started", "signal_awaited", "paused"]
    assert set(pending(path)) >= set(sent[:-1])
    begun.set()
    wait_until(emptied(path))
    system.flow("paused").resume()
    for name in ("hears", "paused"):
        wait_until(lambda name=name: kinds(system.flow(name)).count("signal_received") == 100)
    assert system.flow("hears").query(Hears.so_far) == list(range(100))


def test_no_more_is_looked_at_before_flows_begin_than_its_bound_and_the_rest_is_done_after_that(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"hears-{n}" for n in range(40)]
    with make() as system:
        for name in names:
            system.start(Hears.main, 1, flow_id=name)
    leave(path, *map(pause, names))
    monkeypatch.setattr("persistasaurus.actors.remote.poller._FIRST_MAX", 1)
    with make() as system:
        assert system.run(Hears.main, 0) == []
        wait_until(emptied(path))
        assert {system.flow(name).status for name in names} == {"paused"}


def test_a_retry_waits_for_the_response_to_what_was_left_before_it_and_flows_do_not(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StoreFull("injected")

    with make() as system, pytest.raises(FlowFailed):
        system.start(Fails.main, flow_id="fails").result(DEAD_MAN_S)
    with RemoteClient(path) as client:
        leave(path, pause("fails"))
        client.retry("fails")
    monkeypatch.setattr(Fails, "is_down", False)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteRequests, "respond", full)
        system = make()
        assert system.run(Hears.main, 0) == []
        assert system.flow("fails").status == "failed"
    wait_until(lambda: system.flow("fails").status == "completed")
    wait_until(emptied(path))
    assert kinds(system.flow("fails")).count("repaired") == 1


def test_a_pause_does_not_overtake_what_was_left_before_it_to_resume_the_flow(
    make: Callable[..., FlowSystem], path: Path
) -> None:
    with make() as system:
        system.start(Hears.main, 1, flow_id="hears").pause()
    leave(path, pause("hears"), word("hears", 0, name="other"), resume("hears"), pause("hears"))
    with make() as system:
        wait_until(emptied(path))
        handle = system.flow("hears")
        assert handle.status == "paused"
        controls = [kind for kind in kinds(handle) if kind in ("paused", "resumed")]
        assert controls == ["paused", "paused", "resumed", "paused"]


def test_who_asks_for_the_result_at_once_hears_of_a_retry_that_was_left_and_not_of_the_failure_before(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make() as system, pytest.raises(FlowFailed):
        system.start(Fails.main, flow_id="fails").result(DEAD_MAN_S)
    with RemoteClient(path) as client:
        client.retry("fails")
    monkeypatch.setattr(Fails, "is_down", False)
    with make() as system:
        assert system.start(Fails.main, flow_id="fails").result(DEAD_MAN_S) == "up"


def test_what_is_not_answered_when_the_system_closes_is_done_at_the_next_start(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StoreFull("injected")

    with make() as system:
        system.start(Hears.main, 2, flow_id="hears")
        monkeypatch.setattr(SqliteRequests, "respond", full)
        names = leave(path, word("hears", 1), word("hears", 2))
        wait_until(lambda: system.store.header("hears").version > 2)  # type: ignore[union-attr]
    monkeypatch.undo()
    assert pending(path) == names
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
    assert [response(path, name).receipt.duplicate for name in names] == [False] * 6  # type: ignore[union-attr]


@pytest.mark.parametrize("at_once", [1, 64])
def test_more_requests_than_are_worked_on_at_once_come_through_each_flow_in_its_order(
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
    """All but the first are read once more when it is their turn."""
    real, reads = SqliteRequests.read, list[str]()

    def read(self: SqliteRequests, request_id: str) -> bytes | None:
        reads.append(request_id)
        if request_id == second and reads.count(request_id) == 1:
            raise StoreHalted("somebody keeps it locked")
        return real(self, request_id)

    with make() as system:
        system.start(Hears.main, 3, flow_id="hears")
    _, second, _ = leave(path, *(word("hears", n) for n in range(3)))
    monkeypatch.setattr(SqliteRequests, "read", read)
    with make() as system:
        assert system.flow("hears").result(20) == [0, 1, 2]
    assert reads.count(second) == 2
    assert "could not handle" not in caplog.text


def test_responses_that_are_known_at_once_are_written_at_once(
    path: Path, environment: Environment, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync for each of them would have them wait for each other."""
    written: list[int] = []
    real = SqliteRequests.respond

    def respond(self: SqliteRequests, responses: Any) -> None:
        written.append(len(responses))
        real(self, responses)

    monkeypatch.setattr(SqliteRequests, "respond", respond)
    turns = Turns(clock=clock)
    environment = Environment(clock=clock, alarms=ManualAlarms(clock), dispatcher=turns.dispatcher)
    with turns, FlowSystem(path, flows=FLOWS, environment=environment) as system:
        names = [system.start(Hears.main, 1, flow_id=f"hears-{n}").id for n in range(30)]
        leave(path, *(word(name, 1) for name in names))
        assert [system.flow(name).result() for name in names] == [[1]] * 30
        clock.advance(1)
        assert system.flow(names[0]).result() == [1]
    assert sum(written) == 30
    assert len(written) < 10


def test_a_request_that_can_not_be_done_now_keeps_no_other_flow_waiting(
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
    assert name in pending(path)
    assert caplog.text.count("stays on record for now: injected") <= 2
    monkeypatch.undo()
    assert handles[0].result(20) == [0]


# ------------------------------------------------------------------------------------- what goes wrong
def test_a_full_disk_delays_the_response_and_nothing_is_done_twice(
    make: Callable[..., FlowSystem],
    path: Path,
    environment: Environment,
    clock: ManualClock,
    monkeypatch: Any,
) -> None:
    system = make(environment=environment)
    handle = system.start(Hears.main, 2, flow_id="hears")
    tries: list[str] = []

    def full(*_: Any) -> None:
        tries.append("")
        raise StoreFull("the disk is full")

    pausing = leave(path, pause("hears"))[0]
    monkeypatch.setattr(SqliteRequests, "respond", full)
    wait_until(advanced(clock, lambda: len(tries) >= 3))
    assert handle.status == "paused"
    assert pending(path) == [pausing]
    handle.resume()  # by somebody else, meanwhile
    monkeypatch.undo()
    wait_until(advanced(clock, emptied(path)))
    assert response(path, pausing).is_done  # type: ignore[union-attr]
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
def test_a_request_that_makes_no_sense_is_answered_and_kept_and_stops_nobody(
    make: Callable[..., FlowSystem], path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    handle = system.start(Hears.main, 1, flow_id="hears")
    with opened(path) as store:
        store.add("senseless", RUBBISH[kind])
    leave(path, word("hears", "sense"))
    assert handle.result(20) == ["sense"]
    wait_until(emptied(path))
    assert [(r.id, r.data) for r in refusals(path)] == [("senseless", RUBBISH[kind])]
    told = response(path, "senseless")
    assert told is not None
    assert not told.is_done
    assert len([r for r in caplog.records if "is refused" in r.message]) == 1


def spoil(path: Path) -> None:
    """Write over the requests."""
    with opened(path) as store:
        for suffix in ("-wal", "-shm"):
            store.path.with_name(store.path.name + suffix).unlink()
        rubbish = path.with_name("rubbish")
        rubbish.write_bytes(b"no database" * 1000)
        rubbish.replace(store.path)  # at once, so that the engine sees nothing in between


@pytest.mark.parametrize("runs", [False, True], ids=["at the start", "while it runs"])
def test_requests_that_are_damaged_are_set_aside_and_those_that_follow_are_done(
    make: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture, *, runs: bool
) -> None:
    with make() as system:
        system.start(Hears.main, 1, flow_id="hears")
    system = make() if runs else None
    leave(path, word("nobody", 1))
    if runs:
        wait_until(emptied(path))
    spoil(path)
    system = system or make()
    wait_until(lambda: "set aside" in caplog.text)
    leave(path, word("hears", 1))

    assert system.flow("hears").result(20) == [1]
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "have to be sent again" in record.message
    [kept] = [p for p in path.parent.glob("*-damaged-*") if not p.name.endswith("-wal")]
    assert kept.read_bytes() == b"no database" * 1000
    assert str(kept) in record.message


def test_damage_that_cannot_be_set_aside_is_told_and_tried_again_now_and_then(
    make: Callable[..., FlowSystem], path: Path, environment: Environment, monkeypatch: Any, caplog: Any
) -> None:
    clock: Any = environment.clock
    system = make(environment=environment)
    handle = system.start(Hears.main, 1, flow_id="hears")
    leave(path, word("nobody", 1))
    wait_until(advanced(clock, emptied(path)))
    tries: list[float] = []

    def full(_: SqliteRequests) -> str:
        tries.append(clock.elapsed())
        raise StoreFull("the disk is full, injected")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteRequests, "set_aside", full)
        spoil(path)
        wait_until(advanced(clock, lambda: len(tries) == 3))
    assert [after - before for before, after in pairwise(tries)] == pytest.approx([30, 30], abs=1)
    assert caplog.text.count("Nor set aside: the disk is full, injected") == 1
    clock.advance(30)
    wait_until(advanced(clock, lambda: "have to be sent again" in caplog.text))
    leave(path, word("hears", 1))
    wait_until(advanced(clock, lambda: handle.status == "completed"))


def test_damage_that_only_senders_meet_is_found_though_nobody_can_leave_a_request(
    make: Callable[..., FlowSystem], path: Path, environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    clock: Any = environment.clock
    handle = make(environment=environment).start(Hears.main, 1, flow_id="hears")
    leave(path, word("nobody", 1))
    wait_until(advanced(clock, emptied(path)))
    with opened(path) as store:
        file = store.path
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    edit(file, file.read_bytes().index(b"CREATE TABLE"), b"CREATE TIBLE")
    with pytest.raises(RequestsDamaged):
        leave(path, word("hears", 1))

    wait_until(advanced(clock, lambda: "have to be sent again" in caplog.text))

    leave(path, word("hears", 1))
    wait_until(advanced(clock, lambda: handle.status == "completed"))


def test_requests_that_others_could_have_written_are_not_believed_until_they_are_in_order(
    make: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.touch(mode=0o600)
    leave(path, word("hears", 1))
    path.unlink()
    file = path.with_name(path.name + "-requests")
    file.chmod(0o666)
    system = make()
    handle = system.start(Hears.main, 1, flow_id="hears")
    wait_until(lambda: "can be written by others" in caplog.text)
    handle.pause()
    handle.resume()
    assert handle.status == "waiting"
    file.chmod(0o600)
    assert handle.result(20) == [1]
    assert caplog.text.count("can be written by others") == 1


def test_a_sender_that_is_stopped_while_it_writes_holds_up_nobody_else(
    make: Callable[..., FlowSystem], path: Path
) -> None:
    """What is on record is done. Only its response waits, and what would be left meanwhile."""
    with make() as system:
        for flow_id in ("hears", "other"):
            system.start(Hears.main, 1, flow_id=flow_id)
    pausing, sending = leave(path, pause("other"), word("hears", 1))
    with opened(path) as stopped:
        assert stopped.pending_count() == 2
        connection = stopped._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        with make() as system:
            began = monotonic()
            assert system.run(Hears.main, 0) == []
            assert system.flow("hears").result(20) == [1]
            wait_until(lambda: system.flow("other").status == "paused")
            system.flow("other").resume()
            system.flow("other").signal("word", 2)
            assert system.flow("other").result(20) == [2]
            assert monotonic() - began < 10
            assert pending(path) == [pausing, sending]
            connection.execute("ROLLBACK")
            wait_until(emptied(path))
            assert kinds(system.flow("other")).count("paused") == 1
    assert [response(path, name).is_done for name in (pausing, sending)] == [True, True]  # type: ignore[union-attr]


def test_flows_do_not_wait_for_long_for_requests_that_cannot_be_read(
    make: Callable[..., FlowSystem], environment: Environment, clock: ManualClock, monkeypatch: Any
) -> None:
    """There may be a pause among them; but somebody may be stopped while he keeps them locked."""

    def locked(_: SqliteRequests) -> list[Any]:
        raise StoreHalted("locked, injected")

    monkeypatch.setattr(SqliteRequests, "arrived", locked)
    began = clock.elapsed()
    system = make(environment=environment)
    started = system._start(Hears.main, (0,), {}, "hears")
    wait_until(advanced(clock, lambda: getattr(system.store.header("hears"), "status", "") == "completed"))
    assert started.reply.get(timeout=DEAD_MAN_S) is None
    assert 2 <= clock.elapsed() - began < 10


def test_what_was_left_for_another_store_in_the_same_place_is_not_done(
    make: Callable[..., FlowSystem], path: Path, tmp_path: Path
) -> None:
    """Its flows have the same ids, and are others."""
    stores = [path, tmp_path / "other.db"]
    for store in stores:
        with make(path=store) as system:
            system.start(Hears.main, 1, flow_id="hears")
    with RemoteClient(path) as client:
        sent = [client.signal("hears", "word", b"1"), client.pause("hears")]
    for suffix in ("", "-wal", "-shm"):
        file, there = (store.with_name(f"{store.name}-requests{suffix}") for store in stores)
        file.rename(there)
    ids = leave(stores[1], word("hears", 2))

    handle = make(path=stores[1]).flow("hears")

    assert handle.result(20) == [2]
    wait_until(emptied(stores[1]))
    assert [refusal.id for refusal in refusals(stores[1])] == [request.id for request in sent]
    assert ["in the place of this one" in refusal.reason for refusal in refusals(stores[1])] == [True, True]
    assert "paused" not in kinds(handle)
    assert response(stores[1], ids[0]).is_done  # type: ignore[union-attr]


def test_requests_go_with_a_store_that_is_moved(
    make: Callable[..., FlowSystem], path: Path, tmp_path: Path
) -> None:
    with make() as system:
        system.start(Hears.main, 1, flow_id="hears")
    with RemoteClient(path) as client:
        client.signal("hears", "word", b"1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in path.parent.glob("flows.db*"):
        file.rename(elsewhere / file.name)

    assert make(path=elsewhere / path.name).flow("hears").result(20) == [1]


def test_an_error_in_the_poller_itself_stops_it_for_one_look_only(
    make: Callable[..., FlowSystem], path: Path, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    system = make()
    handle = system.start(Hears.main, 1, flow_id="hears")
    with monkeypatch.context() as patch:
        patch.setattr(SqliteRequests, "arrived", lambda _: 1 // 0)
        wait_until(lambda: "could not handle Poll" in caplog.text)
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
        leave(path, word("nobody", 1))
        for _ in range(50):
            clock.advance(0.05)
        system.close()
    assert pending(path)[0] == name
    assert len(pending(path)) == 2
    assert "nobody" not in caplog.text


# ------------------------------------------------------------------------------------ where it works
def test_a_store_in_memory_has_no_requests_and_looks_for_none(
    make_system: Any, environment: Environment
) -> None:
    system = make_system(Hears, environment=environment)
    assert system.run(Hears.main, 0) == []
    assert system._asking.live_actors == 0


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
        assert response(path, name) is not None


def test_a_signal_never_comes_from_the_future_by_a_clock_that_was_set_back(
    make: Callable[..., FlowSystem], path: Path, environment: Environment, clock: ManualClock
) -> None:
    """The request is dated by today's clock, and the system's shows another year."""
    system = make(environment=environment)
    handle = system.start(Hears.main, 1, flow_id="hears")
    [name] = leave(path, word("hears", 1))
    wait_until(advanced(clock, lambda: handle.status == "completed"))
    wait_until(emptied(path))
    told = response(path, name)
    assert told is not None
    assert told.receipt is not None
    assert told.receipt.at.timestamp() <= clock.now() / 1e6


def test_nobody_hears_of_a_refusal_twice(
    make: Callable[..., FlowSystem], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        make()
        path_names = leave(path, word("nobody", 1))
        wait_until(lambda: "there is no flow 'nobody'" in caplog.text)
        wait_until(emptied(path))
    assert caplog.text.count("there is no flow 'nobody'") == 1
    assert [r.id for r in refusals(path)] == path_names
