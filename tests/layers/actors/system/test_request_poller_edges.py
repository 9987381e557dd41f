"""The request poller, in virtual time, where requests vanish, or meet an error of its own."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from persistasaurus import StoreUnavailable
from persistasaurus.actors.flows.client import EngineClient
from persistasaurus.actors.remote.client import RemoteClient
from persistasaurus.actors.remote.poller import RequestPoller
from persistasaurus.actors.remote.protocol import PauseRequest
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import SqliteStore, StoreFull, StoreHalted
from persistasaurus.store.sqlite.requests import SqliteRequests
from system.doubles import kinds
from system.requesting import (
    FLOWS,
    Hears,
    leave,
    opened,
    pause,
    pending,
    refusals,
    requests_of,
    response,
    resume,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOK_S = 0.1
PATIENCE_S = 1.0
AT_ONCE = 16
SWEEP_S = 600.0


@pytest.fixture
def simulation(path: Path) -> Iterator[Simulation]:
    store = SqliteStore.open(path, now=SystemClock().now)
    with Simulation(FLOWS, store=lambda _: cast("Any", store)) as simulation:
        yield simulation
    store.close()


def failing_once(error: Exception, real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what fails at its first call, and does what it should at all others."""
    errors = [error]

    def call(*args: Any, **kwargs: Any) -> Any:
        if errors:
            raise errors.pop()
        return real(*args, **kwargs)

    return call


def noted(monkeypatch: pytest.MonkeyPatch, method: str) -> list[int]:
    """Take note of each call of a method of the requests from now on."""
    calls: list[int] = []
    real = getattr(SqliteRequests, method)
    monkeypatch.setattr(SqliteRequests, method, lambda self: calls.append(1) or real(self))
    return calls


def poller_of(simulation: Simulation) -> RequestPoller:
    actors = cast("Any", simulation.system._asking)._actors.values()
    return next(actor for actor in actors if isinstance(actor, RequestPoller))


def test_a_poller_that_is_stopped_before_its_first_look_ends_in_good_order(
    simulation: Simulation, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = simulation.system
    unused = RequestPoller.start_on(system._asking, system.client, requests_of(path))
    stopped = unused.stop(block=False)
    simulation.run_until_idle()

    assert stopped.get(timeout=0) is True
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_an_error_in_responding_delays_that_order_and_makes_nobody_look_more_often(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    error = failing_once(ZeroDivisionError("injected"), SqliteRequests.respond)
    monkeypatch.setattr(SqliteRequests, "respond", error)
    [name] = leave(path, pause("hears"))
    simulation.advance(1)

    assert caplog.text.count("The request poller could not handle Respond") == 1
    told = response(path, name)
    assert told is not None
    assert told.is_done
    assert kinds(handle).count("paused") == 1
    looks = noted(monkeypatch, "arrived")
    simulation.advance(1)
    assert len(looks) == pytest.approx(1 / LOOK_S, abs=1)


def test_a_poller_that_had_more_than_it_can_work_on_at_once_looks_no_more_often_afterwards(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.actors.remote.poller._SIGNALS_MAX", 1)
    names = [simulation.system.start(Hears.main, 20, flow_id=f"hears-{n}").id for n in range(4)]
    at_work: list[int] = []
    real = RequestPoller._hand_on

    def hand_on(self: RequestPoller, *request: Any) -> Any:
        at_work.append(self._signals)
        return real(self, *request)

    monkeypatch.setattr(RequestPoller, "_hand_on", hand_on)
    leave(path, *(word(name, n) for n in range(20) for name in names))
    assert [simulation.system.flow(name).result(5) for name in names] == [list(range(20))] * 4
    simulation.advance(1)
    assert len(at_work) == 80
    assert max(at_work) <= AT_ONCE

    looks = noted(monkeypatch, "arrived")
    simulation.advance(1)
    assert len(looks) == pytest.approx(1 / LOOK_S, abs=1)


def test_requests_are_done_at_the_look_that_finds_them_and_the_next_look_comes_soon(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation.system.start(Hears.main, 1, flow_id="hears")
    simulation.advance(1)
    looked: dict[float, list[Any]] = {}
    begun: list[float] = []
    arrived, hand_on = SqliteRequests.arrived, RequestPoller._hand_on

    def look(self: SqliteRequests) -> list[Any]:
        found = arrived(self)
        looked.setdefault(simulation.clock.elapsed(), found)
        return found

    def begin(self: RequestPoller, *order: Any) -> Any:
        begun.append(simulation.clock.elapsed())
        return hand_on(self, *order)

    monkeypatch.setattr(SqliteRequests, "arrived", look)
    monkeypatch.setattr(RequestPoller, "_hand_on", begin)
    leave(path, pause("hears"), resume("hears"))
    simulation.advance(1)

    found = next(at for at, requests in looked.items() if requests)
    assert begun == [found, found]
    gaps = [after - before for before, after in pairwise(at for at in looked if at >= found)]
    assert gaps == pytest.approx([0.005, 0.01, 0.02, 0.04, 0.08, *[LOOK_S] * (len(gaps) - 5)], abs=0.001)


def test_a_response_that_can_not_be_written_is_tried_again_after_longer_and_longer_waits(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    tries: list[float] = []

    def full(*_: Any, **__: Any) -> None:
        tries.append(simulation.clock.elapsed())
        raise StoreFull("the disk is full, injected")

    with monkeypatch.context() as patch:
        patch.setattr(SqliteRequests, "respond", full)
        leave(path, pause("hears"))
        simulation.advance(10)
    gaps = [after - before for before, after in pairwise(tries)]
    assert gaps == pytest.approx([0.01 * 2**n for n in range(9)], abs=0.01)
    assert caplog.text.count("1 responses wait to be written: the disk is full, injected") == 3
    simulation.advance(5)

    assert not pending(path)
    assert kinds(handle).count("paused") == 1


@pytest.mark.parametrize(
    ("method", "error"),
    [("_hand_on", StoreUnavailable("halted, injected")), ("read", StoreHalted("no disk, injected"))],
    ids=["not now", "unreadable"],
)
def test_a_request_that_can_not_be_done_now_is_tried_again_after_longer_and_longer_waits(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    simulation.system.start(Hears.main, 1, flow_id="hears")
    with monkeypatch.context() as patch:
        patch.setattr(EngineClient, "queued", 1_000_000)
        leave(path, pause("hears"))
        simulation.advance(LOOK_S)
    tries: list[float] = []

    def fail(*_: Any) -> None:
        tries.append(simulation.clock.elapsed())
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(RequestPoller if method == "_hand_on" else SqliteRequests, method, fail)
        simulation.advance(14)
    assert [later - at for at, later in pairwise(tries)] == pytest.approx([2, 4], abs=4 * LOOK_S)
    simulation.advance(10)

    assert not pending(path)


def test_a_request_behind_one_that_took_long_is_tried_again_as_soon_as_any_other(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation.system.start(Hears.main, 1, flow_id="hears")
    hand_on = RequestPoller._hand_on
    tries: list[float] = []

    def fail(self: RequestPoller, request_id: str, order: Any) -> Any:
        if isinstance(order, PauseRequest):
            return hand_on(self, request_id, order)
        tries.append(simulation.clock.elapsed())
        raise StoreUnavailable("halted, injected")

    monkeypatch.setattr(RequestPoller, "_hand_on", fail)
    leave(path, pause("hears"), resume("hears"))
    simulation.advance(5)

    assert [later - at for at, later in pairwise(tries)] == pytest.approx([1, 2], abs=4 * LOOK_S)


def test_what_senders_have_left_behind_is_looked_for_now_and_then_and_not_at_each_look(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = noted(monkeypatch, "sweep")
    for times in (1, 2):
        simulation.advance(1)
        assert len(sweeps) == times
        simulation.clock.pass_over(SWEEP_S)


def test_a_request_that_comes_when_too_much_is_queued_is_done_a_little_later(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    with monkeypatch.context() as patch:
        patch.setattr(EngineClient, "queued", 1_000_000)
        [name] = leave(path, word("hears", 1))
        simulation.advance(2 * LOOK_S)
    assert caplog.text.count("stays on record for now: 1,000,000 writes are queued") == 1
    assert pending(path) == [name]

    simulation.advance(PATIENCE_S)
    assert handle.status == "completed"
    assert not pending(path)


def test_what_is_wrong_with_the_requests_is_told_once_for_as_long_as_it_lasts(
    simulation: Simulation, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 2, flow_id="hears")
    leave(path, word("hears", 1))
    for times in (1, 2):
        requests_of(path).path.chmod(0o666)
        simulation.advance(1)
        assert caplog.text.count("can be written by others") == times
        requests_of(path).path.chmod(0o600)
        simulation.advance(1)
    leave(path, word("hears", 2))

    assert handle.result(1) == [1, 2]


def test_a_request_for_a_flow_that_cannot_be_looked_up_now_is_done_a_little_later(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be another flow of the same id."""
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    simulation.advance(1)
    store: Any = simulation.system.store
    error = failing_once(StoreHalted("no disk, injected"), store.header)
    with RemoteClient(path) as client:
        client.pause("hears")
    with monkeypatch.context() as patch:
        patch.setattr(store, "header", error)
        simulation.advance(LOOK_S)
    assert caplog.text.count("stays on record for now: no disk, injected") == 1
    simulation.advance(PATIENCE_S + LOOK_S)
    assert handle.status == "paused"


def test_a_request_that_is_gone_when_its_turn_comes_is_passed_over(
    simulation: Simulation, path: Path
) -> None:
    handle = simulation.system.start(Hears.main, 2, flow_id="hears")
    _, gone, _ = leave(path, *(word("hears", n) for n in range(3)))
    poller = poller_of(simulation)
    while gone not in poller._known:
        if not simulation.schedule.run_one():
            simulation.clock.advance(LOOK_S)
    assert list(poller._queues["hears"].ids).index(gone) == 1
    with opened(path) as store:
        assert store._opened(create=True) is not None
        cast("Any", store._connection).execute("DELETE FROM request WHERE id = ?", (gone,))

    assert handle.result(1) == [0, 2]
    simulation.advance(1)
    assert not pending(path)
    assert not poller._known
    assert not poller._queues


def test_requests_that_come_again_from_a_file_that_was_replaced_are_done_once(
    simulation: Simulation, path: Path
) -> None:
    handle = simulation.system.start(Hears.main, 3, flow_id="hears")
    leave(path, *(word("hears", n) for n in range(3)))
    poller = poller_of(simulation)
    while len(poller._known) < 3:
        if not simulation.schedule.run_one():
            simulation.clock.advance(LOOK_S)
    poller._store.close()

    assert handle.result(1) == [0, 1, 2]
    simulation.advance(1)
    assert not pending(path)
    assert not poller._queues


def test_an_error_in_taking_a_request_loses_none_of_those_that_came_with_it(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 3, flow_id="hears")
    error = failing_once(ZeroDivisionError("injected"), RequestPoller._take)
    monkeypatch.setattr(RequestPoller, "_take", error)
    leave(path, *(word("hears", n) for n in range(3)))

    assert handle.result(2) == [0, 1, 2]
    assert caplog.text.count("The request poller could not handle Poll") == 1


def test_what_cannot_be_swept_now_is_swept_later(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweeps: list[float] = []

    def fail(_: SqliteRequests) -> None:
        sweeps.append(simulation.clock.elapsed())
        raise StoreHalted("locked, injected")

    monkeypatch.setattr(SqliteRequests, "sweep", fail)
    looks = noted(monkeypatch, "arrived")
    simulation.advance(1)
    simulation.clock.pass_over(SWEEP_S)
    simulation.advance(1)
    assert len(sweeps) == 2
    assert len(looks) == pytest.approx(2 / LOOK_S, abs=3)
    assert caplog.records == []


def test_a_response_to_what_is_no_request_is_tried_again_and_stops_nobody(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    error = failing_once(StoreFull("the disk is full, injected"), SqliteRequests.respond)
    monkeypatch.setattr(SqliteRequests, "respond", error)
    with opened(path) as store:
        store.add("rubbish", b"mine")
    while not simulation.system._asking or not poller_of(simulation)._unwritten:
        simulation.clock.advance(0.001) if not simulation.schedule.run_one() else None
    assert pending(path) == ["rubbish"]
    assert "is refused" not in caplog.text
    leave(path, word("hears", 1))

    assert handle.result(1) == [1]
    simulation.advance(PATIENCE_S)
    assert not pending(path)
    assert [refusal.id for refusal in refusals(path)] == ["rubbish"]
    assert caplog.text.count("is refused") == 1
