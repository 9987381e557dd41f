"""Executors that are closed after each test."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from executor.doubles import DEAD_MAN_S, Faults, Gate, Reports, step_threads
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.seam import ManualClock, Seam
from persistasaurus.actors.steps.executor import StepExecutor, StepTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def seam() -> Iterator[Seam]:
    seam = Seam.system()
    yield seam
    seam.alarms.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def manual_seam(clock: ManualClock, seam: Seam) -> Seam:
    return Seam(clock=clock, alarms=ManualAlarms(clock), dispatcher=seam.dispatcher)


@pytest.fixture
def faults(seam: Seam) -> Faults:
    """What the machine cannot give: see `short_seam`."""
    return Faults()


@pytest.fixture
def short_seam(seam: Seam, faults: Faults) -> Seam:
    """A seam over which threads, processes and loops are had, as far as `faults` allow."""
    return faults.over(seam)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def done() -> Reports:
    return Reports()


@pytest.fixture
def make_executor(seam: Seam, gate: Gate) -> Iterator[Callable[..., StepExecutor]]:
    made: list[tuple[Seam, StepExecutor]] = []

    def make(its_seam: Seam = seam, **options: Any) -> StepExecutor:
        executor = StepExecutor(its_seam, **options)
        made.append((its_seam, executor))
        return executor

    yield make
    gate.open()
    for its_seam, executor in made:
        executor.close(its_seam.clock.elapsed() + 5)
    # Threads that a test has lost to its gate end now, and are not found by the next test.
    for thread in step_threads():
        thread.join(DEAD_MAN_S)
        assert not thread.is_alive()


@pytest.fixture
def executor(make_executor: Callable[..., StepExecutor]) -> StepExecutor:
    return make_executor()


@pytest.fixture
def submit(executor: StepExecutor, done: Reports) -> Callable[..., Any]:
    """Submit a call on a thread, unless told otherwise, under a key of its own, which is returned."""
    keys = count()

    def submit(call: Callable[[], Any] | None = None, **options: Any) -> Any:
        key = options.pop("key", None) or f"run-{next(keys)}"
        to = options.pop("to", executor)
        options = {"mode": "thread", "name": "a step", **options}
        if call is not None:
            options["call"] = call
        to.submit(StepTask(key=key, **options), done)
        return key

    return submit
