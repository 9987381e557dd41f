"""An active flow: what the supervisor knows of one flow that is at work, or on its way there or back."""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from ...flows.values.settings import check_count, check_seconds, check_type
from ..runtime.actor import try_tell
from . import requests
from .wake_flag import WakeFlag

if TYPE_CHECKING:
    from pykka import ActorRef

    from .flow_actor import FlowActor

__all__ = ["ActiveFlow", "ActorPhase", "RestartRules", "SupervisorRules"]

_EXPONENT = 64


class ActorPhase(enum.Enum):
    """Where a flow's actor stands."""

    QUEUED = "queued"
    """It waits until fewer others recover."""
    ACTIVATING = "activating"
    LIVE = "live"
    PASSIVATING = "passivating"
    """It was asked to stop, and has not answered."""
    BACKOFF = "backoff"
    """It has crashed, and waits to be restarted."""
    PARKING = "parking"
    """It has crashed too often; that it is parked is being recorded."""
    BROKEN = "broken"
    """It is parked, or has ended, and crashes all the same: nobody can be answered for a while."""


class RestartRules(msgspec.Struct, frozen=True):
    """When a crashed flow is started anew: after growing waits, and so often within a period. Seconds."""

    initial_s: float = 0.05
    factor: float = 2.0
    maximum_s: float = 30.0
    jitter: float = 0.2
    max_restarts: int = 5
    period_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what is no time, and what nobody can count to."""
        for option in ("initial_s", "maximum_s", "period_s"):
            check_seconds("RestartRules", option, getattr(self, option))
        check_seconds("RestartRules", "factor", self.factor, least=1.0)
        check_seconds("RestartRules", "jitter", self.jitter)
        check_count("RestartRules", "max_restarts", self.max_restarts, least=0)


class SupervisorRules(msgspec.Struct, frozen=True):
    """How flows are kept. Seconds, where it is about time."""

    idle_s: float = 5.0
    max_idle: int = 200
    """More idle flows than that, and the one that has been idle longest is passivated at once."""
    max_activations: int = 64
    restart: RestartRules = RestartRules()
    horizon_s: float = 30.0
    """So far ahead it is known in memory whose time comes when; what is later stays in the store."""
    report_blocking_s: float = 1.0
    """Code that holds a thread of the engine for so long is named in the log."""
    park_blocking_s: float = 5.0
    """And after so long its flow is parked."""
    max_active: int = 10_000
    """So many flows are at work at a time: their code runs, or their steps run or wait for a thread.

    More flows, new ones too, are recorded, and wait in the store for their turn. Flows that wait for time or
    a signal do not count. An eighth more new ones may begin, and flows whose result a step waits for always
    do. A flow at work takes some 15 KB of memory."""

    def __post_init__(self) -> None:
        """Refuse what is no time, and what nobody can count to.

        Raises:
            TypeError, ValueError: saying which, and what it may be.
        """
        check_seconds("SupervisorRules", "idle_s", self.idle_s)
        check_seconds("SupervisorRules", "horizon_s", self.horizon_s)
        check_seconds("SupervisorRules", "report_blocking_s", self.report_blocking_s)
        check_seconds("SupervisorRules", "park_blocking_s", self.park_blocking_s)
        check_count("SupervisorRules", "max_idle", self.max_idle, least=0)
        check_count("SupervisorRules", "max_activations", self.max_activations)
        check_count("SupervisorRules", "max_active", self.max_active)
        check_type("SupervisorRules", "restart", self.restart, RestartRules)


class ActiveFlow:
    """One flow, as the supervisor sees it. `held` are requests that came at a bad time."""

    __slots__ = (
        "_crashes",
        "_stumbles",
        "flow_id",
        "held",
        "incarnation",
        "is_certain",
        "is_mute",
        "is_over",
        "must_wake",
        "phase",
        "ref",
        "wake_flag",
    )

    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id
        self.incarnation = 0
        self.phase = ActorPhase.QUEUED
        self.ref: ActorRef[FlowActor] | None = None
        self.wake_flag = WakeFlag()
        self.must_wake = False
        self.is_certain = False
        """Whether it is to have an actor however it stands, and not only if it has something to do."""
        self.is_over = False
        """Whether its end has been announced, or was there before."""
        self.is_mute = False
        """Whether nothing more can be put on record of it, but how it stands."""
        self.held: deque[requests.Request] = deque()
        self._crashes: deque[float] | None = None
        self._stumbles = 0

    @property
    def is_broken(self) -> bool:
        """Whether it gets no actor for a while. What it has come to is on record already."""
        return self.phase is ActorPhase.BROKEN

    def begin(self, incarnation: int) -> None:
        """Note that an actor is about to be started. Its reports may come before its reference."""
        self.incarnation = incarnation
        self.phase = ActorPhase.ACTIVATING
        self.ref = None
        self.wake_flag = WakeFlag()

    def tell(self, message: Any) -> bool:
        """Tell the actor; say whether it was alive."""
        return self.ref is not None and try_tell(self.ref, message)

    def wake(self) -> None:
        """Wake the actor, unless it has not yet looked since the last time."""
        self.must_wake = False
        if not self.wake_flag.is_set:
            self.wake_flag.is_set = True
            self.tell(requests.Wake(self.flow_id))

    def hand_over(self) -> None:
        """Tell the actor what was held for it."""
        while self.held and self.tell(self.held[0]):
            self.held.popleft()
        if self.must_wake and self.phase is ActorPhase.LIVE:
            self.wake()

    def refuse(self, why: Exception) -> None:
        """Refuse what was held for the actor."""
        while self.held:
            self.held.popleft().reply.fail(why)

    def refuse_until_started(self, why: Exception) -> None:
        """Refuse what was asked before anybody has asked to start the flow."""
        while self.held and not isinstance(self.held[0], requests.StartFlow):
            self.held.popleft().reply.fail(why)

    def note_crash(self, now: float, rules: RestartRules, chance: float) -> float | None:
        """Count a crash; return how long to wait, or None when there were too many."""
        if self._crashes is None:
            self._crashes = deque()
        self._crashes.append(now)
        while self._crashes[0] < now - rules.period_s:
            self._crashes.popleft()
        if len(self._crashes) > rules.max_restarts:
            return None
        return _wait(len(self._crashes), rules, chance)

    def note_stumble(self, rules: RestartRules, chance: float) -> float:
        """Take note that the store, and not the flow, was to blame; return how long to wait."""
        self._stumbles += 1
        return _wait(self._stumbles, rules, chance)

    def note_recovery(self) -> None:
        """Take note that the store can be read again."""
        self._stumbles = 0


def _wait(times: int, rules: RestartRules, chance: float) -> float:
    wait = rules.initial_s * rules.factor ** min(times - 1, _EXPONENT)
    return min(wait, rules.maximum_s) * (1 + rules.jitter * (2 * chance - 1))
