"""Steps that hang past their timeout: a thread cannot be stopped, so there is an end to how many are lost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from executor.doubles import DEAD_MAN_S, Gate, MakeExecutor, Reports, Submit, step_threads
from persistasaurus.actors.steps import thread_pool
from persistasaurus.actors.steps.executor import StepTimeout

if TYPE_CHECKING:
    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.runtime.primitives import ManualClock
    from persistasaurus.actors.steps.executor import StepExecutor

LIMIT = thread_pool.LOST_PER_STEP


@pytest.fixture
def executor(make_executor: MakeExecutor, manual_environment: Environment) -> StepExecutor:
    return make_executor(manual_environment, max_threads=4)


class Hanging:
    """Loses thread after thread to a step that hangs."""

    def __init__(
        self, executor: StepExecutor, submit: Submit, done: Reports, gate: Gate, clock: ManualClock
    ) -> None:
        self.executor, self.submit, self.done, self.gate, self.clock = executor, submit, done, gate, clock
        self.inside = 0

    def lose(self, number: int, name: str = "hangs") -> None:
        for _ in range(number):
            key = self.submit(self.gate.pass_through, name=name, timeout_s=5)
            self.inside += 1
            self.clock.advance(0.01)
            self.gate.wait_until_inside(self.inside)
            self.clock.advance(6)
            assert isinstance(self.done.wait_for(key).error, StepTimeout)


@pytest.fixture
def hanging(executor: StepExecutor, submit: Submit, done: Reports, gate: Gate, clock: ManualClock) -> Hanging:
    return Hanging(executor, submit, done, gate, clock)


def test_further_runs_of_a_step_that_hangs_are_held_back_and_other_steps_run(
    hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    hanging.lose(LIMIT)
    held = [hanging.submit(lambda: "ran", name="hangs", timeout_s=5) for _ in range(3)]

    assert hanging.done.wait_for(hanging.submit(lambda: "ran", name="another")).value == "ran"
    hanging.clock.advance(1000)
    assert not any(hanging.done.outcomes[key] for key in held)
    assert hanging.executor.queued == 3
    assert hanging.executor.leaked == LIMIT
    assert "Step 'hangs' is held back: 16 of its runs hang" in caplog.text

    hanging.gate.open()
    assert [hanging.done.wait_for(key).value for key in held] == ["ran"] * 3
    for thread in step_threads():
        if hanging.executor.leaked:
            thread.join(DEAD_MAN_S)
    assert hanging.executor.queued == 0


def test_each_lost_thread_is_reported_with_the_name_of_its_step(
    hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "persistasaurus"):
        hanging.lose(2, "charge")

    reports = [record.getMessage() for record in caplog.records if "cannot be stopped" in record.getMessage()]
    assert ["Step 'charge' (run-0)" in reports[0], "2 threads are lost to it" in reports[1]] == [True, True]


def test_steps_of_the_same_name_and_different_groups_do_not_hold_each_other_back(
    hanging: Hanging, executor: StepExecutor
) -> None:
    hanging.lose(LIMIT)

    key = hanging.submit(lambda: "ran", name="hangs", group=object())

    assert hanging.done.wait_for(key).value == "ran"


def test_when_many_steps_hang_lost_threads_count_as_workers_and_one_at_least_is_left(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pool, "_LOST_MIN", 4)
    for number in range(10):
        hanging.lose(1, f"hangs-{number}")
    inside = hanging.inside
    first: Any = Gate()
    for number in range(4):
        hanging.submit(first.pass_through, name=f"works-{number}")
        hanging.clock.advance(1)

    first.wait_until_inside(1)
    assert len(hanging.executor.running()) == 1
    first.open()
    assert hanging.done.wait_for(hanging.submit(lambda: "ran")).value == "ran"
    assert hanging.executor.leaked == inside


def test_held_back_runs_are_given_up_with_the_executor_and_have_never_begun(hanging: Hanging) -> None:
    hanging.lose(LIMIT)
    held = hanging.submit(lambda: "ran", name="hangs")
    hanging.done.wait_for(hanging.submit(int))

    assert hanging.executor.close(hanging.clock.elapsed()) == ()
    hanging.gate.open()
    assert not hanging.done.outcomes[held]
