"""The attempts in flight, between flow actors and the step executor: what runs in this process.

A flow's actor may end, by an error, while its step goes on. The step is not in doubt then: the next
incarnation is told that it runs, and gets the outcome, even one that came while no actor was there.
So the registry keeps each outcome until the flow's actor says that it is recorded.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec.structs import replace

from ...flows.authoring.step import Done, StepContext
from ...flows.authoring.step import enter as enter_step
from ...flows.authoring.step import leave as leave_step
from ...flows.errors import PayloadError, PersistasaurusError, SystemClosed
from ...flows.events import Failure
from ...flows.machine.failure import line_of
from ...flows.machine.messages import AttemptLost, Reconciled, ReconcileFailed, StepErrored, StepSucceeded
from ...flows.values.ancestry import ancestry_of
from ...flows.values.text import storable
from ..runtime.primitives import Lock
from .task import RemoteStepError, StepCrashed, StepLost, StepTask, message_text

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from ...flows import PayloadLimits  # noqa: TC004 - nothing reads the annotations of calls at run time
    from ...flows.machine.pending import StepRun  # noqa: TC004 - as above
    from ...flows.values.loan import Loan  # noqa: TC004 - as above
    from .executor import StepExecutor
    from .task import StepDone, StepOutcome

__all__ = ["Attempt", "AttemptRegistry", "StepReport"]

Attempt: TypeAlias = tuple[int, int]
"""The number of a step, and of an attempt at it; negative: its `reconcile` function, for that attempt."""


_caller: ContextVar[tuple[AttemptRegistry, str] | None] = ContextVar(
    "persistasaurus_step_caller", default=None
)
"""For which flow, of which system, a step runs right here."""


class StepReport(msgspec.Struct, frozen=True):
    """How an attempt at a step went, on its way to the flow's actor."""

    flow_id: str
    attempt: Attempt
    message: StepSucceeded | StepErrored | AttemptLost | Reconciled | ReconcileFailed


class _Key(msgspec.Struct, frozen=True):
    flow_id: str
    made: Attempt

    def __str__(self) -> str:
        """Say it in words; a negative attempt is the look at how that one ended."""
        step, attempt = self.made
        what = "attempt" if attempt >= 0 else "reconciling attempt"
        return f"step {step} of flow {self.flow_id!r}, {what} {abs(attempt)}"


class AttemptRegistry:
    """Hands steps to the executor, and their outcomes to whichever actor the flow has then.

    `wake` has a flow's actor look for outcomes. Every method may be called from any thread.
    """

    def __init__(self, executor: StepExecutor, limits: PayloadLimits, wake: Callable[[str], None]) -> None:
        self._executor = executor
        self._limits = limits
        self._wake = wake
        self._lock = Lock()
        self._open: dict[str, dict[Attempt, StepReport | None]] = {}
        self._abandoned: frozenset[Hashable] = frozenset()

    def run(
        self, flow_id: str, run: StepRun, attempt: int, loan: Loan | None, tell: Callable[[StepReport], bool]
    ) -> None:
        """Have an attempt made. `tell` gets the report, on a thread of the executor."""
        step = run.step
        key = _Key(flow_id, (run.number, attempt))
        timeout = None if step.timeout is None else step.timeout.total_seconds()
        mode, call = ("loop", _Awaiting) if step.is_async else ("thread", _Calling)
        context = StepContext(flow_id, run.number, step.name, attempt)
        work = call(run, loan, context, self._limits, (self, flow_id))
        task = StepTask(key=key, mode=mode, name=step.name, call=work, timeout_s=timeout, group=step)
        if step.isolated:
            job = step.job(run.data, loan, context, self._limits)
            task = replace(task, mode="process", target=step.place, payload=job)
        if self._opened(key):
            self._submit(task, lambda _, outcome: self._done(key, _message(run, attempt, outcome), tell))

    def reconcile(
        self, flow_id: str, run: StepRun, loan: Loan | None, tell: Callable[[StepReport], bool]
    ) -> None:
        """Have the step's `reconcile` function find out; once, however often it is asked for."""
        key = _Key(flow_id, (run.number, -run.attempt))
        task = StepTask(
            key=key,
            mode="thread",
            name=f"reconcile {run.step.name}",
            call=lambda: _reconcile(run, loan, self._limits),
        )
        if self._opened(key):
            self._submit(task, lambda _, outcome: self._done(key, _found(run, outcome), tell))

    def is_calling(self, flow_id: str) -> bool:
        """Tell whether the caller is a step of this flow."""
        return _caller.get() == (self, flow_id)

    # ---------------------------------------------------------------------------- what is under way
    def of_flow(self, flow_id: str) -> dict[Attempt, StepReport | None]:
        """Tell which attempts of a flow are being made, or have an outcome that is not recorded yet."""
        with self._lock:
            return self._open.get(flow_id, {}).copy()

    def unrecorded(self, flow_id: str) -> list[StepReport]:
        """Tell the outcomes that are not recorded yet."""
        if flow_id not in self._open:
            return []
        return [_without_value(report) for report in self.of_flow(flow_id).values() if report is not None]

    def acknowledge(self, report: StepReport) -> None:
        """Forget an outcome: it is recorded, or came too late to matter."""
        with self._lock:
            attempts = self._open.get(report.flow_id)
            if attempts is not None:
                attempts.pop(report.attempt, None)
                if not attempts:
                    del self._open[report.flow_id]

    def forget(self, flow_id: str) -> None:
        """Forget a flow for which outcomes no longer matter."""
        with self._lock:
            self._open.pop(flow_id, None)

    # -------------------------------------------------------------------------------------- closing
    def end(self, abandoned: Iterable[Hashable]) -> None:
        """Take note of the steps that were given up when the executor was closed."""
        self._abandoned = frozenset(abandoned)

    def not_begun(self, flow_id: str) -> frozenset[Attempt]:
        """Tell, after `end`, which attempts were handed in and never got to run."""
        return frozenset(
            attempt
            for attempt, report in self.of_flow(flow_id).items()
            if report is None and _Key(flow_id, attempt) not in self._abandoned
        )

    # -------------------------------------------------------------------------------------- inside
    def _opened(self, key: _Key) -> bool:
        with self._lock:
            attempts = self._open.setdefault(key.flow_id, {})
            if key.made in attempts:
                return False
            attempts[key.made] = None
            return True

    def _submit(self, task: StepTask, done: StepDone) -> None:
        try:  # noqa: SIM105 - `suppress` is slow, and this runs for each step
            self._executor.submit(task, done)
        except SystemClosed:
            pass  # it has not begun, and that is what will be recorded

    def _done(self, key: _Key, message: Any, tell: Callable[[StepReport], bool]) -> None:
        report = StepReport(key.flow_id, key.made, message)
        with self._lock:
            attempts = self._open.get(key.flow_id)
            if attempts is None or key.made not in attempts:
                return
            attempts[key.made] = report
        if not tell(report):
            self._wake(key.flow_id)


class _Calling(msgspec.Struct, eq=False):
    """A call of a `def` step, with its context in force for as long as it lasts.

    Tests that have something else done instead ask it what it is a call of.
    """

    step_run: StepRun
    loan: Loan | None
    context: StepContext
    limits: PayloadLimits
    caller: tuple[AttemptRegistry, str]

    def __call__(self) -> Any:
        caller, token = _caller.set(self.caller), enter_step(self.context)
        try:
            return self.step_run.step.run(self.loan, self.step_run.arguments(), self.limits)
        finally:
            leave_step(token)
            _caller.reset(caller)


class _Awaiting(_Calling):
    """A call of an `async def` step."""

    async def __call__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - awaited by the loop
        _caller.set(self.caller)
        enter_step(self.context)
        return await self.step_run.step.run_async(self.loan, self.step_run.arguments(), self.limits)


def _without_value(report: StepReport) -> StepReport:
    """Return a report with the result as bytes only: who heard of it before may have changed the value."""
    message = report.message
    return replace(report, message=replace(message, value=None)) if type(message) is StepSucceeded else report


def _message(run: StepRun, attempt: int, outcome: StepOutcome) -> StepSucceeded | StepErrored | AttemptLost:
    error = outcome.error
    if isinstance(error, StepLost):
        return AttemptLost(run.number, attempt)
    if error is not None:
        return StepErrored(run.number, attempt, _failure(outcome), None, _is_final(run, error))
    if run.step.isolated:
        try:
            return StepSucceeded(run.number, attempt, outcome.value, run.step.result.decode(outcome.value))
        except PayloadError as refused:
            return StepErrored(
                run.number, attempt, Failure("PayloadError", storable(str(refused))), refused, is_final=True
            )
    data, value = outcome.value
    return StepSucceeded(run.number, attempt, data, value)


def _is_final(run: StepRun, error: BaseException) -> bool:
    """Tell whether it is not to be tried again, whatever number of attempts is left."""
    if isinstance(error, RemoteStepError):
        return error.is_final
    if isinstance(error, StepCrashed) and (run.step.on_crash == "park" or run.step.reconcile is not None):
        return True  # its effect may have happened, and it is not to run twice unseen
    try:
        return run.step.is_final(error)
    except Exception:  # noqa: BLE001 - it asks classes of the user's whether the error is one of theirs
        return False


def _failure(outcome: StepOutcome) -> Failure:
    error = outcome.error
    assert error is not None, "an outcome without an error is no failure"
    trace = storable(outcome.traceback)
    if isinstance(error, RemoteStepError):
        return Failure(storable(error.type_name), storable(error.message), trace, error.line, error.ancestry)
    kind = type(error)
    return Failure(
        storable(kind.__name__),
        storable(message_text(error)),
        trace,
        line_of(error),
        ancestry_of(kind),
    )


def _reconcile(run: StepRun, loan: Loan | None, limits: PayloadLimits) -> bytes | None:
    step = run.step
    assert step.reconcile is not None
    found = step.call_other(step.reconcile, loan, run.arguments())
    if found is None:
        return None
    if not isinstance(found, Done):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
        raise PersistasaurusError(
            f"reconcile of step {step.name!r} returned {found!r}; it returns Done(result) or None"
        )
    return step.result.seal(found.result, limits)[0]


def _found(run: StepRun, outcome: StepOutcome) -> Reconciled | ReconcileFailed:
    if outcome.error is not None:
        return ReconcileFailed(run.number, _failure(outcome))
    return Reconciled(run.number, outcome.value)
