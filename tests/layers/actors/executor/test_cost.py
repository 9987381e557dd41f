"""What a step costs beyond its call. Run with `-s` to see the figures."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from executor.doubles import DEAD_MAN_S
from persistasaurus.actors.runtime.dispatcher import Dispatcher
from persistasaurus.actors.steps.executor import StepExecutor, StepTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from executor.doubles import MakeExecutor

STEPS = 20_000


def test_a_short_step_costs_less_than_with_a_thread_pool_of_the_library(make_executor: MakeExecutor) -> None:
    dispatcher = Dispatcher("carrier", workers=1, has_watchman=True)
    dispatcher.start_workers()
    executor = make_executor(ready=dispatcher.ready)
    with ThreadPoolExecutor(64) as pool:
        ours, theirs = [], []
        for _ in range(3):
            ours.append(measured(lambda count: submit_all(executor, count)))
            theirs.append(measured(lambda count: submit_all_to(pool, count)))

    sys.stdout.write(f"\nours: {told(ours)}\nThreadPoolExecutor(64): {told(theirs)}\n")
    assert min(ours)[0] < min(theirs)[0]


def submit_all(executor: StepExecutor, count: Callable[..., None]) -> None:
    for number in range(STEPS):
        executor.submit(StepTask(key=number, mode="thread", name="step", call=int, group="a step"), count)


def submit_all_to(pool: ThreadPoolExecutor, count: Callable[..., None]) -> None:
    for _ in range(STEPS):
        pool.submit(int).add_done_callback(count)


def measured(submit: Callable[[Callable[..., None]], None]) -> tuple[float, float]:
    """Tell CPU and elapsed microseconds a step."""
    left, finished, lock = iter(range(STEPS - 1)), threading.Event(), threading.Lock()

    def count(*_: Any) -> None:
        with lock:
            if next(left, None) is None:
                finished.set()

    cpu, begun = time.process_time(), time.perf_counter()
    submit(count)
    assert finished.wait(DEAD_MAN_S)
    return (time.process_time() - cpu) / STEPS * 1e6, (time.perf_counter() - begun) / STEPS * 1e6


def told(figures: list[tuple[float, float]]) -> str:
    return ", ".join(f"{cpu:.1f} µs CPU a step, {1e6 / elapsed:,.0f} steps/s" for cpu, elapsed in figures)
