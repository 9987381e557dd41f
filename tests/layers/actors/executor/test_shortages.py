"""What the machine cannot give just now: runs wait for it, and begin when it is there."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from executor.doubles import DEAD_MAN_S, Faults, Gate, MakeExecutor, Reports, Submit, step_threads
from persistasaurus.actors.steps import processes as steps_processes
from persistasaurus.flows.errors import SystemClosed

if TYPE_CHECKING:
    from persistasaurus.actors.runtime.environment import Environment
    from persistasaurus.actors.steps.executor import StepExecutor


@pytest.fixture
def executor(make_executor: MakeExecutor, short_environment: Environment) -> StepExecutor:
    return make_executor(short_environment)


@pytest.fixture
def single(make_executor: MakeExecutor, short_environment: Environment) -> StepExecutor:
    return make_executor(short_environment, max_threads=1)


async def on_the_loop() -> str:
    return "ran"


KINDS: dict[str, dict[str, Any]] = {
    "thread": {"call": lambda: "ran"},
    "loop": {"mode": "loop", "call": on_the_loop},
    "process": {"mode": "process", "target": ("executor.isolated_targets", "Echo"), "payload": b"ran"},
}
Scarce: TypeAlias = tuple[str, str, BaseException]
SCARCE: list[Scarce] = [
    ("thread", "thread", RuntimeError("can't start new thread")),
    ("thread", "thread", MemoryError()),
    ("loop", "thread", RuntimeError("can't start new thread")),
    ("loop", "loop", OSError(24, "Too many open files")),
    ("loop", "loop", ImportError("cannot read the module for want of files")),
    ("process", "thread", RuntimeError("can't start new thread")),
    ("process", "process", BlockingIOError(11, "Resource temporarily unavailable")),
    ("process", "process", OSError(12, "Cannot allocate memory")),
]


@pytest.mark.parametrize("scarce", SCARCE)
def test_a_step_waits_for_what_the_machine_cannot_give_and_runs_then(
    scarce: Scarce, submit: Submit, done: Reports, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    kind, what, error = scarce
    faults.refuse(what, error=error)
    first, second = submit(**KINDS[kind]), submit(**KINDS[kind])
    faults.wait_for_tries(what, 3)

    assert not done.outcomes
    assert type(error).__name__ in caplog.text
    faults.give(what)
    for key in (first, second):
        assert done.wait_for(key).error is None
        assert done.wait_for(key).value in ("ran", b"ran")


@pytest.mark.parametrize("scarce", SCARCE)
def test_a_step_that_still_waits_when_the_executor_closes_has_never_begun(
    scarce: Scarce, submit: Submit, done: Reports, faults: Faults, executor: StepExecutor
) -> None:
    kind, what, error = scarce
    faults.refuse(what, error=error)
    submit(**KINDS[kind])
    faults.wait_for_tries(what, 2)

    abandoned = executor.close(executor._clock.elapsed() + 0.2)

    # A try that is under way at the last instant may count as begun, which is the safe side.
    assert len(abandoned) <= (what == "process")
    assert not done.outcomes
    assert step_threads() == []
    with pytest.raises(SystemClosed):
        submit(**KINDS[kind])


def test_what_waits_for_its_process_has_not_begun_so_no_timeout_runs(
    make_executor: MakeExecutor,
    manual_environment: Environment,
    faults: Faults,
    submit: Submit,
    done: Reports,
) -> None:
    clock: Any = manual_environment.clock
    executor = make_executor(faults.over(manual_environment))
    faults.refuse("process")
    key = submit(**KINDS["process"], timeout_s=1, to=executor)
    for tries in range(2, 5):
        faults.wait_for_tries("process", tries)
        clock.advance(50)

    assert not done.outcomes
    faults.give("process")
    assert done.wait_for(key).value == b"ran"


def test_threads_that_are_refused_are_asked_for_again(
    submit: Submit, gate: Gate, faults: Faults, executor: StepExecutor
) -> None:
    faults.refuse("thread", 5, RuntimeError("can't start new thread"))
    for _ in range(20):
        submit(gate.pass_through)

    gate.wait_until_inside(20)
    assert faults.tries["thread"] >= 25


def test_steps_make_do_with_the_threads_there_are_when_no_more_can_be_started(
    submit: Submit, done: Reports, gate: Gate, faults: Faults, executor: StepExecutor
) -> None:
    blocked = submit(gate.pass_through)
    gate.wait_until_inside(1)
    faults.refuse("thread", error=RuntimeError("can't start new thread"))
    behind = submit(lambda: "ran")
    faults.wait_for_tries("thread", 2)
    assert not done.outcomes[behind]
    gate.open()

    assert done.wait_for(behind).value == "ran"
    assert done.wait_for(blocked).error is None


def test_a_lost_thread_that_cannot_be_replaced_at_once_is_replaced_later(
    single: StepExecutor, faults: Faults, submit: Submit, gate: Gate, done: Reports
) -> None:
    hung = submit(gate.pass_through, to=single, timeout_s=0.3)
    gate.wait_until_inside(1)
    behind = submit(lambda: "ran", to=single)
    faults.refuse("thread", error=RuntimeError("can't start new thread"))

    done.wait_for(hung)
    faults.wait_for_tries("thread", 3)
    assert not done.outcomes[behind]
    faults.give("thread")

    assert done.wait_for(behind).value == "ran"


def test_what_runs_steps_may_not_be_loadable_for_a_while(
    submit: Submit, done: Reports, monkeypatch: pytest.MonkeyPatch, executor: StepExecutor
) -> None:
    load, refusals = (
        executor._processes.make_runner,
        iter([OSError(24, "Too many open files"), ImportError("half")]),
    )
    tried = threading.Event()

    def loaded() -> Any:
        for refusal in refusals:
            tried.set()
            raise refusal
        return load()

    monkeypatch.setattr(executor._processes, "make_runner", loaded)
    key = submit(**KINDS["process"])

    assert tried.wait(DEAD_MAN_S)
    assert done.wait_for(key).value == b"ran"


def test_the_loop_is_there_for_all_that_have_waited_for_it(
    submit: Submit, done: Reports, faults: Faults, executor: StepExecutor
) -> None:
    async def where() -> tuple[int, int]:
        return threading.get_ident(), id(asyncio.get_running_loop())

    faults.refuse("loop")
    keys = [submit(where, mode="loop") for _ in range(10)]
    faults.wait_for_tries("loop", 2)
    assert executor.queued == 10
    faults.give("loop")

    assert len({done.wait_for(key).value for key in keys}) == 1
    assert executor.queued == 0


def test_a_process_that_the_kernel_kills_while_it_starts_is_started_again(
    submit: Submit, done: Reports, monkeypatch: pytest.MonkeyPatch, executor: StepExecutor
) -> None:
    start, kills = steps_processes.Child._start, iter([True, True])

    def start_and_kill(child: Any, given: Any) -> None:
        start(child, given)
        if next(kills, False):
            child.process.kill()

    monkeypatch.setattr(steps_processes.Child, "_start", start_and_kill)

    assert done.wait_for(submit(**KINDS["process"])).value == b"ran"
    assert next(kills, None) is None
    assert executor.queued == 0
