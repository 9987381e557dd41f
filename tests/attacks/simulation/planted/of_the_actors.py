"""Bugs of the actors: what is done before it is recorded, told too early, forgotten, or done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from persistasaurus.actors.flows import backlog, requests
from persistasaurus.actors.flows.active_flow import ActiveFlow, ActorPhase
from persistasaurus.actors.flows.admission import Admission
from persistasaurus.actors.flows.backlog import Backlog
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.flows.loader import Loader
from persistasaurus.actors.flows.recovery import Recovery
from persistasaurus.actors.flows.restarts import Restarts
from persistasaurus.actors.flows.result_waiters import Watchers
from persistasaurus.actors.flows.supervisor import Supervisor
from persistasaurus.actors.flows.timers import Timers
from persistasaurus.actors.steps.attempts import AttemptRegistry, StepReport
from persistasaurus.flows import events
from persistasaurus.flows.errors import SignalNotFound, SignalRejected
from persistasaurus.flows.machine import effects
from persistasaurus.store import HeaderChange, WrongExpectedVersion
from simulation.planted.planting import bug, wrap

if TYPE_CHECKING:
    import pytest


# ------------------------------------------------------------------------------ decide, record, act
@bug
def act_before_record(patch: pytest.MonkeyPatch) -> None:
    """Steps are handed to the executor before it is durable that they have begun."""

    def go_on(before: Any, self: Any, decision: Any, reply: Any = None) -> None:
        for effect in decision.effects:
            self._carry_out(effect)
        decision.effects = []
        before(self, decision, reply)

    wrap(patch, FlowActor, "_go_on", go_on)


@bug
def reply_before_record(patch: pytest.MonkeyPatch) -> None:
    """Whoever pauses or starts a flow hears that it is done when it has been decided."""

    def go_on(before: Any, self: Any, decision: Any, reply: Any = None) -> None:
        if reply is not None:
            reply.resolve(None)
        before(self, decision)

    wrap(patch, FlowActor, "_go_on", go_on)


@bug
def end_told_before_record(patch: pytest.MonkeyPatch) -> None:
    """The flow's result is told when it has been decided."""

    def go_on(before: Any, self: Any, decision: Any, reply: Any = None) -> None:
        for event in decision.events:
            if isinstance(event, events.FlowCompleted):
                self.report(requests.Ended(self.flow_id, self.incarnation, event, has_left=False))
        before(self, decision, reply)

    wrap(patch, FlowActor, "_go_on", go_on)


@bug
def code_of_a_void_start_acted_upon(patch: pytest.MonkeyPatch) -> None:
    """What the code did first is done, although its start is of a flow that exists."""

    def on_write_failed(before: Any, self: Any, write: Any, error: Any) -> None:
        if self.is_unconfirmed and isinstance(error.__cause__, WrongExpectedVersion):
            write.then(*write.args)
        else:
            before(self, write, error)

    wrap(patch, FlowActor, "_on_write_failed", on_write_failed)


@bug
def start_of_what_exists_not_compared(patch: pytest.MonkeyPatch) -> None:
    """Whoever starts a flow that exists is told that it is started, whatever it is."""

    def compare(_: Any, self: Any, request: Any) -> None:
        request.reply.resolve(None)
        self.idle_or_not()

    wrap(patch, FlowActor, "_compare", compare)


@bug
def end_told_with_a_start_before_record(patch: pytest.MonkeyPatch) -> None:
    """Whoever starts a flow hears of its end when it has been decided."""

    def go_on(before: Any, self: Any, decision: Any, reply: Any = None) -> None:
        for event in decision.events:
            if isinstance(event, events.FlowCompleted):
                supervisor_watchers[self.context.starts].release(self.flow_id, event)
        before(self, decision, reply)

    def started(before: Any, self: Any, *args: Any, **options: Any) -> None:
        before(self, *args, **options)
        supervisor_watchers[self._starts] = self._watchers

    supervisor_watchers: dict[Any, Watchers] = {}
    wrap(patch, Supervisor, "__init__", started)
    wrap(patch, FlowActor, "_go_on", go_on)


@bug
def end_not_told_with_the_start(patch: pytest.MonkeyPatch) -> None:
    """Whoever has started a flow never hears that its actor has left, nor of the end."""
    patch.setattr(Watchers, "release", lambda *_: None)


@bug
def outcome_forgotten_before_it_is_recorded(patch: pytest.MonkeyPatch) -> None:
    """The registry forgets how a step went when it has told the flow's actor, whatever becomes of that."""

    def on_report(before: Any, self: Any, report: Any) -> None:
        self.context.attempts.acknowledge(report)
        before(self, report)

    wrap(patch, FlowActor, "_on_report", on_report)


@bug
def outcome_thrown_away(patch: pytest.MonkeyPatch) -> None:
    """A step's outcome for which there is no actor is not kept."""

    def done(_: Any, self: Any, key: Any, message: Any, tell: Any) -> None:
        report = StepReport(key.flow_id, key.made, message)
        self.acknowledge(report)
        tell(report)

    wrap(patch, AttemptRegistry, "_done", done)


@bug
def parked_not_recorded(patch: pytest.MonkeyPatch) -> None:
    """That a flow is parked is in its header, and not in its history."""

    def go_on(before: Any, self: Any, decision: Any, reply: Any = None) -> None:
        decision.events = [e for e in decision.events if not isinstance(e, events.Parked)]
        before(self, decision, reply)

    wrap(patch, FlowActor, "_go_on", go_on)


@bug
def signal_not_consumed(patch: pytest.MonkeyPatch) -> None:
    """A signal is recorded in the history, and stays in the inbox."""

    def go_on(before: Any, self: Any, decision: Any, reply: Any = None) -> None:
        decision.consumed = []
        before(self, decision, reply)

    wrap(patch, FlowActor, "_go_on", go_on)


@bug
def commands_of_others_dropped(patch: pytest.MonkeyPatch) -> None:
    """Of the steps that are begun at the same time, only the first is run."""

    def act(before: Any, self: Any, decision: Any) -> None:
        runs = [c for c in decision.effects if isinstance(c, effects.RunStep)]
        decision.effects = [c for c in decision.effects if c not in runs[1:]]
        before(self, decision)

    wrap(patch, FlowActor, "_act", act)


# ----------------------------------------------------------------------------------------- recovery
@bug
def stale_recovery(patch: pytest.MonkeyPatch) -> None:
    """A flow is recovered from its history without the newest event."""

    def history(before: Any, self: Any, *of: Any) -> Any:
        found, size = before(self, *of)
        return (found[:-1] if len(found) > 1 else found), size

    wrap(patch, Recovery, "_history", history)


@bug
def completed_step_run_again(patch: pytest.MonkeyPatch) -> None:
    """A recovery does not see the results of steps."""

    def history(before: Any, self: Any, *of: Any) -> Any:
        found, size = before(self, *of)
        while len(found) > 1 and not isinstance(found[-1].event, events.StepStarted):
            found = found[:-1]
        return found, size

    wrap(patch, Recovery, "_history", history)


@bug
def nothing_owed_at_recovery(patch: pytest.MonkeyPatch) -> None:
    """A recovery replays the history, and does not look what is owed."""

    def recover(before: Any, self: Any, header: Any, moment: Any) -> Any:
        found = before(self, header, moment)
        if found is not None:
            found[1].effects.clear()
        return found

    wrap(patch, Recovery, "recover", recover)


@bug
def header_not_corrected(patch: pytest.MonkeyPatch) -> None:
    """A header is written with the first events, and says the same for ever."""

    def change(before: Any, self: Any, machine: Any, *, has_news: bool) -> Any:
        found = before(self, machine, has_news=has_news)
        return found if self.version == 0 else None

    wrap(patch, FlowActor, "_header_change", change)


# ---------------------------------------------------------------------------------------- wake-ups
@bug
def lost_doorbell(patch: pytest.MonkeyPatch) -> None:
    """A flow that has been woken once never hears of it again."""

    def on_wake(before: Any, self: Any) -> None:
        before(self)
        self._wake_flag.is_set = True

    wrap(patch, FlowActor, "_on_wake", on_wake)


@bug
def wake_up_swallowed(patch: pytest.MonkeyPatch) -> None:
    """A wake-up of a flow that is at rest starts nobody."""

    def wake(before: Any, self: Any, flow_id: str) -> None:
        if flow_id in self._active:
            before(self, flow_id)

    wrap(patch, Supervisor, "_wake", wake)


@bug
def loaded_in_another_order(patch: pytest.MonkeyPatch) -> None:
    """Of flows that are read together one gets what is another's."""

    def load(before: Any, self: Any, loads: Any) -> None:
        before(
            self,
            [load._replace(flow_id=other.flow_id) for load, other in zip(loads, loads[::-1], strict=True)],
        )

    wrap(patch, Loader, "_load", load)


@bug
def timer_forgotten_at_recovery(patch: pytest.MonkeyPatch) -> None:
    """Timers only know what was set in this process, and look for nothing else."""
    patch.setattr(Timers, "_look", lambda self, _: self._look_later())


@bug
def one_alarm_for_all(patch: pytest.MonkeyPatch) -> None:
    """An alarm that goes off wakes one flow, and forgets the others."""

    def fire(before: Any, self: Any) -> None:
        before(self)
        self._heap.clear()

    wrap(patch, Timers, "_fire", fire)
    patch.setattr(Timers, "_look", lambda self, _: self._look_later())


# --------------------------------------------------------------------------------------- supervisor
@bug
def double_start(patch: pytest.MonkeyPatch) -> None:
    """A flow that is woken gets another actor, though it has one."""

    def wake(before: Any, self: Any, flow_id: str) -> None:
        active = self._active.get(flow_id)
        if active is not None and active.phase is ActorPhase.LIVE:
            self._activate(flow_id)
        else:
            before(self, flow_id)

    wrap(patch, Supervisor, "_wake", wake)


@bug
def waiting_start_answered_before_record(patch: pytest.MonkeyPatch) -> None:
    """A start that has to wait in the store is answered before it is durable there."""

    def put(before: Any, self: Any, start: Any) -> None:
        start.reply.resolve(None)
        before(self, start)

    wrap(patch, Backlog, "put", put)


@bug
def waiting_start_not_due(patch: pytest.MonkeyPatch) -> None:
    """A start waits in the store where nobody finds that its turn has come."""
    patch.setattr(backlog, "HeaderChange", lambda status, state, _: HeaderChange(status, state, None))


@bug
def request_dropped_at_rest(patch: pytest.MonkeyPatch) -> None:
    """What was meant for a flow that is just going to rest is lost."""

    def gone(before: Any, self: Any, active: ActiveFlow) -> None:
        active.held.clear()
        before(self, active)

    wrap(patch, Supervisor, "_gone", gone)


@bug
def stash_dropped_in_a_crash(patch: pytest.MonkeyPatch) -> None:
    """What a crashed actor has not begun is not handed back."""
    patch.setattr(FlowActor, "_hand_back", lambda self: setattr(self, "_stash", None))


@bug
def not_restarted(patch: pytest.MonkeyPatch) -> None:
    """A flow whose actor has crashed is not started again."""
    patch.setattr(Restarts, "_later", lambda *_: None)
    patch.setattr(Restarts, "is_store_up", property(lambda _: True, lambda *_: None), raising=False)
    patch.setattr(Supervisor, "_health", lambda *_: None)


@bug
def waiting_for_a_result_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a flow's end is not told."""
    patch.setattr(Watchers, "tell", lambda *_: None)


@bug
def started_twice(patch: pytest.MonkeyPatch) -> None:
    """A start of a flow that exists begins it anew."""

    def start(before: Any, self: Any, request: Any) -> None:
        if self.version and self.machine is not None:
            self.machine = self.context.recovery.new(request.flow_id, request.type)
        version, self.version = self.version, 0
        try:
            before(self, request)
        finally:
            self.version = version

    wrap(patch, FlowActor, "_start", start)


@bug
def arguments_changed_on_the_way(patch: pytest.MonkeyPatch) -> None:
    """A step that is run again after a crash gets other arguments."""

    def run(before: Any, self: Any, flow_id: str, run: Any, attempt: int, *args: Any) -> None:
        if attempt > 1 and run.data.startswith(b'{"n":'):
            n = msgspec.json.decode(run.data)["n"]
            run.data = msgspec.json.encode({"n": n + 1})
        before(self, flow_id, run, attempt, *args)

    wrap(patch, AttemptRegistry, "run", run)


@bug
def unknown_name_accepted(patch: pytest.MonkeyPatch) -> None:
    """A signal is acknowledged, though its flow can never wait for one of that name."""
    _acknowledge_instead_of(patch, SignalNotFound)


@bug
def misfit_accepted(patch: pytest.MonkeyPatch) -> None:
    """A signal is acknowledged, though its payload is of a type that its flow never waits for."""
    _acknowledge_instead_of(patch, SignalRejected)


def _acknowledge_instead_of(patch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def signal_refusal(before: Any, self: Any, signal: Any, awaited: Any) -> Exception | None:
        refusal = before(self, signal, awaited)
        return None if type(refusal) is kind else refusal

    wrap(patch, Admission, "signal_refusal", signal_refusal)


@bug
def other_bytes_taken_for_another_signal(patch: pytest.MonkeyPatch) -> None:
    """The same signal again is refused when its bytes are others, though they say the same."""
    patch.setattr(Admission, "is_same_signal", lambda *_: False)
