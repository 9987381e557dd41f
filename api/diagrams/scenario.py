"""Turns a history into the items of a diagram: who sent what to whom, in the order in which it happened.

What a diagram shows depends on its participants. So the same history is told for the participants of a level
when it is drawn, and for those of a specification when it is compared.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from ...flows import events
from ...flows.machine.history import COMMAND_EVENTS
from ...flows.summary import FlowSummary
from . import lexicon
from .items import Activation, Block, Item, Message, Note, Remark, Role, Section
from .restart_marks import Cause, RestartMarks, restart_marks_of
from .timeline import Happened, happened, written

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from .phrases import Phrase
    from .timeline import Drawable

_AT_ONCE_MAX = 8
"""More steps than this, started at once, are drawn one below the other."""


class Scenario(NamedTuple):
    """A history as items, and the name of its flow if that is known."""

    flow: str | None
    items: list[Item]


def scenario_of(
    run: Drawable, roles: Collection[Role], *, with_restarts: bool = True, times: bool = False
) -> Scenario:
    """Return a history for some participants; without restarts, as if the process had never ended."""
    past = happened(run)
    restarts = restart_marks_of(past)
    if not with_restarts:
        past = [h for position, h in enumerate(past) if position not in restarts.due]
        restarts = RestartMarks({}, frozenset())
    flow = next((lexicon.named(h.event.flow) for h in past if isinstance(h.event, events.FlowStarted)), None)
    writer = _ScenarioWriter(roles, times=times)
    for cause, decided in _decisions(past, restarts.before):
        writer.tell(decided, cause)
    return Scenario(flow, writer.items)


def _decisions(
    past: Sequence[Happened], restarts: dict[int, Cause]
) -> list[tuple[Cause | None, list[Happened]]]:
    """Split a history into decisions: an input, and what the code did about it."""
    decisions: list[tuple[Cause | None, list[Happened]]] = []
    for position, one in enumerate(past):
        cause = restarts.get(position)
        if decisions and cause is None and type(one.event) in COMMAND_EVENTS:
            decisions[-1][1].append(one)
        else:
            decisions.append((cause, [one]))
    return decisions


class _ScenarioWriter:
    """Writes one decision after the other: what came in, what was recorded, what was done then."""

    def __init__(self, roles: Collection[Role], *, times: bool) -> None:
        self.items: list[Item] = []
        self._roles = roles
        self._times = times
        self._version = 0
        self._summary = FlowSummary()
        self._running: set[int] = set()
        self._has_outcomes = False
        self._is_active = False

    def tell(self, decided: Sequence[Happened], cause: Cause | None) -> None:
        """Write one decision. All of it belongs to its last event, with which it is durable."""
        self._version = decided[-1].version
        if cause is None:
            self._decision(decided)
            return
        self._restart(cause)
        if not self._has_outcomes or Role.JOURNAL not in self._roles:
            self._decision(decided)
        elif len(decided) > _AT_ONCE_MAX:
            self.items.append(Block("opt", (self._replay(),)))
            self._decision(decided)
        else:
            rest = self._aside(lambda: self._decision(decided))
            self.items.append(Block("alt", (self._replay(), Section("step not complete", rest))))

    def _aside(self, tell: Callable[[], None]) -> tuple[Item, ...]:
        """Return what is written, instead of adding it."""
        before, self.items = self.items, []
        tell()
        aside, self.items = self.items, before
        return tuple(aside)

    def _decision(self, decided: Sequence[Happened]) -> None:
        at = decided[0].at
        if self._times and at is not None:
            self.items.append(Remark(self._version, written(at)))
        for one in decided:
            self._before(one)
        for one in decided:
            self._send(lexicon.record(one.event, self._summary), Role.FLOW, Role.JOURNAL)
        self._commit()
        self._send(lexicon.DURABLE, Role.JOURNAL, Role.FLOW, is_reply=True)
        for one in decided:
            self._summary.apply(one.recorded)
            self._after(one)
        self._call([one.event for one in decided if isinstance(one.event, _RUNNING)])
        if not self._running:
            self._rest()

    # ------------------------------------------------------------------------------------- restarts
    def _restart(self, cause: Cause) -> None:
        self._note(lexicon.DIED if cause == "died" else lexicon.CLOSED, is_wide=True)
        self._forget_running()
        self._rest()
        self._send(lexicon.RECOVER, Role.SUPERVISOR, Role.FLOW)
        keeper = Role.STORE if Role.STORE in self._roles else Role.JOURNAL
        self._send(lexicon.READ, Role.FLOW, keeper)
        self._send(lexicon.HISTORY, keeper, Role.FLOW, is_reply=True)

    def _replay(self) -> Section:
        recorded = Message(
            self._version, Role.JOURNAL, Role.FLOW, is_reply=True, phrase=lexicon.REPLAYED, is_replay=True
        )
        return Section("step already complete (replay)", (recorded,))

    # ------------------------------------------------------------------------------------- movements
    def _before(self, one: Happened) -> None:  # noqa: C901 - one line a kind
        """Write what came in."""
        match one.event:
            case events.FlowStarted() as event:
                self._send(lexicon.start(event), Role.CLIENT, Role.SUPERVISOR, Role.FLOW)
            case events.StepCompleted() as event:
                self._outcome(event.step, lexicon.returns(event.step, event.result))
            case events.StepFailed() as event:
                self._outcome(event.step, lexicon.raises(event))
            case events.StepAttempted() as event if self._waits_for_time(event.step):
                self._note(lexicon.wait_is_over(event.step))
            case events.StepInterrupted() as event:
                self._note(lexicon.shutdown(event))
            case events.TimerFired() as event:
                self._note(lexicon.sleep_is_over(event))
            case events.SignalReceived() as event:
                self._deliver(lexicon.signal(event))
            case events.Paused() as event:
                self._demand("pause", event)
            case events.Resumed() as event:
                self._demand("resume", event)
            case events.Repaired() as event:
                self._demand("retry", event)
            case _:
                pass

    def _after(self, one: Happened) -> None:  # noqa: C901, PLR0912 - one line a kind
        """Write what was done once the event was durable."""
        match one.event:
            case events.FlowStarted():
                self._send(lexicon.ACCEPTED, Role.FLOW, Role.CLIENT, is_reply=True)
            case events.StepScheduled() as event:
                self._note(lexicon.waits_before(event.step, event.name, one.until(event.due)))
            case events.StepFailed() as event if event.retry_at is not None:
                self._note(lexicon.waits_before_retry(event, one.until(event.retry_at)))
            case events.TimerSet() as event:
                self._note(lexicon.sleeps(event, one.until(event.due)))
            case events.SignalAwaited() as event:
                early = all(wait.version != one.version for wait in self._summary.waits)
                self._note(lexicon.came_early(event) if early else lexicon.waits_for(event))
            case events.SignalReceived() as event:
                if self._summary.unread[event.name]:
                    self._note(lexicon.keeps(event))
            case events.Paused() | events.Resumed():
                self._send(lexicon.said(events.kind(one.event)), Role.FLOW, Role.CLIENT, is_reply=True)
            case events.Repaired() as event:
                self._send(lexicon.said("repaired"), Role.FLOW, Role.CLIENT, is_reply=True)
                if event.since is not None:
                    self._note(lexicon.anew(event.since))
            case events.Parked() as event:
                self._note(lexicon.parked(event))
            case events.FlowCompleted() as event:
                self._end(lexicon.result(event))
                self._forget_running()
            case events.FlowFailed() as event:
                self._end(lexicon.fails(event))
            case _:
                pass

    # ---------------------------------------------------------------------------------------- steps
    def _outcome(self, step: int, phrase: Phrase) -> None:
        self._has_outcomes = True
        self._send(phrase, Role.STEP, Role.FLOW, is_reply=True)
        if self._running == {step}:
            self._activate(Role.STEP, is_on=False)
        self._running.discard(step)

    def _call(self, starting: Sequence[events.StepStarted | events.StepAttempted]) -> None:
        """Run steps: those that start together, in parallel."""
        calls = [(event.step, self._aside(partial(self._run, event))) for event in starting]
        if 1 < len(calls) <= _AT_ONCE_MAX:
            branches = tuple(Section(f"step {step}", call) for step, call in calls)
            self.items.append(Block("par", branches))
        else:
            self.items += [item for _, call in calls for item in call]

    def _run(self, event: events.StepStarted | events.StepAttempted) -> None:
        step = event.step
        attempt = event.attempt if isinstance(event, events.StepAttempted) else 1
        known = self._summary.steps.get(step)
        args = None if known is None else known.args
        phrase = lexicon.call(step, self._summary.step_name(step) or "step", args, attempt)
        self._send(phrase, Role.FLOW, Role.STEP)
        if not self._running:
            self._activate(Role.STEP, is_on=True)
        self._running.add(step)

    def _waits_for_time(self, step: int) -> bool:
        known = self._summary.steps.get(step)
        return known is not None and known.waits_for_time

    def _forget_running(self) -> None:
        if self._running:
            self._activate(Role.STEP, is_on=False)
        self._running.clear()

    # --------------------------------------------------------------------------------------- outside
    def _deliver(self, phrase: Phrase) -> None:
        if Role.JOURNAL not in self._roles:
            self._send(phrase, Role.CLIENT, Role.SUPERVISOR, Role.FLOW)
            self._send(lexicon.RECEIPT, Role.FLOW, Role.CLIENT, is_reply=True)
            return
        self._send(phrase, Role.CLIENT, Role.JOURNAL)
        self._commit()
        self._send(lexicon.RECEIPT, Role.JOURNAL, Role.CLIENT, is_reply=True)
        self._send(phrase, Role.SUPERVISOR, Role.FLOW)

    def _demand(self, what: str, event: events.Paused | events.Resumed | events.Repaired) -> None:
        phrase = lexicon.demand(what, event.by, event.why)
        self._send(phrase, Role.CLIENT, Role.SUPERVISOR, Role.FLOW)

    def _end(self, phrase: Phrase) -> None:
        self._send(phrase, Role.FLOW, Role.SUPERVISOR, Role.CLIENT, is_reply=True)

    def _commit(self) -> None:
        if Role.JOURNAL in self._roles:
            self._send(lexicon.COMMIT, Role.JOURNAL, Role.STORE)
            self._send(lexicon.COMMITTED, Role.STORE, Role.JOURNAL, is_reply=True)

    # ----------------------------------------------------------------------------------------- items
    def _send(self, phrase: Phrase, *path: Role, is_reply: bool = False) -> None:
        """Pass something on along a path, skipping roles that do not take part."""
        present = [role for role in path if role in self._roles]
        for source, target in pairwise(present):
            self.items.append(Message(self._version, source, target, is_reply, phrase))
            if Role.FLOW in (source, target):
                self._wake()

    def _note(self, phrase: Phrase, *, is_wide: bool = False) -> None:
        self.items.append(Note(self._version, phrase, is_wide))

    def _wake(self) -> None:
        if not self._is_active:
            self._is_active = True
            self._activate(Role.FLOW, is_on=True)

    def _rest(self) -> None:
        if self._is_active:
            self._is_active = False
            self._activate(Role.FLOW, is_on=False)

    def _activate(self, role: Role, *, is_on: bool) -> None:
        if role in self._roles:
            self.items.append(Activation(role, is_on))


_RUNNING = (events.StepStarted, events.StepAttempted)
"""The kinds of events with which a step begins to run."""
