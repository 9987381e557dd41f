"""What is handed to the step executor, and what comes back.

StepTimeout       the step ran longer than it may; what it still does is discarded
StepCrashed       the thread or process of the step died; only this run of it is lost
StepLost          nothing will come of the run, which is none of its fault; how far it had come is unknown
RemoteStepError   the step raised in another process; the exception itself stayed there
NotBegun          there is nothing to run the step with just now; it waits, and has not begun
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

from ...flows.errors import PersistasaurusError
from ..runtime.stacks import is_of_the_engine

if TYPE_CHECKING:
    from ..runtime.stacks import Held

__all__ = [
    "BlockingStep",
    "NotBegun",
    "RemoteStepError",
    "RunningStep",
    "StepCrashed",
    "StepDone",
    "StepLost",
    "StepMode",
    "StepOutcome",
    "StepTask",
    "StepTimeout",
    "message_text",
    "traceback_text",
]

TRACEBACK_BYTES_MAX = 8 * 1024
# Where frames begin to repeat themselves, and taking note of each costs more than it tells.
_FRAMES_MAX = 64
_CUT = b"\n  ...\n"


def _nothing_to_call() -> None:
    raise TypeError("the task of this step says nothing to call")


StepMode: TypeAlias = Literal["thread", "loop", "process"]


class StepTimeout(PersistasaurusError, TimeoutError):
    """The step ran longer than it may. Its late result, if there ever is one, is discarded."""

    code = "step-timeout"


class StepCrashed(PersistasaurusError):
    """Whatever ran the step died under it; how far the step had come is unknown."""

    code = "step-crashed"


class StepLost(PersistasaurusError):
    """What the step ran on is held by another one, and was given up; how far the step had come is unknown."""


class NotBegun(Exception):
    """What the step would have run with cannot be had now; to be tried again in `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


class RemoteStepError(PersistasaurusError):
    """The step raised in a worker process. Only text comes back from there, never the exception."""

    def __init__(  # noqa: PLR0913 - what is known of an exception that is not here
        self,
        type_name: str,
        message: str,
        traceback: str,
        *,
        is_final: bool = False,
        line: str = "",
        ancestry: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        self.is_final = is_final
        """Whether the step says, there, that it is not to be tried again."""
        self.line = line
        self.ancestry = ancestry


class StepTask(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One run of one step.

    `thread`: `call` is called on a thread of the pool. `loop`: `call` is called on the loop's thread
    and returns what is awaited there. `process`: `target`, a module and a qualified name in it, has a
    method `call_encoded`, which is called with `payload` in a worker process and returns bytes, and a
    method `is_final`, which says of what it raises whether it is to be tried again.

    `timeout_s` counts from when the step starts, not from `submit`. `key` tells the runs apart; runs of one
    `group` (None: of one `name`) are runs of one step.
    """

    key: Hashable
    mode: StepMode
    name: str
    call: Callable[[], Any] = _nothing_to_call
    target: tuple[str, str] | None = None
    payload: bytes = b""
    timeout_s: float | None = None
    group: Hashable = None


class StepOutcome(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How a run ended: with `value`, unless there is an `error`."""

    value: Any = None
    error: BaseException | None = None

    @property
    def traceback(self) -> str:
        """Where the error came from, without the engine's own frames; formatted anew at each call."""
        if self.error is None:
            return ""
        if isinstance(self.error, RemoteStepError):
            return self.error.traceback
        return traceback_text(self.error)


class RunningStep(msgspec.Struct, frozen=True):
    """A step that runs now; `since` is an instant of `Clock.elapsed`."""

    key: Hashable
    name: str
    since: float


class BlockingStep(NamedTuple):
    """A step that blocks the loop of all async steps; `since` is in microseconds since the epoch, UTC.

    Which of them it is, or where, cannot be told of each: then `key`, or `place`, is None.
    """

    key: Hashable | None
    name: str
    place: Held | None
    since: int


StepDone: TypeAlias = Callable[[StepTask, StepOutcome], None]


def message_text(error: BaseException) -> str:
    """Return an error's message; it is the user's code that makes it."""
    try:
        return str(error)
    except BaseException as failure:  # noqa: BLE001 - whatever it raises, the step has failed all the same
        return f"(its message cannot be shown: {type(failure).__qualname__})"


def traceback_text(error: BaseException, limit: int = TRACEBACK_BYTES_MAX) -> str:
    """Format an exception without the engine's frames. Encodable, and at most `limit` bytes as UTF-8."""
    try:
        noted = traceback.TracebackException.from_exception(error, limit=-_FRAMES_MAX, compact=True)
        _leave_out_engine(noted)
        text = "".join(noted.format())
    except BaseException as failure:  # noqa: BLE001 - the exception is the user's, and so is its __str__
        text = f"{type(error).__qualname__} (its traceback cannot be shown: {type(failure).__qualname__})\n"
    return _cut(text, limit)


def _leave_out_engine(noted: traceback.TracebackException) -> None:
    links: list[traceback.TracebackException | None] = [noted]
    while links:
        link = links.pop()
        if link is not None:
            link.stack[:] = [frame for frame in link.stack if not is_of_the_engine(frame.filename)]
            links += [link.__cause__, link.__context__, *(link.exceptions or ())]


def _cut(text: str, limit: int) -> str:
    """Keep the beginning and, above all, the end: there stands what was raised."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > limit:
        head = limit // 4
        tail = limit - head - len(_CUT)
        data = data[:head] + _CUT + data[-tail:]
    return data.decode("utf-8", "ignore")
