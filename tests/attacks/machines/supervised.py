"""A supervisor with all that is around it in the hands of a test, and what must be true of it at any time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis.stateful import RuleBasedStateMachine
from machines.scripted import OVER, Around, CountedReply, HeaderStore, ScriptedActor, SlowJournal, Stage
from machines.supervisor_model import SOON, ModelSupervisor
from persistasaurus.actors.flows import requests
from persistasaurus.actors.flows.active_flow import RestartRules, SupervisorRules
from persistasaurus.actors.flows.actor_context import ActorContext
from persistasaurus.actors.flows.loader import Loader
from persistasaurus.actors.flows.parking import PARK
from persistasaurus.actors.flows.starting import Starts
from persistasaurus.actors.flows.supervisor import Supervisor
from persistasaurus.actors.persistence.persistent_actor import StreamAccess
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.actors.runtime.serial import Turns
from persistasaurus.store import StoreHalted

if TYPE_CHECKING:
    from collections.abc import Callable

RESTART = RestartRules(initial_s=1.0, factor=2.0, maximum_s=6.0, jitter=0.2, max_restarts=3, period_s=60.0)
IDLE_S, SWEEP_S, TRUST_S = 2.0, 1.0, 10.0
SUPERVISOR = "persistasaurus.actors.flows.supervisor"


def is_unconfirmed(actor: ScriptedActor) -> bool:
    return actor.wake_flag.is_starting


def is_to_rest(actor: ScriptedActor) -> bool:
    return any(isinstance(message, requests.Passivate) for message in actor.holds)


def has_had_turn_since(actor: ScriptedActor, instant: float) -> bool:
    return actor.turn_since is not None and actor.turn_since > instant


class Supervised(RuleBasedStateMachine):
    """Has no rules of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        """What was found out while the supervisor was at work: it takes an assertion for its own error."""
        self.clock = ManualClock()
        self.turns = Turns(clock=self.clock, throughput=1)
        self.store = HeaderStore(self._unreadable)
        self.journal = SlowJournal(self.store, self._parking_asked)
        self.starts = Starts(maximum=1)
        self.model = ModelSupervisor(RESTART, self._can_be_parked)
        self.patch = pytest.MonkeyPatch()
        self.actors: list[ScriptedActor] = []
        self.asked: list[tuple[Any, CountedReply]] = []
        self.watched: list[tuple[str, CountedReply]] = []
        self.owed: set[str] = set()
        """Flows that were woken and have not looked since."""
        self.unrecorded: set[str] = set()
        """Flows with steps that have ended while nobody was there."""
        self.has_threads = True
        self.max_activations = self.max_idle = 1

    def open(self) -> None:
        self.patch.setattr(f"{SUPERVISOR}.FlowActor", SimpleNamespace(start_on=self._start_actor))
        self.patch.setattr(f"{SUPERVISOR}.logger.exception", self._note)
        alarms = ManualAlarms(self.clock)
        make = self.turns.dispatcher
        environment = Environment(clock=self.clock, alarms=alarms, dispatcher=make, new_seed=lambda: 1)
        rules = SupervisorRules(IDLE_S, self.max_idle, self.max_activations, RESTART)
        self.loader = Loader.start_on(make("reads"), self.store)  # type: ignore[arg-type]
        self.ref = Supervisor.start_on(
            make("control"),
            environment,
            make("flows"),
            self._context(environment),
            self.loader,
            lambda at: None,
            rules,
        )
        self.supervisor = self.ref.actor_inbox.owner
        self.store.on_not_loaded = self._not_loaded

    def _context(self, environment: Environment) -> Callable[[Any], ActorContext]:
        attempts: Any = SimpleNamespace(unrecorded=lambda flow_id: {flow_id} & self.unrecorded)
        access: Any = StreamAccess(self.store, self.journal, self.clock)
        nobody: Any = None
        return lambda report: ActorContext(
            access, nobody, attempts, environment, nobody, nobody, report, nobody, set(), nobody, self.starts
        )

    # ------------------------------------------------------------------------ what is around it
    def _note(self, text: str, *values: Any, **_: Any) -> None:
        self.wrong.append(text % values)

    def _check(self, what: Any, *values: Any) -> None:
        try:
            what(*values)
        except AssertionError as error:
            self.wrong.append(f"{values}: {error}")

    def _start_actor(
        self,
        _scheduler: Any,
        flow_id: str,
        incarnation: int,
        wake_flag: Any,
        context: ActorContext,
        found: Any,
    ) -> ScriptedActor:
        now = self.clock.elapsed()
        self._check(self.model.began, flow_id, now)
        self._check(self._may_begin, flow_id, incarnation, wake_flag)
        if not self.has_threads:
            error = RuntimeError("can't start new thread")
            self.model.crashed(flow_id, error, now)
            raise error
        scripted = Around(self.store, context.report, self._told, self._looked, self._settled)
        actor = ScriptedActor(scripted, flow_id, incarnation, wake_flag)
        self.actors.append(actor)
        return actor

    def _may_begin(self, flow_id: str, incarnation: int, wake_flag: Any) -> None:
        assert self._living(flow_id) is None, "it has an actor"
        before = [actor.incarnation for actor in self.actors if actor.flow_id == flow_id]
        assert all(incarnation > earlier for earlier in before), "its incarnation is no new one"
        if wake_flag.is_starting:
            assert not self._those(is_unconfirmed), "too many starts are under way"
        else:
            assert self._recovering < self.max_activations, "too many recover"

    def _told(self, actor: ScriptedActor, message: Any) -> None:
        if not isinstance(message, requests.SlotGranted):
            return
        now = self.clock.elapsed()
        since = now - TRUST_S + SOON
        if self._those(lambda other: other is not actor and has_had_turn_since(other, since)):
            self.wrong.append(f"{actor.flow_id} has a turn while another has it")
        actor.turn_since, actor.asked_turn = now, False

    def _settled(self, actor: ScriptedActor) -> None:
        if self.starts.settle(actor.wake_flag):
            self.ref.tell(requests.StartsSettled())

    def _looked(self, flow_id: str) -> None:
        self.owed.discard(flow_id)
        self.unrecorded.discard(flow_id)

    def _unreadable(self, flow_id: str) -> None:
        self.owed.discard(flow_id)  # the timers will wake it again

    def _not_loaded(self, flow_id: str) -> None:
        """One that has had an actor, or is to go on, is tried again after a while."""
        active = self.supervisor._active.get(flow_id)
        if active is not None and active.is_certain:
            self.model.crashed(flow_id, StoreHalted("it cannot be read now"), self.clock.elapsed())

    def _can_be_parked(self, flow_id: str) -> bool | None:
        if not self.store.is_readable:
            return None
        return self.store.status(flow_id) in ("running", "paused")

    def _parking_asked(self, entry: Any) -> None:
        write = entry.write
        if not self.model.lots[write.stream].is_parking:
            self.wrong.append(f"{write.stream} is parked without a reason")
        if write.header != PARK or write.expected != self.store.version(write.stream):
            self.wrong.append(f"{write.stream} cannot be parked like that: {write}")

    def _those(self, what: Callable[[ScriptedActor], Any]) -> list[ScriptedActor]:
        return [actor for actor in self.actors if actor.is_alive and what(actor)]

    @property
    def _recovering(self) -> int:
        return sum(actor.stage is Stage.STARTING for actor in self.actors)

    def _living(self, flow_id: str) -> ScriptedActor | None:
        return next((a for a in self.actors if a.flow_id == flow_id and a.is_alive), None)

    # --------------------------------------------------------------- what is true at any time
    def look_at_it(self) -> None:
        """Look at what is always true; and at the rest, when the supervisor has heard everything."""
        assert not self.wrong, self.wrong
        assert all(reply.answers <= 1 for _, reply in self.asked), "somebody is answered twice"
        if not len(self.ref.actor_inbox) and not len(self.loader.actor_inbox):
            self._no_request_is_lost()
            self._no_ring_is_lost()
            self._nobody_idles_too_long()
            self._somebody_has_the_turn()
            if not self.model.refuses:
                self._no_watcher_is_lost()
                self._nobody_is_left_over()
                self._nobody_waits_too_long()

    def _no_request_is_lost(self) -> None:
        held = {id(getattr(message, "reply", None)) for actor in self.actors for message in actor.holds}
        for request, reply in self.asked:
            if not reply.is_done and id(reply) not in held:
                assert self._is_held_up(request.flow_id), f"lost: {request}"

    def _no_ring_is_lost(self) -> None:
        held = [message for actor in self.actors for message in actor.holds]
        for flow_id in self.owed - {
            message.flow_id for message in held if isinstance(message, requests.Wake)
        }:
            assert self._is_held_up(flow_id, at_start=True), f"{flow_id} was woken, and is not told"

    def _no_watcher_is_lost(self) -> None:
        for flow_id, reply in self.watched:
            if not reply.is_done and self.store.status(flow_id) in OVER:
                assert self._is_held_up(flow_id, at_start=True), f"who watches {flow_id} is not told"

    def _nobody_is_left_over(self) -> None:
        now = self.clock.elapsed()
        for flow_id in self.supervisor._active:
            is_there = self._living(flow_id) is not None or self._is_held_up(flow_id)
            assert is_there or self.model.lots[flow_id].is_broken(now), f"{flow_id} is left over"

    def _nobody_waits_too_long(self) -> None:
        now = self.clock.elapsed()
        for flow_id, lot in self.model.lots.items():
            if lot.wait is not None and now > lot.wait[1] + SOON:
                assert self._is_saturated, f"{flow_id} is not restarted"

    @property
    def _is_saturated(self) -> bool:
        return self._recovering >= self.max_activations

    def _is_held_up(self, flow_id: str, *, at_start: bool = False) -> bool:
        """Tell whether there is a reason for which something has not reached a flow yet."""
        actor = self._living(flow_id)
        if actor is None:
            is_full = self._is_saturated or bool(self.starts.waiting and self._those(is_unconfirmed))
            return self.model.lots[flow_id].is_waiting or is_full
        looks_later = actor.stage is Stage.STARTING or is_unconfirmed(actor)
        return is_to_rest(actor) or (at_start and looks_later)

    def _nobody_idles_too_long(self) -> None:
        idle = self._those(lambda actor: actor.idle_since is not None and not is_to_rest(actor))
        assert len(idle) <= self.max_idle, "too many idle"
        for actor in idle:
            assert self.clock.elapsed() <= actor.idle_since + IDLE_S + SWEEP_S + SOON, "it does not rest"

    def _somebody_has_the_turn(self) -> None:
        if self._those(lambda actor: actor.asked_turn):
            since = self.clock.elapsed() - TRUST_S - SOON
            # One that leaves may still get it: then it is wasted, until the time is over.
            assert any(has_had_turn_since(actor, since) for actor in self.actors), "nobody has the turn"
