"""A `done` that remembers, a gate that steps block in, and a look at the threads."""

from __future__ import annotations

import errno
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from persistasaurus.actors.steps.executor import StepExecutor, StepOutcome, StepTask

if TYPE_CHECKING:
    from persistasaurus.actors.runtime.environment import Environment

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


class Faults:
    """What the machine refuses to give: `refuse("thread", 3)` refuses the next three, None all of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._errors: dict[str, BaseException] = {}
        self._left: dict[str, int | None] = {}
        self.tries: dict[str, int] = defaultdict(int)
        self.starters: list[str] = []

    def refuse(self, what: str, times: int | None = None, error: BaseException | None = None) -> None:
        with self._changed:
            self._left[what] = times
            self._errors[what] = error or OSError(errno.EMFILE, "Too many open files")

    def give(self, what: str) -> None:
        self.refuse(what, 0)

    def wait_for_tries(self, what: str, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.tries[what] >= number, DEAD_MAN_S), self.tries

    def over(self, environment: Environment) -> Environment:
        def start_thread(target: Callable[[], None], name: str, *, daemon: bool) -> threading.Thread:
            self.starters.append(threading.current_thread().name)
            self._ask_for("thread")
            return environment.start_thread(target, name, daemon=daemon)

        def start_process(process: Any) -> None:
            self._ask_for("process")
            environment.start_process(process)

        def new_event_loop() -> Any:
            self._ask_for("loop")
            return environment.new_event_loop()

        return replace(
            environment, start_thread=start_thread, start_process=start_process, new_event_loop=new_event_loop
        )

    def _ask_for(self, what: str) -> None:
        with self._changed:
            self.tries[what] += 1
            self._changed.notify_all()
            left = self._left.get(what, 0)
            if left == 0:
                return
            if left is not None:
                self._left[what] = left - 1
            raise self._errors[what]


def step_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("persistasaurus-step")]
