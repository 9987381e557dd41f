"""Running a step on the thread that asks for it."""

from __future__ import annotations

import os
from contextvars import Context
from typing import TYPE_CHECKING

from .forked_child import end_child
from .task import StepOutcome

if TYPE_CHECKING:
    from .runs import Run

__all__ = ["ThreadRunner"]


class ThreadRunner:
    """Calls steps. Each runs in an empty context, so that steps leave nothing behind for each other."""

    is_killable = False

    def perform(self, run: Run) -> StepOutcome:
        """Call the step; whatever it raises is its outcome."""
        process = os.getpid()
        try:
            value = Context().run(run.task.call)
        except BaseException as error:  # noqa: BLE001 - a step's SystemExit must not end the thread
            if os.getpid() != process:
                end_child(error)
            # Without a name: an error's traceback leads to this frame, and would keep itself alive.
            return StepOutcome(error=error)
        if os.getpid() != process:
            end_child(None)
        return StepOutcome(value=value)

    def kill(self, run: Run) -> None:
        """Do nothing: a thread cannot be stopped."""

    def close(self) -> None:
        """Do nothing."""
