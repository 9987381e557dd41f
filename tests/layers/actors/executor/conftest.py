"""Executors that are closed after each test."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from executor.doubles import DEAD_MAN_S, Faults, Gate, Reports, step_threads
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.actors.steps.executor import StepExecutor, StepTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def environment() -> Iterator[Environment]:
    environment = Environment.system()
    yield environment
    environment.alarms.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def manual_environment(clock: ManualClock, environment: Environment) -> Environment:
    return Environment(clock=clock, alarms=ManualAlarms(clock), dispatcher=environment.dispatcher)


@pytest.fixture
def faults(environment: Environment) -> Faults:
    """What the machine cannot give: see `short_environment`."""
    return Faults()


@pytest.fixture
def short_environment(environment: Environment, faults: Faults) -> Environment:
    """A environment over which threads, processes and loops are had, as far as `faults` allow."""
    return faults.over(environment)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def done() -> Reports:
    return Reports()


@pytest.fixture
def make_executor(environment: Environment, gate: Gate) -> Iterator[Callable[..., StepExecutor]]:
    made: list[tuple[Environment, StepExecutor]] = []

    def make(its_environment: Environment = environment, **options: Any) -> StepExecutor:
        executor = StepExecutor(its_environment, **options)
        made.append((its_environment, executor))
        return executor

    yield make
    gate.open()
    for its_environment, executor in made:
        executor.close(its_environment.clock.elapsed() + 5)
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
