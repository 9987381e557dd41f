"""Short steps run where actors run, and keep every promise that a thread of the pool keeps."""

from __future__ import annotations

import contextvars
import gc
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from executor.doubles import DEAD_MAN_S, Gate, MakeExecutor, Reports, Submit
from persistasaurus.actors.runtime.actor import PooledActor
from persistasaurus.actors.runtime.dispatcher import Dispatcher
from persistasaurus.actors.runtime.futures import PooledFuture
from persistasaurus.actors.steps import short_steps
from persistasaurus.actors.steps.executor import StepCrashed, StepExecutor, StepTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from persistasaurus.actors.runtime.environment import Environment

LONG_S = 0.005


class Obedient(PooledActor):
    def on_receive(self, message: Any) -> Any:
        return message()


@pytest.fixture(name="dispatcher")
def _dispatcher() -> Iterator[Dispatcher]:
    dispatcher = Dispatcher("carrier", workers=1, has_watchman=True)
    yield dispatcher
    assert dispatcher.close(timeout=DEAD_MAN_S)


@pytest.fixture(name="make_carried")
def _make_carried(dispatcher: Dispatcher, make_executor: MakeExecutor) -> Callable[..., StepExecutor]:
    dispatcher.start_workers()
    return lambda **options: make_executor(ready=dispatcher.ready, **options)


@pytest.fixture(name="executor")
def _executor(make_carried: Callable[..., StepExecutor]) -> StepExecutor:
    return make_carried()


@pytest.fixture(name="run")
def _run(submit: Submit) -> Submit:
    """Submit a step that may be short: one of a group."""
    return lambda call, **options: submit(call, **{"group": "a step", **options})


def thread_name() -> str:
    return threading.current_thread().name


def runs_short(name: str) -> bool:
    return name.startswith("carrier")


def long(executor: StepExecutor, done: Reports, run: Submit, times: int = 3) -> None:
    for _ in range(times):
        done.wait_for(run(lambda: threading.Event().wait(LONG_S), to=executor))


def test_a_step_runs_where_actors_run(run: Submit, done: Reports) -> None:
    key = run(thread_name)

    assert runs_short(done.wait_for(key).value)
    assert runs_short(done.threads[0])


@pytest.mark.parametrize("options", [{"timeout_s": DEAD_MAN_S}, {"group": None}], ids=["timeout", "alone"])
def test_one_with_a_timeout_or_on_its_own_has_a_thread_of_the_pool(
    run: Submit, done: Reports, options: dict[str, Any]
) -> None:
    assert not runs_short(done.wait_for(run(thread_name, **options)).value)


def test_a_step_that_turns_out_long_moves_to_the_pool_and_comes_back_when_it_is_short_again(
    executor: StepExecutor, run: Submit, done: Reports
) -> None:
    long(executor, done, run)
    assert not runs_short(done.wait_for(run(thread_name)).value)
    assert runs_short(done.wait_for(run(thread_name, group="another")).value)

    for _ in range(100):
        if runs_short(done.wait_for(run(thread_name)).value):
            return
    raise AssertionError("it stays in the pool, short as it is")


def test_a_step_that_is_long_now_and_then_stays(executor: StepExecutor, run: Submit, done: Reports) -> None:
    for _ in range(3):
        long(executor, done, run, times=1)
        for _ in range(short_steps._LIMIT):
            assert runs_short(done.wait_for(run(thread_name)).value)


def test_short_runs_are_measured_by_their_time_and_a_long_one_weighs_more() -> None:
    habit = short_steps.Habit()
    for _ in range(2):
        habit.note(LONG_S)
    assert habit.is_short
    habit.note(LONG_S)
    assert not habit.is_short
    for _ in range(short_steps._LIMIT - 1):
        habit.note(0.0)
    assert not habit.is_short
    habit.note(0.0)
    assert habit.is_short


def test_one_that_blocks_holds_up_neither_actors_nor_other_steps(
    run: Submit, done: Reports, gate: Gate, dispatcher: Dispatcher
) -> None:
    actor = Obedient.start_on(dispatcher)
    blocked = run(gate.pass_through, group="blocks")
    begun = monotonic()

    assert actor.ask(lambda: "ran", timeout=DEAD_MAN_S) == "ran"
    assert done.wait_for(run(lambda: "ran", group="another")).value == "ran"

    assert monotonic() - begun < 1.0, "it takes milliseconds, not as long as the step"
    assert not done.outcomes[blocked]
    gate.open()
    done.wait_for(blocked)
    actor.stop()


def test_of_many_that_block_most_go_to_the_pool_before_they_have_ended(
    run: Submit, done: Reports, gate: Gate, dispatcher: Dispatcher, executor: StepExecutor
) -> None:
    actor = Obedient.start_on(dispatcher)
    for number in range(40):
        run(gate.pass_through, group=number // 20)
    gate.wait_until_inside(40)

    assert dispatcher.live_threads <= short_steps._HELD + 3
    assert len(executor.running()) == 40
    assert actor.ask(lambda: "ran", timeout=DEAD_MAN_S) == "ran"
    assert executor.queued == 0
    actor.stop()


def test_no_more_run_at_once_than_allowed_wherever_they_run(
    make_carried: Callable[..., StepExecutor], run: Submit, done: Reports, gate: Gate
) -> None:
    executor = make_carried(max_threads=3)
    keys = [run(gate.pass_through, group=number, to=executor) for number in range(9)]
    gate.wait_until_inside(3)

    assert len(executor.running()) == 3
    assert executor.queued == 6
    gate.open()
    for key in keys:
        done.wait_for(key)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_a_step_raises_is_its_error_and_the_carrier_goes_on(
    run: Submit, done: Reports, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error("on purpose")

    assert type(done.wait_for(run(fail)).error) is error
    assert runs_short(done.wait_for(run(thread_name)).value)


def test_a_step_leaves_nothing_in_the_context_of_the_next(run: Submit, done: Reports) -> None:
    variable = contextvars.ContextVar("variable", default="untouched")
    done.wait_for(run(lambda: variable.set("touched")))

    assert done.wait_for(run(variable.get)).value == "untouched"


def test_steps_that_wait_for_a_future_count_neither_as_running_carriers_nor_as_running_steps(
    make_carried: Callable[..., StepExecutor], run: Submit, done: Reports
) -> None:
    executor = make_carried(max_threads=1)
    futures = [PooledFuture[Any]() for _ in range(12)]
    keys = [run(lambda f=f: f.get(timeout=DEAD_MAN_S), group=n, to=executor) for n, f in enumerate(futures)]

    assert done.wait_for(run(lambda: "ran", group="another", to=executor)).value == "ran"
    deadline = monotonic() + DEAD_MAN_S
    while executor.blocked < len(futures):
        assert monotonic() < deadline, executor.blocked
    for number, future in enumerate(futures):
        future.set(number)
    assert [done.wait_for(key).value for key in keys] == list(range(12))
    assert executor.blocked == 0


def test_a_step_may_wait_within_a_wait(run: Submit, done: Reports, dispatcher: Dispatcher) -> None:
    from persistasaurus.actors.runtime.futures import waiting  # noqa: PLC0415 - what a step's thread waits by

    def nested() -> str:
        with waiting.by.blocking(), waiting.by.blocking():
            return Obedient.start_on(dispatcher).ask(lambda: "ran", timeout=DEAD_MAN_S)

    assert done.wait_for(run(nested)).value == "ran"


def test_closing_gives_up_one_that_is_stuck_and_the_dispatcher_does_not_wait_for_its_thread(
    run: Submit, gate: Gate, executor: StepExecutor, environment: Environment, dispatcher: Dispatcher
) -> None:
    key = run(gate.pass_through)
    gate.wait_until_inside(1)

    assert executor.close(environment.clock.elapsed()) == (key,)

    assert executor.leaked == executor.lost_threads == 1
    assert dispatcher.close(timeout=DEAD_MAN_S)
    gate.open()
    deadline = monotonic() + DEAD_MAN_S
    while executor.leaked:
        assert monotonic() < deadline, "it has ended, and counts as lost"


def test_what_is_queued_when_the_executor_closes_has_never_begun(
    run: Submit, executor: StepExecutor, environment: Environment, dispatcher: Dispatcher, done: Reports
) -> None:
    actor, holds, ran = Obedient.start_on(dispatcher), threading.Event(), threading.Event()
    entered = threading.Event()
    held = actor.ask(lambda: (entered.set(), holds.wait(DEAD_MAN_S), run(ran.set)), block=False)
    assert entered.wait(DEAD_MAN_S)
    begin = short_steps.ShortSteps.begin
    short_steps.ShortSteps.begin = lambda *args: (executor.close(environment.clock.elapsed()), begin(*args))[
        1
    ]
    try:
        holds.set()
        _, _, key = held.get(timeout=DEAD_MAN_S)
        actor.ask(int, timeout=DEAD_MAN_S)
    finally:
        short_steps.ShortSteps.begin = begin

    assert not ran.is_set()
    assert not done.outcomes[key]
    assert executor.queued == 0
    actor.stop()


def test_one_that_begins_as_the_executor_closes_is_not_run(
    run: Submit,
    executor: StepExecutor,
    done: Reports,
    monkeypatch: pytest.MonkeyPatch,
    dispatcher: Dispatcher,
) -> None:
    begin, ran = executor._runs.begin, threading.Event()
    monkeypatch.setattr(executor._runs, "begin", lambda *args: (executor._threads.shut(), begin(*args))[1])

    key = run(ran.set)
    Obedient.start_on(dispatcher).ask(int, timeout=DEAD_MAN_S)

    assert not ran.is_set()
    assert not done.outcomes[key]
    assert executor.running() == ()


def test_a_thread_that_is_ended_from_outside_leaves_its_step_reported(
    run: Submit, executor: StepExecutor, done: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thrown(*_: Any) -> Any:
        raise SystemError("thrown into the thread")

    with monkeypatch.context() as patch:
        patch.setattr(executor._short, "perform", thrown)
        assert isinstance(done.wait_for(run(int)).error, StepCrashed)

    assert runs_short(done.wait_for(run(thread_name)).value)


def test_a_step_leaves_nothing_behind_for_the_garbage_collector(
    run: Submit, executor: StepExecutor, done: Reports, dispatcher: Dispatcher
) -> None:
    class Held:
        def __call__(self) -> None:
            raise ValueError("with a traceback that leads to this object")

    gc.disable()
    try:
        held = Held()
        seen = weakref.ref(held)
        done.wait_for(run(held))
        done.outcomes.clear()
        del held
        done.wait_for(run(int))  # by then the carrier has let go of the first one
        assert seen() is None
    finally:
        gc.enable()


def test_each_of_many_submitted_from_many_threads_and_from_done_is_run_once(
    executor: StepExecutor, done: Reports
) -> None:
    def again(task: StepTask, outcome: Any) -> None:
        done(task, outcome)
        if task.key[2] < 3:
            executor.submit(task_of(*task.key[:2], task.key[2] + 1), again)

    def task_of(*key: int) -> StepTask:
        return StepTask(key=key, mode="thread", name="x", group=key[1] % 7, call=int)

    def submit_many(who: int) -> None:
        for n in range(200):
            executor.submit(task_of(who, n, 0), again)

    callers = [threading.Thread(target=submit_many, args=(who,)) for who in range(4)]
    for caller in callers:
        caller.start()
    done.wait_for_all(4 * 200 * 4)
    for caller in callers:
        caller.join(DEAD_MAN_S)

    assert all(len(outcomes) == 1 for outcomes in done.outcomes.values())
