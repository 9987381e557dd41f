"""Step doubles: what a step does instead of its own work, and what it was called with."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from ...flows.authoring.signal import SignalType
from ...flows.authoring.step import Step, enter, leave
from ...flows.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ...flows import StepContext
    from ...flows.machine.pending import StepRun
    from ...flows.values.codec import PayloadLimits

__all__ = ["DoubleCall", "StepDouble", "step_of"]

R = TypeVar("R")


class DoubleCall(NamedTuple):
    """A call of a double: for which flow, as which step, in which attempt."""

    flow_id: str
    step: int
    attempt: int
    args: dict[str, Any]


class StepDouble(Generic[R]):
    """Stands in for a step of any kind; by default it returns None.

    Its result is checked against the step's annotation and stored like any result. The last of `returns`,
    `raises` and `does` holds from then on; `then_raises` and `then_returns` come first, one for each attempt.
    """

    def __init__(self, step: Step[..., R]) -> None:
        self.step = step
        self.runs: list[DoubleCall] = []
        """All attempts in order, including those that a crash has undone."""
        self._script: deque[Callable[..., Any]] = deque()
        self._usual: Callable[..., Any] = self._no_result
        self._took_s = 0.0

    @property
    def calls(self) -> list[DoubleCall]:
        """What it was called with, once for each step of a flow, even if that was attempted more often."""
        latest = {(run.flow_id, run.step): run for run in self.runs}
        return list(latest.values())

    def returns(self, value: R) -> Self:
        """Return this from now on.

        Raises:
            PayloadError: it does not fit the step's annotation.
        """
        self._usual = self._returning(value)
        return self

    def raises(self, error: BaseException | type[BaseException]) -> Self:
        """Raise this from now on."""
        self._usual = _raising(error)
        return self

    def does(self, work: Callable[..., Any]) -> Self:
        """Do this from now on: called with the step's arguments but `self`; `def` or `async def`."""
        self._usual = work
        return self

    def then_returns(self, *values: R) -> Self:
        """Return these first, one for each attempt, then do as before; raises as `returns`."""
        self._script += [self._returning(value) for value in values]
        return self

    def then_raises(self, *errors: BaseException | type[BaseException]) -> Self:
        """Raise these first, one for each attempt, then do as before."""
        self._script += [_raising(error) for error in errors]
        return self

    def takes(self, time: timedelta | float) -> Self:
        """Take this long for each attempt from now on, in virtual time; a number means seconds."""
        self._took_s = time.total_seconds() if isinstance(time, timedelta) else float(time)
        return self

    # ------------------------------------------------------------------------------------ its work
    def run(self, run: StepRun, context: StepContext, limits: PayloadLimits, *, bare: bool) -> Any:
        """Make an attempt. Its outcome is encoded like a real one; `bare`, like that of an isolated step."""
        args = msgspec.structs.asdict(run.arguments())
        self.runs.append(DoubleCall(context.flow_id, context.step, context.attempt, args))
        work = self._script.popleft() if self._script else self._usual
        token = enter(context)
        try:
            value = self.step.parameters.call_other(work, run.arguments())
        finally:
            leave(token)
        if inspect.isawaitable(value) or self._took_s:
            return self._finish(value, context, limits, bare=bare)
        return self._sealed(value, limits, bare=bare)

    async def _finish(self, value: Any, context: StepContext, limits: PayloadLimits, *, bare: bool) -> Any:
        enter(context)
        await asyncio.sleep(self._took_s)
        if inspect.isawaitable(value):
            value = await value
        return self._sealed(value, limits, bare=bare)

    def _sealed(self, value: Any, limits: PayloadLimits, *, bare: bool) -> Any:
        sealed = self.step.result.seal(value, limits)
        return sealed[0] if bare else sealed

    def _returning(self, value: R) -> Callable[..., R]:
        data, _ = self.step.result.seal(value)
        return lambda *_, **__: self.step.result.decode(data)

    def _no_result(self, *_: Any, **__: Any) -> None:
        try:
            self.step.result.seal(None)
        except PayloadError:
            raise TypeError(
                f"the double of step {self.step.name!r} was not given a result, and None is not a valid"
                " result: flows.double(...).returns(...)"
            ) from None

    def __repr__(self) -> str:
        return f"<double of {self.step!r}, run {len(self.runs)} times>"


def _raising(error: BaseException | type[BaseException]) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error.with_traceback(None) if isinstance(error, BaseException) else error

    return raising


def step_of(target: Any) -> Step[..., Any]:
    """Return the step that is meant: the step itself, or the one that a signal's payload runs as.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(target, SignalType):
        return cast("SignalType[..., Any]", target).step
    if isinstance(target, Step):
        return cast("Step[..., Any]", target)
    raise TypeError(f"{target!r} is not a step: name one as on its class, SignupFlow.send_welcome_email")
