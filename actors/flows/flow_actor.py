"""The flow actor: one flow at work. Decide, record, act.

1. Decide: a message goes into the flow machine, which is pure, and answers with a decision.
2. Record: the decision's events go to the journal as one append.
3. Act: when that is durable, and not before, the decision's commands are carried out: steps run,
   alarms are set, whoever asked is answered.

An error anywhere ends the actor. The next incarnation recovers from the log by the same machine;
what the log shows as owed is derived anew, and outcomes of steps are kept by the registry until they
are recorded. So a message only says "look", and losing one loses nothing.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, assert_never

from ...flows import events
from ...flows.errors import FlowAlreadyExists, FlowNotFound, FlowParked, PersistasaurusError, StoreUnavailable
from ...flows.machine import effects, messages
from ...flows.machine.effects import Decision
from ...flows.values.value_diff import differing_fields
from ...store import Append, HeaderChange, NewRecord, RecordCorrupt, StreamState, WrongExpectedVersion
from ..persistence.persistent_actor import ACTOR_STATUS, PersistentActor
from ..runtime.actor import EscapedError, try_tell
from ..steps.attempts import StepReport
from . import requests
from .parking import HARMFUL, PARK, UNREPLAYABLE, is_flow, last_word, parked_for, type_of
from .refusals import check_control, nothing_to_retry, unconfirmed, was_done

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...flows.machine.machine import FlowMachine
    from ...flows.machine.pending import Due
    from ...flows.values.codec import Codec
    from ...store import Header, InboxEntry, LoadedStream
    from ..runtime.futures import Reply
    from .actor_context import ActorContext
    from .parking import LastWord
    from .wake_flag import WakeFlag

__all__ = ["FlowActor"]

logger = logging.getLogger("persistasaurus")

_STATES = {
    "completed": StreamState.ENDED,
    "failed": StreamState.FAILED,
    "parked": StreamState.HELD,
    "paused": StreamState.HELD,
}
_INBOX_PAGE = 1000
_REPAIRED = events.kind(events.Repaired())
_UNKNOWN = -1
"""No alarm of any flow."""


class FlowActor(PersistentActor):
    """One incarnation of one flow. Without a machine it has ended, or is parked, and only answers."""

    def __init__(
        self,
        flow_id: str,
        incarnation: int,
        wake_flag: WakeFlag,
        context: ActorContext,
        found: LoadedStream | None,
    ) -> None:
        super().__init__(flow_id, context.access)
        self.flow_id = flow_id
        self.incarnation = incarnation
        self.context = context
        self.status = ""
        self.machine: FlowMachine | None = None
        self.replica: FlowMachine | None = None  # of a flow that is over, to be looked at
        self._wake_flag = wake_flag
        self.is_unconfirmed = wake_flag.is_starting
        """Whether the flow is taken to be new, and its first append has not been answered."""
        self._start_request: requests.StartFlow | None = None
        self._found = found
        """What the store had of it; None: nothing, or it has been looked at."""
        self._header: Header | None = None if found is None else found.header
        self._wake_at: int | None = None
        self._knows_alarm = True
        self._armed: Due | None = None
        self._announced: LastWord | None = None
        self._is_draining = False
        self._suspect: int | None = None
        self._unrecorded: list[StepReport] = []
        self._reply: Reply[None] | None = None
        self._so_far: Decision | None = None
        self.in_hand: Any = None
        """The message that it is at, or was last."""

    # ------------------------------------------------------------------------------------- recovery
    def on_start(self) -> None:
        """Recover, or find that the flow is new, has ended or is parked."""
        self.context.guard.enter(self.flow_id, self)
        self.context.awaited.begin(self.flow_id)
        if not self.is_unconfirmed:
            self._noted(self._begin)

    def _noted(self, code: Callable[..., None], *args: Any) -> None:
        """Run what runs the flow's code: should the process die of it, the next one can tell whose it was."""
        box = self.context.box
        slot = box.begin(self.flow_id)
        try:
            code(*args)
        finally:
            box.finish(slot)

    def _begin(self) -> None:
        found = self._found
        if found is not None:
            self._take(found)
            self._found = None
        is_over = self.machine is None and self._writing is None
        self.report(requests.Recovered(self.flow_id, self.incarnation, is_over))
        if found is not None:  # else it is about to be started
            self.idle_or_not()

    def _take(self, found: LoadedStream) -> None:
        """Take over what exists."""
        header = found.header
        self.version, self.status, self._wake_at = header.version, header.status, header.wake_at
        self._knows_alarm = False
        if not is_flow(self._access.store, header):
            self.status = ACTOR_STATUS
        elif not header.is_sound:
            self._say_once(header)
            self.status = ""  # whatever it says, it is written
            self._recover(found)
        elif not header.state.is_over:
            self._recover(found)

    def _say_once(self, header: Header) -> None:
        if self.flow_id not in self.context.damaged:
            self.context.damaged.add(self.flow_id)
            logger.warning(
                "The header of flow %r is damaged (%s). It is rebuilt from the flow's history.",
                self.flow_id,
                header.damage,
            )

    def _recover(self, found: LoadedStream) -> None:
        try:
            recovered = self.context.recovery.recover(found, self.context.clock.now())
        except UNREPLAYABLE as error:
            self._park(error)
            return
        if recovered is None:
            self._stay_parked(found.header)
            return
        self.adopt(*recovered)

    def _stay_parked(self, header: Header) -> None:
        self.status = "parked"
        if not header.is_sound:
            self.write(self._parking(header, ()), self.idle_or_not)

    def _parking(self, header: Header, records: tuple[NewRecord, ...]) -> Append:
        return Append(self.flow_id, self.version, records, PARK, type_of(self._access.store, header))

    def adopt(self, machine: FlowMachine, decision: Decision, reply: Reply[None] | None = None) -> None:
        """Go on with another machine, made from the log, and with what has come in the meantime."""
        self._drop_machine()
        self.machine = machine
        self._announced = None
        self._look(machine, decision, reply)

    @property
    def header(self) -> Header:
        """A header of the flow, for what never changes in it.

        Raises:
            FlowNotFound: it does not exist.
        """
        header = self._header = self._header or self._access.store.header(self.flow_id)
        if header is None:
            raise FlowNotFound(self.flow_id)
        return header

    # -------------------------------------------------------------------------------------- messages
    def on_command(self, message: Any) -> None:
        """Take one message."""
        self._noted(self._take_up, message)

    def _take_up(self, message: Any) -> None:
        """Take one message. The frequent ones come first."""
        self.in_hand = message
        kind: Any = type(message)  # pyright: ignore[reportUnknownVariableType] - no cast: it is a call
        if kind is StepReport:
            self._on_report(message)
        elif kind is requests.Wake:
            self._on_wake()
        elif kind is requests.Passivate:
            self._on_passivate()
        elif kind is requests.SlotGranted:
            self._on_slot(message.step)
        elif kind is requests.StopExecuting:
            self._stop_executing()
        elif kind is requests.AbandonSteps:
            self.decide(messages.Interrupt(self.context.attempts.not_begun(self.flow_id)))
        elif kind is requests.Stop:
            self._leave(requests.Passivated(self.flow_id, self.incarnation))
        else:
            self._answer(message)

    def _on_report(self, report: StepReport) -> None:
        if self.machine is None:
            return  # the registry keeps it
        self._unrecorded.append(report)
        if report.message.step == self._suspect:
            self._suspect = None
            self.report(requests.SlotFreed(self.flow_id))
        self.decide(report.message)

    def _on_wake(self) -> None:
        self._wake_flag.is_set = False
        if self.machine is None:
            self.idle_or_not()
        else:
            self._look(self.machine, Decision())

    def _look(self, machine: FlowMachine, decision: Decision, reply: Reply[None] | None = None) -> None:
        """Look at outcomes nobody has heard, at the clock and into the inbox, and decide about it all."""
        moment = self.context.clock.now()
        self._so_far = decision
        for report in self.context.attempts.unrecorded(self.flow_id):
            self._unrecorded.append(report)
            decision.merge(machine.handle(report.message, moment))
        if not self._is_draining and machine.ended is None:
            self._armed = None
            try:
                inbox = self._inbox()
            except RecordCorrupt as error:
                self._park(error, reply)
                return
            self._note_alarm(has_mail=bool(inbox))
            decision.merge(machine.handle(messages.Tick(), moment))
            for entry in inbox:
                arrived = messages.SignalArrived(entry.id, entry.name, entry.key, entry.data)
                decision.merge(machine.handle(arrived, moment))
            if len(inbox) == _INBOX_PAGE and (decision.consumed or decision.rejected):
                self._look_again()
        self._go_on(decision, reply)

    def _inbox(self) -> list[InboxEntry]:
        """Return signals that wait: at the first look those that were there when it was loaded."""
        if self._found is None:
            return self._access.store.inbox(self.flow_id, limit=_INBOX_PAGE)
        signals = self._found.signals
        if isinstance(signals, Exception):
            raise signals
        return signals

    def _note_alarm(self, *, has_mail: bool) -> None:
        """Take note, at the first look, that the header may have told of a signal, and not of an alarm.

        With the signal that goes as well, also when the next alarm is at the very same instant.
        """
        if has_mail and not self._knows_alarm:
            self._wake_at = _UNKNOWN
        self._knows_alarm = True

    def _look_again(self) -> None:
        self._wake_flag.is_set = True
        self.actor_ref.tell(requests.Wake(self.flow_id))

    def _on_slot(self, step: int) -> None:
        self._suspect = step
        self.decide(messages.MayRunAlone(step))
        if self.machine is None or not self.machine.is_busy:
            self._suspect = None
            self.report(requests.SlotFreed(self.flow_id))

    def _on_passivate(self) -> None:
        """Stop, unless something is going on, or about to."""
        if self._wake_flag.is_set or not self._is_idle():
            self.report(requests.Busy(self.flow_id, self.incarnation))
            return
        if self.machine is not None:
            self.context.awaited.passivate(self.flow_id, self.machine.all_awaited())
        self._leave(requests.Passivated(self.flow_id, self.incarnation))

    def _stop_executing(self) -> None:
        self._is_draining = True
        if self.machine is not None:
            self.machine.drain()

    # -------------------------------------------------------------------------------------- requests
    def _answer(self, request: requests.Request) -> None:
        """Answer, now or when it is durable. Any other error is the actor's, and ends it."""
        try:
            self._dispatch(request)
        except UNREPLAYABLE as error:
            known = isinstance(error, PersistasaurusError)
            self._refuse(request, error if known else StoreUnavailable(f"{error}; nothing was changed"))
        except StoreUnavailable:
            raise
        except PersistasaurusError as error:
            self._refuse(request, error)

    def _refuse(self, request: requests.Request, error: Exception) -> None:
        request.reply.fail(error)
        if self.is_unconfirmed:
            self._leave(requests.Passivated(self.flow_id, self.incarnation))
        else:
            self.idle_or_not()

    def _dispatch(self, request: requests.Request) -> None:
        match request:
            case requests.StartFlow():
                self._start(request)
            case requests.Ask():
                self._ask(request)
            case requests.PauseFlow():
                self._control(messages.PauseRequested, request)
            case requests.ResumeFlow():
                self._control(messages.ResumeRequested, request)
            case requests.RetryFlow():
                self._retry(request)

    def _start(self, request: requests.StartFlow) -> None:
        if self.version:
            self._compare(request)
            return
        self.machine = self.context.recovery.new(request.flow_id, request.type)
        self._start_request = request
        self.decide(messages.StartRequested(request.args, self.context.environment.new_seed()), request.reply)

    def _confirm(self) -> None:
        self.is_unconfirmed = False
        if self.context.starts.settle(self._wake_flag):
            self.report(requests.StartsSettled())

    def _compare(self, request: requests.StartFlow) -> None:
        """Answer a start of a flow that exists: the same again is fine."""
        if self.status == ACTOR_STATUS:
            raise FlowAlreadyExists(self.flow_id, "it is not a flow, but an actor")
        first = events.decode(self.context.access.store.read(self.flow_id, limit=1)[0].data)
        if not isinstance(first, events.FlowStarted) or first.flow != request.type:
            other = repr(first.flow) if isinstance(first, events.FlowStarted) else "another"
            raise FlowAlreadyExists(self.flow_id, f"it is {other}, and not {request.type!r}")
        if not self._are_the_same(bytes(first.args), request):
            differs = differing_fields(bytes(first.args), request.args)
            raise FlowAlreadyExists(self.flow_id, f"it was started with other arguments: {differs}")
        request.reply.resolve(None)
        self.idle_or_not()

    def _are_the_same(self, recorded: bytes, request: requests.StartFlow) -> bool:
        """Compare values, if it is known how; bytes otherwise."""
        definition = self.context.recovery.registry.find(request.type)
        if definition is None:
            return recorded == request.args
        try:
            return definition.parameters.codec.are_same(recorded, request.args)
        except BaseException:  # noqa: BLE001 - the user's types may do anything when they are compared
            return False

    def _ask(self, request: requests.Ask) -> None:
        machine = self.machine or self.replica
        if machine is None:
            self._must_be_harmless()
            machine = self.replica = self.context.recovery.replayed(self.header)
        try:
            answer = machine.query(request.query, request.args, request.kwargs)
        except Exception as error:  # noqa: BLE001 - the query's own, and the asker's
            request.reply.fail(error)
        except BaseException as error:  # noqa: BLE001 - the asker's, but not to be torn down by
            escaped = EscapedError(f"the query raised {type(error).__name__}: {error}")
            escaped.__cause__ = error
            request.reply.fail(escaped)
        else:
            request.reply.resolve(answer)
        self.idle_or_not()

    def _must_be_harmless(self) -> None:
        """See to it that to replay the flow does no harm: it does to one that is parked for that.

        Raises:
            FlowParked: it is.
        """
        if self.status == "parked":
            word = last_word(self.context.access.store, self.header)
            if isinstance(word, events.Parked) and word.reason in HARMFUL:
                raise FlowParked(self.flow_id, word.reason, word.message)

    def _control(
        self,
        message: type[messages.PauseRequested | messages.ResumeRequested],
        request: requests.PauseFlow | requests.ResumeFlow,
    ) -> None:
        _ = self.header
        if was_done(self.context.access.store, request):
            request.reply.resolve(None)
            self.idle_or_not()
            return
        check_control(self.flow_id, self.status)
        left = "" if request.left is None else request.left.id
        self.decide(message(request.by, request.why, left), request.reply)

    def _retry(self, request: requests.RetryFlow) -> None:
        """Run on from the log, with the fatal failure made void."""
        if request.seen is not None and self._was_repaired_since(request.seen):
            request.reply.resolve(None)
            self.idle_or_not()
            return
        if self.status not in ("failed", "parked"):
            raise nothing_to_retry(self.flow_id, self.status)
        made = self.context.recovery.repair(self.header, request.by, request.why, self.context.clock.now())
        self.adopt(*made, request.reply)

    def _was_repaired_since(self, version: int) -> bool:
        if version >= self.version:
            return False
        records = self.context.access.store.read(self.flow_id, after=version)
        return any(record.kind == _REPAIRED for record in records)

    # ------------------------------------------------------------------------- decide, record, act
    def decide(self, message: messages.Message, reply: Reply[None] | None = None) -> None:
        """Decide about a message, record that, and then act on it; `reply` hears when it is durable."""
        if self.machine is not None:
            self._go_on(self.machine.handle(message, self.context.clock.now()), reply)

    def _go_on(self, decision: Decision, reply: Reply[None] | None = None) -> None:
        """Record a decision, then act on it; at once when there is nothing to record."""
        self._so_far = None
        if self.actor_stopped.is_set():
            return  # given up, when it came back too late
        machine = self.machine
        assert machine is not None
        self._reply = reply
        change = self._header_change(machine, has_news=bool(decision.events))
        if not (decision.events or decision.has_settled or change):
            self._act(decision)
            return
        append = Append(
            self.flow_id,
            self.version,
            self._records(decision.events, machine),
            change,
            machine.definition.name if self._owes_type() else None,
            tuple(decision.consumed),
            tuple(decision.rejected),
            tuple(decision.given_up),
        )
        self.write(append, self._act, decision)

    def _owes_type(self) -> bool:
        """Return whether the append must say what the flow is: it makes the header, or makes it anew."""
        return not self.version or (self._header is not None and not self._header.is_sound)

    def _records(self, decided: Sequence[events.AnyEvent], machine: FlowMachine) -> tuple[NewRecord, ...]:
        at = machine.at
        records: list[NewRecord] = []
        for event in decided:
            data = events.encode(event)
            machine.history_bytes += len(data)
            records.append(NewRecord(at, events.kind(event), data))
        return tuple(records)

    def _header_change(self, machine: FlowMachine, *, has_news: bool) -> HeaderChange | None:
        """Return what the header must say from now on, or None when it says so already."""
        status = machine.status
        if self._is_draining and status == "waiting":
            if self.status == "waiting" and not has_news:
                return None  # it waits for what it has waited for, and is woken by that
            status = "running"  # its code stands still, and has to be looked after at the next start
        if status == self.status == "running":
            return None
        if status == "running":
            wake_at = machine.at  # owed from now on: a restart looks after it at once
        else:
            alarm = machine.alarm
            wake_at = None if alarm is None else alarm.wall
        if status == self.status and wake_at == self._wake_at:
            return None
        self.status, self._wake_at = status, wake_at
        return HeaderChange(status, _STATES.get(status, StreamState.OPEN), wake_at)

    def _act(self, decision: Decision) -> None:
        if self.is_unconfirmed:
            self._confirm()
        start, self._start_request = self._start_request, None
        for report in self._unrecorded:
            self.context.attempts.acknowledge(report)
        self._unrecorded.clear()
        for effect in decision.effects:
            self._carry_out(effect)
        machine = self.machine
        assert machine is not None
        over = machine.last_word
        if start is not None and isinstance(over, events.FlowCompleted):
            start.end.resolve(over)
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.resolve(None)
        if over is not None:
            self._over(over, is_busy=machine.is_busy)
            return
        self._arm(machine.alarm)
        if machine.is_too_long and not self._is_draining:
            self._look_again()  # how long a history is, is known when it is recorded
        self.idle_or_not()

    def _carry_out(self, effect: effects.AnyEffect) -> None:
        assert self.machine is not None
        match effect:
            case effects.RunStep(run, attempt):
                if self.context.heart is not None:
                    self.context.heart.wake()
                self.context.attempts.run(
                    self.flow_id, run, attempt, self.machine.lend(run), self._step_reports
                )
            case effects.Reconcile(run):
                self.context.attempts.reconcile(self.flow_id, run, self.machine.lend(run), self._step_reports)
            case effects.RunAlone(step):
                self.report(requests.RequestSlot(self.flow_id, step))
            case effects.Warn(text):
                logger.warning("%s", text)
            case _:
                assert_never(effect)

    def _step_reports(self, message: StepReport) -> bool:
        return try_tell(self.actor_ref, message)

    def _arm(self, alarm: Due | None) -> None:
        if alarm is not None and alarm is not self._armed:
            self._armed = alarm
            self.context.arm(self.flow_id, alarm.instant(self.context.clock.now()))

    # -------------------------------------------------------------------------- passivation and end
    def _is_idle(self) -> bool:
        return self._writing is None and (self.machine is None or not self.machine.is_busy)

    def idle_or_not(self) -> None:
        """Report that there is nothing to do, each time that it becomes so."""
        if self._is_idle() and not self._wake_flag.is_set and not self._stash:
            self.report(requests.Idle(self.flow_id, self.incarnation))

    def _over(self, event: LastWord, *, is_busy: bool) -> None:
        """Announce the end, once; stay until the steps that still run have been heard."""
        if event is not self._announced:
            self._announced = event
            if isinstance(event, events.FlowCompleted):
                self.context.attempts.forget(self.flow_id)
            ended = requests.Ended(self.flow_id, self.incarnation, event, has_left=not is_busy)
            if is_busy:
                self.report(ended)
            else:
                self._leave(ended)
        elif not is_busy:
            self._leave(requests.Passivated(self.flow_id, self.incarnation))

    def _park(self, error: Exception, reply: Reply[None] | None = None) -> None:
        """Park the flow for an error that will come back until the code, or the log, is another."""
        self._drop_machine()
        if reply is not None:
            reply.fail(unconfirmed(self.flow_id, error))
        if self.status == "parked":
            self.idle_or_not()
            return
        parked = parked_for(error)
        self.status, self._wake_at = "parked", None
        at = self.context.environment.clock.now()
        record = NewRecord(at, events.kind(parked), events.encode(parked))
        # Behind a record that cannot be read nothing goes: then the header alone says that it is parked.
        records = (record,) if self.header.damage is None else ()
        self.write(self._parking(self.header, records), lambda: self._over(parked, is_busy=False))

    def _leave(self, report: Any) -> None:
        """End now. What is still queued goes back to where it came from."""
        self.context.guard.leave(self.flow_id, self)
        self.report(report)
        self._stop()

    def _end(self) -> None:
        self.context.guard.leave(self.flow_id, self)
        super()._end()

    def on_stop(self) -> None:
        """Hand back what was not begun; whoever waits for a record hears that it may not come."""
        self._drop_machine()
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.fail(unconfirmed(self.flow_id, "the system was closed"))
        self._hand_back()

    # -------------------------------------------------------------------------------------- given up
    def described(self) -> str:
        """Say who this is, and what it is at."""
        if isinstance(self.in_hand, requests.Ask):
            return f"{self.in_hand.query!r} of flow {self.flow_id!r}"
        return f"Flow {self.flow_id!r}"

    def blamed(self) -> tuple[str, str]:
        """Tell whose code it is that runs here: the flow, and its query when it is one's."""
        return self.flow_id, self.in_hand.query.name if isinstance(self.in_hand, requests.Ask) else ""

    def abandon(self) -> None:
        """Have no more of this actor, which is held by somebody's code. From another thread."""
        self.actor_stopped.set()
        self.context.guard.leave(self.flow_id, self)
        self.actor_inbox.close(None)
        self.actor_inbox.detach()

    def awaited_codec(self, name: str) -> Codec | None:
        """Return the type that the flow waits for a signal with, if it does. From another thread."""
        machine = self.machine
        return None if machine is None or self.is_unconfirmed else machine.awaited(name)

    def undecided(self) -> Decision:
        """Return what it has decided so far, and neither recorded nor done. From another thread."""
        whole = Decision()
        machine, so_far = self.machine, self._so_far
        if so_far is not None:
            whole.merge(so_far)
        if machine is not None and machine.undecided is not so_far:
            whole.merge(machine.undecided)
        return whole

    # ------------------------------------------------------------------------------------------ crash
    def on_start_failure(self, error: BaseException) -> None:
        """Tell the supervisor, since Pykka tells nobody."""
        self._crash(error)

    def on_failure(self, exception_type: Any, exception_value: BaseException | None, traceback: Any) -> None:
        """Tell the supervisor."""
        del exception_type, traceback
        self._crash(exception_value or RuntimeError("unknown"))

    def _on_command_failed(self, message: Any, error: BaseException) -> None:
        if hasattr(message, "reply"):
            message.reply.fail(unconfirmed(self.flow_id, error))

    def _on_write_failed(self, write: Any, error: Exception) -> None:
        del write
        start, self._start_request = self._start_request, None
        is_not_new = isinstance(error.__cause__, WrongExpectedVersion) or isinstance(error, RecordCorrupt)
        if self.is_unconfirmed and is_not_new and start is not None:
            # What its code has decided is void. The next incarnation looks at the flow, and compares.
            self._reply = None
            self._stash = deque([start._replace(may_be_new=False), *(self._stash or ())])
            self._leave(requests.Passivated(self.flow_id, self.incarnation))
            return
        self._crash(error)
        self._stop()

    def _crash(self, error: BaseException) -> None:
        self.context.guard.leave(self.flow_id, self)
        self.report(requests.Crashed(self.flow_id, self.incarnation, error))
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.fail(unconfirmed(self.flow_id, error))
        self._hand_back()
        self._drop_machine()

    def _hand_back(self) -> None:
        while self._stash:
            message = self._stash.popleft()
            if hasattr(message, "reply"):
                self.report(message)  # not begun: the next incarnation answers

    def _drop_machine(self) -> None:
        machines = self.machine, self.replica
        self.machine = self.replica = None
        for machine in machines:
            if machine is not None:
                self._noted(machine.close)

    def report(self, message: Any) -> None:
        """Tell the supervisor."""
        self.context.report(message)
