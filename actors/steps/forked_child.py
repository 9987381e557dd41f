"""The end of a process that a step has forked.

Such a child has a copy of the engine, which is its parent's. A step that returns or raises in the child must
not come back to that copy: it would answer for the parent's step, or run its other steps again.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

__all__ = ["StepProcess", "end_child"]


class StepProcess:
    """The process that a step begins in. Whoever leaves the block in a child of it ends there."""

    __slots__ = ("_id",)

    def __enter__(self) -> None:
        self._id = os.getpid()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if os.getpid() != self._id:
            end_child(error)


def end_child(error: BaseException | None) -> NoReturn:
    """End this process as a program of its own would have ended, with what the step has raised in it.

    `StopIteration` is how a coroutine returns.
    """
    code = _code_of(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(code)


def _code_of(error: BaseException | None) -> int:
    if (
        error is None
        or isinstance(error, StopIteration)
        or (isinstance(error, SystemExit) and error.code is None)
    ):
        return 0
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code & 0xFF
    # The error is the user's, and so is its __str__; there may be no stderr to write to.
    with suppress(BaseException):
        traceback.print_exception(error)
    return 1
