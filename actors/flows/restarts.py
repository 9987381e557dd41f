"""Restarts: what becomes of a flow whose actor has crashed. It starts anew after a while, or is parked."""

from __future__ import annotations

import logging
from random import Random
from typing import TYPE_CHECKING, Any

from ...flows import events
from ...flows.errors import FlowParked, PersistasaurusError, StoreUnavailable
from ...flows.values.text import storable
from ...store import Append, NewRecord, RecordCorrupt, StoreError, StreamState
from ..persistence.journal import Entry
from ..persistence.persistent_actor import StaleWriterError
from . import requests
from .active_flow import ActorPhase
from .parking import PARK, PAUSE, WHAT_TO_DO, inputs_of, parked_for, type_of
from .refusals import unconfirmed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store import Header, Outcome
    from ..persistence.persistent_actor import StreamAccess
    from ..runtime.environment import Environment
    from ..runtime.futures import Reply
    from .active_flow import ActiveFlow, SupervisorRules

__all__ = ["Restarts", "broken", "halted"]

logger = logging.getLogger("persistasaurus")

_OF_THE_STORE = (StoreUnavailable, StoreError, StaleWriterError)


class Restarts:
    """Decides, for flows without an actor. `hear` gets `Restart` when it is time, or how parking went."""

    def __init__(
        self,
        environment: Environment,
        access: StreamAccess,
        rules: SupervisorRules,
        hear: Callable[[object], None],
    ) -> None:
        self._environment = environment
        self._access = access
        self._rules = rules.restart
        self._patience_s = rules.park_blocking_s
        self._hear = hear
        self._random = Random(environment.new_seed())  # noqa: S311 - spreads restarts
        self._given_up: set[str] = set()
        """Of these it was said; once is enough."""
        self.is_store_up = True

    def after(self, active: ActiveFlow, error: BaseException) -> None:
        """Decide after a crash. What is the store's fault, and not the flow's, is not counted."""
        chance = self._random.random()
        if isinstance(error, RecordCorrupt):
            self._park(active, error)
        elif isinstance(error, _OF_THE_STORE):
            logger.info("Flow %r starts anew from its log: %s", active.flow_id, error)
            if self.is_store_up:
                self._later(active, active.note_stumble(self._rules, chance))
            else:
                active.refuse(halted())
        else:
            logger.error("Flow %r crashed: %s: %s", active.flow_id, type(error).__name__, error)
            wait = active.note_crash(self._environment.clock.elapsed(), self._rules, chance)
            if wait is None:
                self._park(active, error)
            else:
                self._later(active, wait)

    def _later(self, active: ActiveFlow, seconds: float) -> None:
        restart = requests.Restart(active.flow_id, active.incarnation)
        self._environment.alarms.call_at(
            self._environment.clock.elapsed() + seconds, lambda: self._hear(restart)
        )

    def _park(self, active: ActiveFlow, error: BaseException) -> None:
        """Record that a flow crashes whenever it is started. It has no actor, so nobody else writes."""
        parked = parked_for(error)
        try:
            header = self._access.store.header(active.flow_id)
        except StoreError as failure:
            self.after(active, StoreUnavailable(str(failure)))
            return
        if header is None or (header.is_sound and _needs_nobody(header)):
            self._give_up(active, error)
            return
        self._record_parked(active, header, parked)

    def _record_parked(self, active: ActiveFlow, header: Header, parked: events.Parked) -> None:
        active.phase = ActorPhase.PARKING
        record = NewRecord(self._environment.clock.now(), events.kind(parked), events.encode(parked))
        # Behind a record that cannot be read nothing goes: then the header alone says that it is parked.
        active.is_mute = active.is_mute or header.damage is not None
        records = () if active.is_mute else (record,)
        append = Append(active.flow_id, header.version, records, PARK, type_of(self._access.store, header))
        ended = requests.Ended(active.flow_id, active.incarnation, parked, has_left=True)

        def done(outcome: Outcome) -> None:
            is_failed = isinstance(outcome, Exception)
            self._hear(
                requests.NotParked(active.flow_id, active.incarnation, outcome) if is_failed else ended
            )

        self._access.journal.tell(Entry(append, done))

    def convict(self, active: ActiveFlow, header: Header, deaths: int) -> None:
        """Park a flow during whose code the process has died too often. Its code is not run again."""
        parked = events.Parked(
            "lethal",
            f"the process died {deaths} times while the flow's own code ran, and came no further than event"
            f" {header.version}. Find out whether it is to blame; handle.retry() runs it again",
        )
        self._record_parked(active, header, parked)

    def pause(self, active: ActiveFlow, header: Header, request: requests.PauseFlow) -> None:
        """Pause a flow that nobody is at work for, without running its code."""
        active.phase = ActorPhase.PARKING
        left = "" if request.left is None else request.left.id
        paused = events.Paused(storable(request.by), storable(request.why), left)
        record = NewRecord(self._environment.clock.now(), events.kind(paused), events.encode(paused))

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Exception):
                request.reply.fail(unconfirmed(active.flow_id, outcome))
            else:
                request.reply.resolve(None)
            self._leave(active)

        self._access.journal.tell(Entry(Append(active.flow_id, header.version, (record,), PAUSE), done))

    def blocked(self, active: ActiveFlow, blocked: requests.Blocked) -> None:
        """Park a flow whose code holds a thread. Its actor is given up, and writes nothing any more."""
        actor, held = blocked.actor, blocked.held
        place = f"a thread of the engine for {self._patience_s:g} s at {held.line}, in {held.function}()"
        if isinstance(actor.in_hand, requests.Ask):
            actor.in_hand.reply.fail(
                PersistasaurusError(f"{actor.in_hand.query!r} has held {place}, and was given up")
            )
            self._leave(active)
            return
        parked = events.Parked(
            "blocking",
            f"its code has held {place}. A body computes little and waits for nothing but what it awaits: put"
            " what takes time into a step, then retry",
            storable(held.stack),
        )
        try:
            header = self._access.store.header(active.flow_id)
        except StoreError as failure:
            _answer(actor.in_hand, unconfirmed(active.flow_id, failure))
            active.phase = ActorPhase.BACKOFF
            self.after(active, StoreUnavailable(str(failure)))
            return
        if header is not None and actor.is_unconfirmed:
            # What it has decided is of a flow that is not new. The next one looks first, and compares.
            active.held.appendleft(actor.in_hand._replace(may_be_new=False))
            self._leave(active)
            return
        inputs, consumed = inputs_of(actor.undecided())
        refusal = FlowParked(active.flow_id, parked.reason, parked.message)
        is_parked = header is None or header.status == "parked" or header.state is StreamState.ENDED
        if is_parked and not inputs:
            _answer(actor.in_hand, refusal)
            self._leave(active)
            return
        at = self._environment.clock.now()
        records = tuple(NewRecord(at, events.kind(e), events.encode(e)) for e in [*inputs, parked])
        version = 0 if header is None else header.version
        kind = actor.in_hand.type if header is None else None
        append = Append(active.flow_id, version, records, PARK, kind, consumed)

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Exception):
                _answer(actor.in_hand, unconfirmed(active.flow_id, outcome))
                self._hear(requests.NotParked(active.flow_id, active.incarnation, outcome))
                return
            # A flow that is parked has been started all the same.
            _answer(actor.in_hand, None if isinstance(actor.in_hand, requests.StartFlow) else refusal)
            self._hear(requests.Ended(active.flow_id, active.incarnation, parked, has_left=True))

        active.phase = ActorPhase.PARKING
        self._access.journal.tell(Entry(append, done))

    def _leave(self, active: ActiveFlow) -> None:
        """Have nobody at work for a flow, until there is something to do for it."""
        active.must_wake = True
        self._hear(requests.Passivated(active.flow_id, active.incarnation))

    def not_parked(self, active: ActiveFlow, error: Exception) -> None:
        """Decide anew, since that a flow crashes could not be recorded."""
        if isinstance(error, RecordCorrupt) and active.is_mute:
            self._give_up(active, error)
        elif isinstance(error, RecordCorrupt):
            active.is_mute = True
            self._park(active, error)
        else:  # it will crash again, and be parked then
            active.phase = ActorPhase.BACKOFF
            self.after(active, StoreUnavailable("that it crashes could not be recorded"))

    def _give_up(self, active: ActiveFlow, error: BaseException) -> None:
        """Leave a flow without an actor for a while, since nothing more can be recorded of it."""
        if active.flow_id not in self._given_up:
            self._given_up.add(active.flow_id)
            logger.error(
                "Flow %r cannot run, and not even be parked: %s. %s", active.flow_id, error, WHAT_TO_DO
            )
        active.phase = ActorPhase.BROKEN
        active.refuse(broken(active))
        self._later(active, self._rules.period_s)


def _needs_nobody(header: Header) -> bool:
    return header.state.is_over or header.status == "parked"


def _answer(request: Any, error: Exception | None) -> None:
    """Answer whoever has asked for something, if it was a request that a flow was at."""
    reply: Reply[Any] | None = getattr(request, "reply", None)
    if reply is not None and error is None:
        reply.resolve(None)
    elif reply is not None and error is not None:
        reply.fail(error)


def broken(active: ActiveFlow) -> StoreUnavailable:
    """Return what is told to whoever asks a flow that cannot even be started."""
    return StoreUnavailable(f"flow {active.flow_id!r} cannot be started: it crashes; the log says why")


def halted() -> StoreUnavailable:
    """Return what is told to whoever asks a flow that has to wait for the store."""
    return StoreUnavailable(
        "the store is halted: nothing was written; you can safely repeat this request later"
    )
