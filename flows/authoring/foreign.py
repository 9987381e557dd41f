"""Errors for awaiting what is not durable in a flow's body: what was used, where, and what to write."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from ..errors import NotDurableError
from ..values.location import NOWHERE
from ..values.origin import package_of, use_of_library

if TYPE_CHECKING:
    from types import FrameType

_GET_AWAITABLE = dis.opmap["GET_AWAITABLE"]

_SLEEP = "Await persistasaurus.sleep() instead"
_GATHER = "Await persistasaurus.gather() instead"
_STEP = "do I/O in a step, which may be `async def`, and await that here"
_LIMIT = (
    "A step has a limit of its own, which is durable: @step(timeout=timedelta(seconds=5)); to wait for a"
    " time, await persistasaurus.sleep()"
)
_SHARED = (
    "The branches of a flow take turns only where they await, so they need no lock: keep in self what they"
    " share. To run fewer at once, await persistasaurus.gather() of a few at a time"
)
_MESSAGE = (
    "What a flow waits for from outside is a @signal, or persistasaurus.wait_for(); branches share what is in"
    " self"
)
_THREAD = "Make the function a step instead: a `def` step runs on a thread"
_ADVICE = {
    **dict.fromkeys(("sleep", "call_later", "call_at"), _SLEEP),
    **dict.fromkeys(("gather", "create_task", "ensure_future", "wait", "as_completed"), _GATHER),
    **dict.fromkeys(("TaskGroup", "create_task_group"), _GATHER),
    **dict.fromkeys(("wait_for", "timeout", "timeout_at", "Timeout"), _LIMIT),
    **dict.fromkeys(("move_on_after", "fail_after"), _LIMIT),
    **dict.fromkeys(("Lock", "Semaphore", "BoundedSemaphore", "CapacityLimiter"), _SHARED),
    **dict.fromkeys(("Condition", "Barrier"), _SHARED),
    **dict.fromkeys(("Event", "Queue", "PriorityQueue", "LifoQueue"), _MESSAGE),
    **dict.fromkeys(("to_thread", "run_sync", "run_in_executor"), _THREAD),
    "time": "Use persistasaurus.now() instead, which is the same in each replay",
    "create_future": "Await a step, a @signal or persistasaurus.sleep() instead",
    "get_debug": "Await a step, a @signal or persistasaurus.sleep() instead of a future",
    "current_task": "A flow has no task",
}


class NoLoop:
    """Replaces asyncio's running loop while a flow runs, and refuses everything."""

    def __getattr__(self, name: str) -> Any:
        raise _refusal(name, sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - it says who asks

    def __hash__(self) -> int:
        """Refuse being looked up, as asyncio.timeout() and asyncio.current_task() do."""
        raise _refusal("current_task", sys._getframe(1))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _refusal(asked: str, frame: FrameType) -> NotDurableError:
    """Return the error for a use of asyncio; `asked` is the attribute of the loop."""
    use = use_of_library(frame)
    used = f"{use.package}.{use.name}" if use.package else f"asyncio ({asked} of its loop)"
    at = "" if use.location is NOWHERE else f", used at {use.location},"
    # The attribute that a library asks for says little about its purpose.
    advice = _ADVICE.get(use.name if use.package else asked, _STEP)
    return NotDurableError(
        f"a flow is driven by its history and not by asyncio: {used}{at} would be lost with the process."
        f" {advice}"
    )


def not_durable(request: object) -> NotDurableError:
    """Return the error for awaiting something that would be lost with the process."""
    if request is None:
        return NotDurableError(
            "a flow awaited a bare yield, as in asyncio.sleep(0), which is not durable: leave it out, or"
            " await persistasaurus.sleep() instead"
        )
    return NotDurableError(
        f"a flow awaited {_shown(request)}, which is not durable. Await steps, signals, sleep(), gather()"
        " or wait_for() of persistasaurus instead; do all I/O in a step, which may be"
        " `async def`"
    )


def not_gathered(given: object, place: int) -> NotDurableError:
    """Return the error for an argument of gather() that cannot be awaited; `place` counts from 1."""
    name = getattr(type(given), "__name__", "")
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        kind = f"one {name}" if place == 1 else f"a {name}, in place {place}"
        return NotDurableError(
            f"gather() takes its awaitables one by one, and was given {kind}. Write gather(*...) to spread"
            " a list of calls"
        )
    instead = (
        "Call it: gather(self.step(...), ...)"
        if callable(given)
        else "Give it calls of steps, without `await`"
    )
    return NotDurableError(
        f"gather() was given {_shown(given)} in place {place}, which cannot be awaited. {instead}"
    )


def _shown(value: object) -> str:
    kind = cast("type[Any]", type(value))
    return f"{kind.__module__}.{kind.__qualname__}"


def advice_on(error: BaseException) -> str:
    """Return advice to append to an error that left a flow's body, if Python's own message does not help."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    if isinstance(error, RuntimeError) and package_of(frame) == "asyncio":
        return f". A flow is driven by its history and not by asyncio. {_STEP}"
    is_await = trace.tb_lasti >= 0 and frame.f_code.co_code[trace.tb_lasti] == _GET_AWAITABLE
    if not (isinstance(error, TypeError) and is_await):
        return ""
    return (
        ". A flow awaits calls of its steps and signals, of other `async def` methods, and of what"
        " persistasaurus offers: put @step over the method that is called there, or drop the `await`"
    )
