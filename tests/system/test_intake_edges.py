"""The intake, in virtual time, where orders vanish, cannot be put away, or meet an error of its own."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
from persistasaurus import StoreUnavailable
from persistasaurus.actors.flows.client import EngineClient
from persistasaurus.actors.remote.poller import Intake
from persistasaurus.actors.remote.protocol import PauseOrder, ResumeOrder
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.store import SqliteStore, StoreFull
from persistasaurus.store.files.private_folder import names_in
from persistasaurus.store.files.spool import Spool
from system.doubles import kinds
from system.spooling import FLOWS, Hears, answer, leave, spool_of, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOK_S = 0.05
PATIENCE_S = 1.0
SHUN_S = 60.0
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


def new(path: Path) -> Path:
    return spool_of(path).folder / "new"


def noted(monkeypatch: pytest.MonkeyPatch, method: str) -> list[int]:
    """Take note of each call of a spool's method from now on."""
    calls: list[int] = []
    real = getattr(Spool, method)
    monkeypatch.setattr(Spool, method, lambda self: calls.append(1) or real(self))
    return calls


def intake_of(simulation: Simulation) -> Intake:
    actors = cast("Any", simulation.system._control)._actors.values()
    return next(actor for actor in actors if isinstance(actor, Intake))


def test_an_intake_that_is_stopped_before_its_first_look_ends_in_good_order(
    simulation: Simulation, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    system = simulation.system
    unused = Intake.start_on(system._control, system.client, spool_of(path))
    stopped = unused.stop(block=False)
    simulation.run_until_idle()

    assert stopped.get(timeout=0) is True
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_an_error_in_answering_delays_that_order_and_makes_nobody_look_more_often(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    monkeypatch.setattr(Spool, "answer", failing_once(ZeroDivisionError("injected"), Spool.answer))
    [name] = leave(path, PauseOrder("hears", "", ""))
    simulation.advance(1)

    assert caplog.text.count("The intake could not handle Heard") == 1
    told = answer(path, name)
    assert told is not None
    assert told.is_done
    assert kinds(handle).count("paused") == 1
    looks = noted(monkeypatch, "pending")
    simulation.advance(1)
    assert len(looks) == pytest.approx(1 / LOOK_S, abs=1)


def test_an_intake_that_had_more_than_it_can_work_on_at_once_looks_no_more_often_afterwards(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.actors.remote.poller._SIGNALS_MAX", 1)
    names = [simulation.system.start(Hears.main, 2, flow_id=f"hears-{n}").id for n in range(4)]
    steps: list[int] = []  # up by each order that is handed on, down by each that is heard of
    for method, step in (("_hand_on", 1), ("_conclude", -1)):
        real = getattr(Intake, method)
        monkeypatch.setattr(
            Intake, method, lambda *args, real=real, step=step: steps.append(step) or real(*args)
        )
    leave(path, *(word(name, n) for n in range(2) for name in names))
    assert [simulation.system.flow(name).result(1) for name in names] == [[0, 1]] * 4
    simulation.advance(1)
    assert steps == [1, -1] * 8

    looks = noted(monkeypatch, "pending")
    simulation.advance(1)
    assert len(looks) == pytest.approx(1 / LOOK_S, abs=1)


def test_orders_are_done_at_the_look_that_finds_them_and_the_next_look_comes_soon(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation.system.start(Hears.main, 1, flow_id="hears")
    simulation.advance(1)
    looked: dict[float, list[str]] = {}
    begun: list[float] = []
    pending, hand_on = Spool.pending, Intake._hand_on

    def look(self: Spool) -> list[str]:
        return looked.setdefault(simulation.clock.elapsed(), pending(self))

    def begin(self: Intake, order: Any) -> Any:
        begun.append(simulation.clock.elapsed())
        return hand_on(self, order)

    monkeypatch.setattr(Spool, "pending", look)
    monkeypatch.setattr(Intake, "_hand_on", begin)
    leave(path, PauseOrder("hears", "", ""), ResumeOrder("hears", "", ""))
    simulation.advance(1)

    found = next(at for at, names in looked.items() if names)
    assert begun == [found, found]
    gaps = [after - before for before, after in pairwise(at for at in looked if at >= found)]
    assert gaps == pytest.approx([0.005, 0.01, 0.02, 0.04, *[LOOK_S] * (len(gaps) - 4)], abs=0.001)


def test_an_answer_that_can_not_be_written_is_tried_again_after_longer_and_longer_waits(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    tries: list[float] = []

    def full(*_: Any, **__: Any) -> None:
        tries.append(simulation.clock.elapsed())
        raise StoreFull("the disk is full, injected")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "answer", full)
        leave(path, PauseOrder("hears", "", ""))
        simulation.advance(10)
    assert [at - tries[0] for at in tries] == pytest.approx([0, 1, 3, 7], abs=4 * LOOK_S)
    simulation.advance(10)

    assert not spool_of(path).pending()
    assert kinds(handle).count("paused") == 1


@pytest.mark.parametrize(
    ("method", "error"),
    [("_hand_on", StoreUnavailable("halted, injected")), ("_order", OSError("no disk, injected"))],
    ids=["not now", "unreadable"],
)
def test_an_order_that_can_not_be_done_now_is_tried_again_after_longer_and_longer_waits(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    simulation.system.start(Hears.main, 1, flow_id="hears")
    with monkeypatch.context() as patch:
        patch.setattr(EngineClient, "queued", 1_000_000)
        leave(path, PauseOrder("hears", "", ""))
        simulation.advance(LOOK_S)
    tries: list[float] = []

    def fail(*_: Any) -> None:
        tries.append(simulation.clock.elapsed())
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Intake, method, fail)
        simulation.advance(14)
    assert [later - at for at, later in pairwise(tries)] == pytest.approx([2, 4], abs=4 * LOOK_S)
    simulation.advance(10)

    assert not spool_of(path).pending()


def test_an_order_behind_one_that_took_long_is_tried_again_as_soon_as_any_other(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation.system.start(Hears.main, 1, flow_id="hears")
    hand_on = Intake._hand_on
    tries: list[float] = []

    def fail(self: Intake, order: Any) -> Any:
        if isinstance(order, PauseOrder):
            return hand_on(self, order)
        tries.append(simulation.clock.elapsed())
        raise StoreUnavailable("halted, injected")

    monkeypatch.setattr(Intake, "_hand_on", fail)
    leave(path, PauseOrder("hears", "", ""), ResumeOrder("hears", "", ""))
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


def test_an_order_that_comes_when_too_much_is_queued_is_done_a_little_later(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    with monkeypatch.context() as patch:
        patch.setattr(EngineClient, "queued", 1_000_000)
        [name] = leave(path, word("hears", 1))
        simulation.advance(2 * LOOK_S)
    assert caplog.text.count("stays in the spool for now: 1,000,000 writes are queued") == 1
    assert spool_of(path).pending() == [name]

    simulation.advance(PATIENCE_S)
    assert handle.status == "completed"
    assert not spool_of(path).pending()


def test_what_is_wrong_with_the_spool_is_told_once_for_as_long_as_it_lasts(
    simulation: Simulation, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 2, flow_id="hears")
    leave(path, word("hears", 1))
    for times in (1, 2):
        spool_of(path).folder.chmod(0o777)
        simulation.advance(1)
        assert caplog.text.count("can be written by others") == times
        spool_of(path).folder.chmod(0o700)
        simulation.advance(1)
    leave(path, word("hears", 2))

    assert handle.result(1) == [1, 2]


def test_a_flow_hears_in_order_also_when_a_look_misses_an_order_that_was_left_meanwhile(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long folder is listed in parts: what is left meanwhile is in what comes, or in what has gone by."""
    handle = simulation.system.start(Hears.main, 4, flow_id="hears")
    _, missed, *_ = leave(path, *(word("hears", n) for n in range(4)))
    looks: list[Path] = []

    def part_by_part(folder: Path) -> list[str]:
        looks.append(folder)
        return [name for name in names_in(folder) if name != missed or len(looks) > 1]

    monkeypatch.setattr("persistasaurus.store.files.spool.names_in", part_by_part)

    assert handle.result(1) == [0, 1, 2, 3]


def test_an_order_that_is_gone_before_it_is_read_keeps_no_other_from_being_done(
    simulation: Simulation, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    gone, _ = leave(path, word("hears", 1), word("hears", 2))
    real = Spool.pending

    def pending(self: Spool) -> list[str]:
        names = real(self)
        (new(path) / gone).unlink(missing_ok=True)
        return names

    monkeypatch.setattr(Spool, "pending", pending)

    assert handle.result(1) == [2]
    assert answer(path, gone) is None
    assert caplog.records == []


def test_an_order_that_is_gone_when_its_turn_comes_is_passed_over(simulation: Simulation, path: Path) -> None:
    handle = simulation.system.start(Hears.main, 2, flow_id="hears")
    _, gone, _ = leave(path, *(word("hears", n) for n in range(3)))
    intake = intake_of(simulation)
    while gone not in intake._known:
        if not simulation.schedule.run_one():
            simulation.clock.advance(LOOK_S)
    assert list(intake._lanes["hears"].names).index(gone) == 1
    (new(path) / gone).unlink()

    assert handle.result(1) == [0, 2]
    simulation.advance(1)
    assert not spool_of(path).pending()
    assert not intake._known
    assert not intake._lanes


@pytest.fixture
def full_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have the disk be full at one call of a spool's method."""

    def fill(method: str) -> None:
        error = StoreFull("the disk is full, injected")
        monkeypatch.setattr(Spool, method, failing_once(error, getattr(Spool, method)))

    return fill


@pytest.mark.parametrize(
    "where", [("notes.txt", "set_aside"), (f"{1:020d}-a", "refuse"), (f"{1:020d}-a", "answer")]
)
def test_what_can_not_be_put_away_is_passed_over_for_a_while_and_stops_nobody(
    simulation: Simulation, path: Path, full_at: Any, where: tuple[str, str], caplog: Any
) -> None:
    rubbish, method = where
    handle = simulation.system.start(Hears.main, 1, flow_id="hears")
    leave(path, PauseOrder("hears", "", ""))
    simulation.advance(1)
    full_at(method)
    (new(path) / rubbish).write_bytes(b"mine")
    simulation.advance(SHUN_S - 1)

    assert spool_of(path).pending() == [rubbish]
    assert caplog.text.count("and is passed over: the disk is full, injected") == 1
    leave(path, word("hears", 1))
    handle.resume()
    assert handle.result(1) == [1]
    simulation.advance(2)
    assert not spool_of(path).pending()
    assert len(spool_of(path).refused()) == 1
