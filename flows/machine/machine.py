"""The flow machine, which is pure: no I/O, no threads, no clock.

Theory of operation:

1. The machine drives a flow's coroutine, with a run queue of its own. Each *input event* (a step's result, a
   timer, a signal) makes waiters ready; the queue is then drained, in order. So the order of input events
   determines everything that the code does, however its branches interleave.
2. The code then issues *commands*: start a step, set a timer, end the flow. Live, each is recorded as a
   *command event* after the input, in the same commit. A replay expects those events next in the history;
   if the code does something else, it is not the code that wrote the history.
3. Recovery is a replay followed by `recovered`, which returns what is owed: steps in doubt, timers that are
   due. There is no other path for a restart.
4. While a flow is paused or parked, input is recorded and the run queue stands still. A replay does the same
   at the same places.
"""

from __future__ import annotations

from contextvars import Context
from operator import attrgetter
from typing import TYPE_CHECKING, Any, assert_never

import msgspec

from .. import events
from ..errors import FlowEnded, NotInFlowError, PayloadError
from ..values.loan import Loan
from ..values.text import storable
from . import messages
from .effects import Decision, Reconcile, RunAlone, RunStep, Warn
from .execution import Execution
from .failure import failure_of
from .history import Recorded, plan_of
from .in_doubt import NONE, InDoubtAction, decide_in_doubt, parked_in_doubt
from .limits import DEFAULT, LengthWatch, Limits
from .pending import Due, StepPhase, StepRun
from .repair import repair_of
from .replay_check import Recorder, ReplayChecker, instant

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from ..authoring.flow import FlowDefinition
    from ..authoring.query import Query
    from ..values.codec import Codec
    from ..values.copies import Shared
    from .messages import Message, Timestamp

_START = messages.Timestamp(0, 0.0)
_wall = attrgetter("wall")
_WAITED_FOR = (StepPhase.SUSPECT, StepPhase.RECONCILING)
_NOTHING: frozenset[tuple[int, int]] = frozenset()


class FlowMachine:
    """One flow: its code, and how far it has come.

    Either `start` a new flow, or `replay` a history and call `recovered` for what is owed; then `handle`
    messages, one at a time. After an exception a machine can only be closed.
    """

    def __init__(self, flow_id: str, definition: FlowDefinition[..., Any], limits: Limits = DEFAULT) -> None:
        self.flow_id = flow_id
        self.definition = definition
        self.limits = limits
        self.history_bytes = 0
        self.evidence = NONE
        self._execution = Execution(flow_id, definition, limits.payload)
        self._decision = Decision()
        self._recorder = Recorder(self._execution, self._decision, _START)
        self._checker: ReplayChecker | None = None
        self._watch = LengthWatch(flow_id, limits)
        self._last_entry = 0
        self._shared: Shared = {}

    # ------------------------------------------------------------------------------- how it stands
    @property
    def version(self) -> int:
        """The number of events in the history, those of the last decision included."""
        return self._execution.version

    @property
    def status(self) -> str:
        """One of running, waiting, paused, parked, completed, failed."""
        execution = self._execution
        if isinstance(execution.ended, events.FlowCompleted):
            return "completed"
        if execution.ended is not None:
            return "failed"
        if execution.parked is not None:
            return "parked"
        if execution.paused:
            return "paused"
        for run in execution.steps.values():
            if run.phase is not StepPhase.SCHEDULED:
                return "running"  # an attempt is recorded without its outcome
        return "waiting"

    @property
    def at(self) -> int:
        """The instant of the last decision: microseconds since the epoch, UTC."""
        return self._execution.at

    @property
    def is_busy(self) -> bool:
        """Whether some of its work runs, or is about to, in this process."""
        for run in self._execution.steps.values():  # noqa: SIM110 - asked at each step: no generator
            if run.is_live or run.phase in _WAITED_FOR:
                return True
        return False

    @property
    def is_too_long(self) -> bool:
        """Whether its history has its maximum of bytes: unless it is over, the next decision parks it."""
        return self.history_bytes >= self.limits.history_bytes

    @property
    def ended(self) -> events.FlowCompleted | events.FlowFailed | None:
        return self._execution.ended

    @property
    def parked(self) -> events.Parked | None:
        return self._execution.parked

    @property
    def last_word(self) -> events.FlowCompleted | events.FlowFailed | events.Parked | None:
        """The event that ended or parked the flow."""
        return self._execution.ended or self._execution.parked

    @property
    def alarm(self) -> Due | None:
        """The next time that something is due; None if nothing is."""
        execution = self._execution
        if not execution.timers:
            for run in execution.steps.values():
                if run.due is not None:
                    break
            else:
                return None  # as nearly always: this is asked at each step
        return None if execution.is_still else min(execution.dues(), key=_wall, default=None)

    # ------------------------------------------------------------------------------------ recovery
    def replay(self, history: Sequence[Recorded]) -> None:
        """Feed the history to the code.

        Raises:
            NondeterminismError: the code does something other than the history says.
        """
        self._checker = checker = ReplayChecker(self._execution, self._name)
        self._execution.sink = checker
        checker.replay(history, plan_of(history))

    @property
    def _name(self) -> str:
        return f"flow {self.flow_id!r} ({self.definition.name})"

    def recovered(self, moment: Timestamp, running: Container[tuple[int, int]] = _NOTHING) -> Decision:
        """Return what is owed after a replay.

        It records what the code did after the last input if the history lacks it: after an orderly shutdown,
        or a change at the end of the code. `running` are attempts (step, attempt) that this process is still
        making, so they are not in doubt.
        """
        self._begin(moment)
        return self._owed(moment, running)

    def repair(
        self,
        history: Sequence[Recorded],
        by: str,
        why: str,
        moment: Timestamp,
        running: Container[tuple[int, int]] = _NOTHING,
    ) -> Decision:
        """Let a flow that has failed or is parked continue, from its history; on a new machine only.

        It retries the failed step and does not repeat completed ones. Only what the code made of the failure
        (the steps of an `except` block, and what came after it) is void, and done anew if the code comes
        there again. `retry` policies start afresh.

        Raises:
            FlowEnded: it has completed.
            NondeterminismError: the code is still not the one that wrote the history.
        """
        scratch = Execution(self.flow_id, self.definition, self.limits.payload)
        repaired = repair_of(history, scratch, self._name, storable(by), storable(why))
        self.replay([*history, Recorded(history[-1].version + 1, moment.wall, repaired)])
        if self.ended is not None:
            raise FlowEnded(self.flow_id, self.status)
        self._begin(moment)
        self._decision.events.append(repaired)
        return self._owed(moment, running)

    def _owed(self, moment: Timestamp, running: Container[tuple[int, int]]) -> Decision:
        for run in self._execution.steps.values():
            run.is_live = run.phase is StepPhase.RUNNING and (run.number, run.attempt) in running
        self._catch_up()
        for due in self._execution.dues():
            due.arm(moment)
        if self.evidence.is_blameless:
            self._acquit()
        self._settle()
        return self._end()

    def _acquit(self) -> None:
        """Record that the steps that ran when the process was told to end have not killed it."""
        for run in list(self._execution.steps.values()):
            if self._execution.is_still:
                return
            if run.phase is StepPhase.RUNNING and not run.is_live and run.unresolved:
                self._record(events.StepInterrupted(run.number, run.is_doubtful))

    def _catch_up(self) -> None:
        """Record what the code has done beyond the history; not while it stands still."""
        if self._checker is not None and not self._execution.is_still:
            self._checker.record_rest(self._recorder)
            self._checker = None

    # ---------------------------------------------------------------------------------------- live
    def handle(self, message: Message, moment: Timestamp) -> Decision:
        """Decide what a message makes of the flow. A message that comes too late decides nothing.

        Raises:
            FlowEnded: a `Pause` or `Resume` of a flow that has ended.
        """
        self._begin(moment)
        self._dispatch(message, moment)
        return self._end()

    def _dispatch(self, message: Message, moment: Timestamp) -> None:  # noqa: C901, PLR0912 - one line a message
        match message:
            case messages.StepSucceeded():
                self._step_succeeded(message)
            case messages.StepErrored():
                self._step_errored(message)
            case messages.AttemptLost():
                self._attempt_lost(message)
            case messages.SignalArrived():
                self._signal_arrived(message)
            case messages.Tick():
                self._tick(moment)
            case messages.StartRequested():
                self._start(message)
            case messages.MayRunAlone():
                self._may_run_alone(message)
            case messages.Reconciled():
                self._reconciled(message)
            case messages.ReconcileFailed():
                self._reconcile_failed(message)
            case messages.Interrupt():
                self._interrupt(message)
            case messages.PauseRequested():
                self._pause(message)
            case messages.ResumeRequested():
                self._resume(message)
            case _:
                assert_never(message)

    def query(self, query: Query[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer from the flow's state. Exceptions of the query reach the caller.

        Raises:
            NotInFlowError: the query belongs to another flow, or this one has no state.
        """
        instance = self._execution.instance
        if not query.fits(instance):
            raise NotInFlowError(f"{query!r} asks for state that {self._name} does not have")
        # In a context of its own: the thread drives other flows, too.
        loan = Loan(instance, query.name, self._shared)
        return Context().run(query.ask, loan, args, kwargs)

    def lend(self, run: StepRun) -> Loan | None:
        """Lend the flow's state, as it is now, to a step: the flow may continue meanwhile."""
        instance = self._execution.instance
        if instance is None or not run.step.is_method:
            return None
        return Loan(instance, run.step.name, self._shared)

    def awaited(self, name: str) -> Codec | None:
        """Return the type of its wait for the next signal of a name. Callable from any thread."""
        return None if self.ended is not None else self._execution.signals.awaited(name)

    def all_awaited(self) -> dict[str, Codec]:
        """Return the types of its waits, by the signals' names."""
        found = {name: self.awaited(name) for name in self._execution.signals.awaited_names}
        return {name: codec for name, codec in found.items() if codec is not None}

    def is_running(self, step: int, attempt: int) -> bool:
        """Return whether this attempt is still the one whose outcome counts."""
        run = self._execution.steps.get(step)
        return run is not None and run.phase is StepPhase.RUNNING and run.attempt == attempt

    def drain(self) -> None:
        """Stop running the code. Input is still recorded, and the next process continues with it."""
        self._execution.draining = True

    @property
    def undecided(self) -> Decision:
        """The decision in progress. Readable from another thread."""
        return self._decision

    def close(self) -> None:
        """Drop the flow's code. Only its history matters."""
        self._execution.close()

    # ----------------------------------------------------------------------------------- decisions
    def _begin(self, moment: Timestamp) -> None:
        recorder = self._recorder
        self._decision = recorder.decision = Decision()
        recorder.moment = moment
        self._execution.at = moment.wall
        self._execution.sink = recorder

    def _end(self) -> Decision:
        execution = self._execution
        watch = self._watch
        is_short = execution.version < watch.short_events and self.history_bytes < watch.short_bytes
        if not is_short and execution.parked is None and execution.ended is None:
            reason = watch.look(execution.version, self.history_bytes, self._decision.effects)
            if reason is not None:
                self._record(events.Parked("history_limit", reason))
        if execution.parked is not None or execution.ended is not None:
            self._drop_effects()
        return self._decision

    def _drop_effects(self) -> None:
        """Start nothing more. Recorded attempts will be in doubt."""
        decision = self._decision
        for effect in decision.effects:
            if type(effect) is RunStep:
                effect.run.is_live = False
        decision.effects = [e for e in decision.effects if type(e) is Warn]

    def _record(self, event: events.InputEvent, value: Any = None) -> None:
        """Record an input event, and let the flow continue with it."""
        execution = self._execution
        self._decision.events.append(event)
        execution.version += 1
        execution.apply(event, execution.at, value)
        if self._checker is not None:
            self._catch_up()
        execution.run()

    # -------------------------------------------------------------------------------------- messages
    def _start(self, message: messages.StartRequested) -> None:
        if not self._execution.has_started:
            self._record(events.FlowStarted(self.definition.name, msgspec.Raw(message.args), message.seed))

    def _step_succeeded(self, message: messages.StepSucceeded) -> None:
        if self.is_running(message.step, message.attempt):
            self._record(events.StepCompleted(message.step, msgspec.Raw(message.data)), message.value)

    def _step_errored(self, message: messages.StepErrored) -> None:
        if not self.is_running(message.step, message.attempt):
            return
        run = self._execution.steps[message.step]
        wait = None
        if run.step.retry is not None and not message.is_final:
            wait = run.step.retry.wait(run.failures + 1, message.error, f"{self.flow_id}/{run.number}")
        retry_at = None if wait is None else instant(self._execution.at, wait)
        self._record(events.StepFailed(message.step, message.attempt, message.failure, retry_at))

    def _signal_arrived(self, message: messages.SignalArrived) -> None:
        execution = self._execution
        if message.id <= self._last_entry or execution.ended is not None:
            return
        if execution.parked is not None and execution.version >= self.limits.events:
            return  # it stays in the inbox, which is bounded
        self._last_entry = message.id
        reason = execution.signals.refuses(message.name, message.data)
        if reason is not None:
            self._decision.rejected.append((message.id, reason))
            return
        self._decision.consumed.append(message.id)
        self._record(events.SignalReceived(message.name, message.key, msgspec.Raw(message.data)))

    def _tick(self, moment: Timestamp) -> None:
        """Do what is due, in order of time."""
        execution = self._execution
        if execution.is_still:
            return
        due = [(timer.due.wall, timer) for timer in execution.timers.values() if timer.due.has_come(moment)]
        due += [
            (run.due.wall, run)
            for run in execution.steps.values()
            if run.due is not None and run.due.has_come(moment)
        ]
        for _, pending in sorted(due, key=lambda item: item[0]):
            if execution.is_still:
                return
            if isinstance(pending, StepRun):
                self._attempt(pending)
            else:
                self._record(events.TimerFired(pending.number))

    def _may_run_alone(self, message: messages.MayRunAlone) -> None:
        run = self._execution.steps.get(message.step)
        if run is not None and run.phase is StepPhase.SUSPECT:
            self._go_on_with(run)

    def _reconciled(self, message: messages.Reconciled) -> None:
        run = self._execution.steps.get(message.step)
        if run is None or run.phase is not StepPhase.RECONCILING:
            return
        if message.data is None:
            self._run_again(run)
            return
        try:
            value = run.step.result.decode(message.data)
        except PayloadError as error:
            self._reconcile_failed(messages.ReconcileFailed(message.step, failure_of(error)))
        else:
            self._record(events.StepCompleted(message.step, msgspec.Raw(message.data)), value)

    def _attempt_lost(self, message: messages.AttemptLost) -> None:
        """Decide as after a death of the process, but without blaming the attempt for it."""
        if self.is_running(message.step, message.attempt):
            self._execution.steps[message.step].is_live = False
            self._record(events.StepInterrupted(message.step))
            self._settle()

    def _reconcile_failed(self, message: messages.ReconcileFailed) -> None:
        execution = self._execution
        run = execution.steps.get(message.step)
        if run is None or run.phase is not StepPhase.RECONCILING:
            return
        run.phase = StepPhase.RUNNING
        if execution.ended is not None or execution.parked is not None:
            return
        if run.approved:
            self._run_again(run)
            return
        failure = message.failure
        reason = (
            f"step {run.number} {run.step.name!r}: its reconcile function could not find out:"
            f" {failure.type}: {failure.message}. handle.retry() asks it once more, and runs the step again"
            " if it still does not know"
        )
        self._record(events.Parked("in_doubt", reason, failure.traceback))

    def _interrupt(self, message: messages.Interrupt) -> None:
        for run in list(self._execution.steps.values()):
            if run.is_live and run.unresolved:
                begun = (run.number, run.attempt) not in message.not_begun
                self._record(events.StepInterrupted(run.number, begun))

    def _pause(self, message: messages.PauseRequested) -> None:
        self._must_be_open()
        if message.request or not self._execution.paused:
            self._record(events.Paused(storable(message.by), storable(message.why), message.request))

    def _resume(self, message: messages.ResumeRequested) -> None:
        self._must_be_open()
        was_paused = self._execution.paused
        if message.request or was_paused:
            self._record(events.Resumed(storable(message.by), storable(message.why), message.request))
        if was_paused:
            self._settle()

    def _must_be_open(self) -> None:
        if self._execution.ended is not None:
            raise FlowEnded(self.flow_id, self.status)

    # ---------------------------------------------------------------------------------------- steps
    def _attempt(self, run: StepRun) -> None:
        """Record an attempt, to be run when that is durable."""
        self._record(events.StepAttempted(run.number, run.attempt + 1))
        run.is_live = True
        self._decision.effects.append(RunStep(run, run.attempt))

    def _go_on_with(self, run: StepRun) -> None:
        """Run a step that was in doubt. If the flow stands still, it stays in doubt."""
        if self._execution.is_still:
            run.phase = StepPhase.RUNNING
        else:
            self._attempt(run)

    def _settle(self) -> None:
        """Decide about the steps in doubt: those with a recorded attempt that is not running."""
        if self._execution.is_still:
            return
        doubtful = [
            r for r in self._execution.steps.values() if r.phase is StepPhase.RUNNING and not r.is_live
        ]
        actions = [decide_in_doubt(run, self.limits.poison_after, evidence=self.evidence) for run in doubtful]
        parked = parked_in_doubt(actions)
        if parked is not None:
            self._record(parked)
            return
        for run, action in zip(doubtful, actions, strict=True):
            if action is InDoubtAction.RECONCILE:
                run.phase = StepPhase.RECONCILING
                self._decision.effects.append(Reconcile(run))
            else:
                self._run_again(run)

    def _run_again(self, run: StepRun) -> None:
        """Run it again: alone if it may have killed the process more than once."""
        limit, evidence = self.limits.poison_after, self.evidence
        if decide_in_doubt(run, limit, is_reconciled=True, evidence=evidence) is InDoubtAction.RUN_ALONE:
            run.phase = StepPhase.SUSPECT
            self._decision.effects.append(RunAlone(run.number))
        else:
            self._go_on_with(run)
