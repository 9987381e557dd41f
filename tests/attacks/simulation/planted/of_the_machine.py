"""Bugs of the flow machine: what is decided wrongly, and what a replay makes otherwise than it was."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
from persistasaurus.actors.steps import attempts
from persistasaurus.flows import events
from persistasaurus.flows.authoring.retry import Retry
from persistasaurus.flows.authoring.step import Step, StepContext
from persistasaurus.flows.machine import machine
from persistasaurus.flows.machine.branch import Branch, Gather
from persistasaurus.flows.machine.execution import Execution
from persistasaurus.flows.machine.in_doubt import InDoubtAction
from persistasaurus.flows.machine.inbox import SignalQueues
from persistasaurus.flows.machine.machine import FlowMachine
from persistasaurus.flows.machine.pending import Due, StepPhase, StepRun
from persistasaurus.flows.values.copies import Made
from persistasaurus.flows.values.remote_state import RemoteState
from simulation.planted.planting import bug, wrap

if TYPE_CHECKING:
    import pytest


# --------------------------------------------------------------------------------------------- time
@bug
def early_timer(patch: pytest.MonkeyPatch) -> None:
    """Everything is due three seconds before its time."""
    wrap(patch, Due, "remaining", lambda before, self, moment: before(self, moment) - 3)
    wrap(patch, Due, "instant", lambda before, self, moment: before(self, moment) - 3)


@bug
def delay_restarted_from_zero(patch: pytest.MonkeyPatch) -> None:
    """After a restart a sleep begins anew, however long it has lasted already."""

    def arm(before: Any, self: Any, moment: Any) -> None:
        before(self, moment)
        if self._elapsed is not None:
            self._elapsed = moment.elapsed + (self.wall - self._since) / 1e6

    wrap(patch, Due, "arm", arm)


@bug
def calendar_taken_for_time(patch: pytest.MonkeyPatch) -> None:
    """A jump of the calendar counts as time gone by."""
    patch.setattr(Due, "remaining", lambda self, moment: (self.wall - moment.wall) / 1e6)


@bug
def due_retries_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Time brings what the flow sleeps for, and not the next attempt at a step."""
    patch.setattr(Execution, "dues", lambda self: (timer.due for timer in self.timers.values()))


@bug
def now_from_the_clock(patch: pytest.MonkeyPatch) -> None:
    """now() reads the clock, and tells something else at each replay."""
    patch.setattr(Execution, "now", lambda _: datetime.now(UTC))


@bug
def random_not_seeded(patch: pytest.MonkeyPatch) -> None:
    """random() and uuid4() begin anew with each replay, from anywhere."""
    patch.setattr(Execution, "random", property(lambda _: Random()))


# -------------------------------------------------------------------------------------------- steps
@bug
def retry_counted_wrong(patch: pytest.MonkeyPatch) -> None:
    """A step gets one attempt fewer than its policy says."""
    wrap(patch, Retry, "wait", lambda before, self, failures, *args: before(self, failures + 1, *args))


@bug
def failures_not_counted(patch: pytest.MonkeyPatch) -> None:
    """A step that fails is tried again for ever."""

    def fail_once(before: Any, self: Any, due: Any) -> None:
        before(self, due)
        self.failures = 0

    wrap(patch, StepRun, "fail_once", fail_once)


@bug
def wrong_attempt_number(patch: pytest.MonkeyPatch) -> None:
    """A retry is recorded under the number of the attempt that failed."""

    def attempt(before: Any, self: Any, run: Any) -> None:
        run.attempt = max(run.attempt - 1, 0)
        before(self, run)

    wrap(patch, FlowMachine, "_attempt", attempt)


@bug
def key_of_the_attempt(patch: pytest.MonkeyPatch) -> None:
    """The idempotency key is another one for each attempt."""

    def key(self: Any) -> str:
        return f"{self.flow_id}/{self.step + 1000 * (self.attempt - 1)}"

    patch.setattr(StepContext, "idempotency_key", property(key))


@bug
def in_doubt_completed_silently(patch: pytest.MonkeyPatch) -> None:
    """A step that was running when the process died is taken to have returned nothing."""

    def settle(_: Any, self: Any) -> None:
        for run in list(self._execution.steps.values()):
            if run.phase is StepPhase.RUNNING and not run.is_live and not self._execution.is_still:
                self._record(events.StepCompleted(run.number, msgspec.Raw(b"null")))

    wrap(patch, FlowMachine, "_settle", settle)


@bug
def in_doubt_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Nobody decides about a step that was running when the process died."""
    patch.setattr(FlowMachine, "_settle", lambda _: None)


@bug
def reconcile_not_asked(patch: pytest.MonkeyPatch) -> None:
    """A step in doubt is run again at once, though it has a function that finds out."""

    def decide_in_doubt(before: Any, run: Any, poison_after: int, **how: Any) -> Any:
        return InDoubtAction.RUN if run.step.reconcile else before(run, poison_after, **how)

    wrap(patch, machine, "decide_in_doubt", decide_in_doubt)


@bug
def doubt_ignored(patch: pytest.MonkeyPatch) -> None:
    """A step that must not run twice is run again after a crash, and nobody is asked."""
    patch.setattr(machine, "decide_in_doubt", lambda *_, **__: InDoubtAction.RUN)


@bug
def running_step_taken_for_dead(patch: pytest.MonkeyPatch) -> None:
    """A step that this process is running still is in doubt, when only the flow's actor has ended."""
    wrap(patch, FlowMachine, "recovered", lambda before, self, moment, _: before(self, moment))


@bug
def failed_step_taken_for_good(patch: pytest.MonkeyPatch) -> None:
    """A step's error is recorded as a result."""

    def errored(before: Any, self: Any, message: Any) -> None:
        if message.is_final or self._execution.steps[message.step].step.retry is None:
            self._record(events.StepCompleted(message.step, msgspec.Raw(b"0")), 0)
        else:
            before(self, message)

    wrap(patch, FlowMachine, "_step_errored", errored)


# --------------------------------------------------------------------------------- values at borders
@bug
def arguments_shared_between_attempts(patch: pytest.MonkeyPatch) -> None:
    """The arguments of a step are decoded once, for all attempts at it."""
    decoded: dict[int, tuple[Any, Any]] = {}

    def arguments(before: Any, self: Any) -> Any:
        if id(self) not in decoded:
            decoded[id(self)] = (self, before(self))
        return decoded[id(self)][1]

    wrap(patch, StepRun, "arguments", arguments)


@bug
def results_shared_between_incarnations(patch: pytest.MonkeyPatch) -> None:
    """The result of a step goes to the next incarnation as the one before has left it."""
    patch.setattr(attempts, "_without_value", lambda report: report)


@bug
def live_state_handed_out(patch: pytest.MonkeyPatch) -> None:
    """A query answers with what the flow goes on with."""

    def query(_: Any, self: Any, query: Any, args: Any, kwargs: Any) -> Any:
        return query.function(self._execution.instance, *args, **kwargs)

    wrap(patch, FlowMachine, "query", query)


@bug
def live_state_lent(patch: pytest.MonkeyPatch) -> None:
    """A step works on what the flow goes on with."""

    def lend(_: Any, self: Any, __: Any) -> Any:
        loan = nullcontext(self._execution.instance)
        loan.view = self._execution.instance  # type: ignore[attr-defined]
        return loan

    wrap(patch, FlowMachine, "lend", lend)


@bug
def changes_of_what_is_lent_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """What a step changes is thrown away, and nobody hears of it."""
    patch.setattr(Made, "has_its_parts", property(lambda _: True))


@bug
def one_context_for_all_branches(patch: pytest.MonkeyPatch) -> None:
    """What one branch of a flow sets, the others see."""

    def init(before: Any, self: Any, coroutine: Any, queue: Any, *rest: Any) -> None:
        ended, context = rest
        before(self, coroutine, queue, ended, next((b.context for b in queue.branches), context))

    wrap(patch, Branch, "__init__", init)


# ------------------------------------------------------------------------------------ signals, code
@bug
def early_signal_dropped(patch: pytest.MonkeyPatch) -> None:
    """A signal that nobody waits for yet is lost."""

    def keep(before: Any, self: Any, name: str, *more: Any) -> None:
        if self._waits.get(name):
            before(self, name, *more)

    wrap(patch, SignalQueues, "keep", keep)


@bug
def early_signals_last_in_first_out(patch: pytest.MonkeyPatch) -> None:
    """Of the signals that came early, the newest is taken first."""

    def keep(before: Any, self: Any, name: str, *more: Any) -> None:
        before(self, name, *more)
        self._early[name].rotate(1)

    wrap(patch, SignalQueues, "keep", keep)


@bug
def gathered_in_order_of_completion(patch: pytest.MonkeyPatch) -> None:
    """gather() returns its results in the order in which they came."""

    def complete(before: Any, self: Any, index: int, result: Any) -> None:
        before(self, len(self._results) - self._missing, result)

    wrap(patch, Gather, "complete", complete)


@bug
def pause_lost_at_restart(patch: pytest.MonkeyPatch) -> None:
    """A flow that was paused runs on after a restart."""

    def recovered(before: Any, self: Any, *args: Any) -> Any:
        self._execution.paused = False
        return before(self, *args)

    wrap(patch, FlowMachine, "recovered", recovered)


@bug
def timers_run_while_paused(patch: pytest.MonkeyPatch) -> None:
    """A pause stops steps, and not time."""

    def tick(before: Any, self: Any, moment: Any) -> None:
        paused, self._execution.paused = self._execution.paused, False
        try:
            before(self, moment)
        finally:
            self._execution.paused = paused

    wrap(patch, FlowMachine, "_tick", tick)


@bug
def changed_code_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """A history that the code does not follow is followed by what the code does."""
    patch.setattr("persistasaurus.flows.machine.pending.Timer.matches", lambda *_: True)
    patch.setattr(StepRun, "matches", lambda *_: True)


# ------------------------------------------------------------------------------------ isolated steps
@bug
def isolated_step_on_a_fresh_flow(patch: pytest.MonkeyPatch) -> None:
    """An isolated step gets the flow as its class makes it, and nothing of what the body has assigned."""

    def of(before: Any, instance: Any) -> RemoteState:
        return msgspec.structs.replace(before(type(instance)()), kept={})

    wrap(patch, RemoteState, "of", of)


@bug
def isolated_step_with_the_context_of_another(patch: pytest.MonkeyPatch) -> None:
    """An isolated step is told that it is its flow's first, whichever it is."""

    def job(before: Any, self: Any, *given: Any) -> bytes:
        changed = [msgspec.structs.replace(g, step=1) if isinstance(g, StepContext) else g for g in given]
        return before(self, *changed)

    wrap(patch, Step, "job", job)
