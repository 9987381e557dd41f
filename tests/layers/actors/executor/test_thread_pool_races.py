"""Races with windows too small to hit by chance: what comes in between is put there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from executor.doubles import DEAD_MAN_S, step_threads
from persistasaurus.actors.steps import runs as steps_runs
from persistasaurus.actors.steps import thread_pool

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from executor.doubles import MakeExecutor, Reports, Submit


def before(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, happens: Callable[[], Any]
) -> threading.Event:
    """Have something happen before the first call of a method; the event tells that it has."""
    method, happened = getattr(owner, name), threading.Event()

    def with_something_before(*args: Any, **kwargs: Any) -> Any:
        if not happened.is_set():
            happened.set()
            happens()
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, with_something_before)
    return happened


def test_a_thread_that_is_called_in_as_it_gives_up_waiting_takes_the_step_and_ends_later(
    make_executor: MakeExecutor, submit: Submit, done: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make_executor(max_threads=1, idle_s=0.01)
    before(
        monkeypatch, thread_pool.ThreadPool, "_retire", lambda: submit(lambda: "ran", key="late", to=executor)
    )

    submit(int, to=executor)
    assert done.wait_for("late").value == "ran"

    for thread in step_threads():
        thread.join(DEAD_MAN_S)
    assert executor._threads._idle == []
    assert executor._threads._workers == set()


def test_a_step_taken_as_the_executor_closes_is_not_started(
    make_executor: MakeExecutor, submit: Submit, done: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make_executor()
    closed = before(monkeypatch, steps_runs.Runs, "begin", executor._threads.shut)
    ran = threading.Event()

    key = submit(ran.set, to=executor)
    assert closed.wait(DEAD_MAN_S)
    for thread in step_threads():
        thread.join(DEAD_MAN_S)

    assert not ran.is_set()
    assert not done.outcomes[key]
    assert executor.running() == ()
