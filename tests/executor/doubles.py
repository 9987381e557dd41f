"""A `done` that remembers, a gate that steps block in, and a look at the threads."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

from persistasaurus.actors.executor import StepExecutor, StepOutcome, StepTask

DEAD_MAN_S = 20.0

Submit: TypeAlias = Callable[..., Any]
MakeExecutor: TypeAlias = Callable[..., StepExecutor]


class Reports:
    """A `done` callback: what was reported for which key, on which thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.outcomes: dict[Any, list[StepOutcome]] = defaultdict(list)
        self.threads: list[str] = []

    def __call__(self, task: StepTask, outcome: StepOutcome) -> None:
        with self._changed:
            self.outcomes[task.key].append(outcome)
            self.threads.append(threading.current_thread().name)
            self._changed.notify_all()

    def wait_for(self, key: Any) -> StepOutcome:
        with self._changed:
            assert self._changed.wait_for(lambda: self.outcomes.get(key), DEAD_MAN_S), f"no outcome of {key}"
            return self.outcomes[key][0]

    def wait_for_all(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.threads) >= number, DEAD_MAN_S), (
                self.outcomes.keys()
            )


class Gate:
    """Steps block in it until it opens; it knows how many have come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._is_open = False

    def pass_through(self, value: Any = None) -> Any:
        with self._changed:
            self._inside += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open, DEAD_MAN_S)
            self._inside -= 1
            self._changed.notify_all()
        return value

    def wait_until_inside(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._inside == number, DEAD_MAN_S), self._inside

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()


def step_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("persistasaurus-step")]
