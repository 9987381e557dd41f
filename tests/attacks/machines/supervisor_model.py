"""When a supervisor may start which flow, as plain sums: waits, budgets, and who must not be started."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING

from persistasaurus.actors.persistence.persistent_actor import StaleWriterError
from persistasaurus.flows.errors import StoreUnavailable
from persistasaurus.store import RecordCorrupt, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.flows.active_flow import RestartRules

SOON = 1e-6
"""Seconds that sums of floats may be off by."""


class Lot:
    """What a flow has to wait for, while it has no actor."""

    def __init__(self) -> None:
        self.crashes: list[float] = []
        self.stumbles = 0
        self.wait: tuple[float, float] | None = None
        """Not before the one instant, and not after the other; infinite: the store comes first."""
        self.is_parking = False
        self.broken_until = -math.inf

    @property
    def is_waiting(self) -> bool:
        return self.wait is not None or self.is_parking

    def is_broken(self, now: float) -> bool:
        return now < self.broken_until


class ModelSupervisor:
    """`can_be_parked` says of a flow's header whether it can be, or None when it cannot be read."""

    def __init__(self, rules: RestartRules, can_be_parked: Callable[[str], bool | None]) -> None:
        self._rules = rules
        self._can_be_parked = can_be_parked
        self._is_store_up = True
        self.refuses = False
        self.is_finishing = False
        self.lots: dict[str, Lot] = defaultdict(Lot)

    def began(self, flow_id: str, now: float) -> None:
        lot = self.lots[flow_id]
        assert not self.is_finishing, "it is started after all have left"
        assert not lot.is_parking, "it is started while it is being parked"
        assert now >= lot.broken_until - SOON, "it is started although it is broken"
        if lot.wait is not None:
            assert now >= lot.wait[0] - SOON, f"it is started {lot.wait[0] - now} s too early"
        lot.wait = None
        if lot.broken_until > -math.inf:
            self.forgotten(flow_id)  # long ago

    def recovered(self, flow_id: str) -> None:
        self.lots[flow_id].stumbles = 0

    def forgotten(self, flow_id: str) -> None:
        self.lots.pop(flow_id, None)

    def crashed(self, flow_id: str, error: BaseException, now: float) -> None:
        lot = self.lots[flow_id]
        if self.refuses:
            self.forgotten(flow_id)
        elif isinstance(error, RecordCorrupt):
            self._park(flow_id, now)
        elif isinstance(error, (StoreUnavailable, StoreError, StaleWriterError)):
            self._stumble(lot, now)
        else:
            since = now - self._rules.period_s
            lot.crashes = [*(at for at in lot.crashes if at >= since), now]
            if len(lot.crashes) > self._rules.max_restarts:
                self._park(flow_id, now)
            else:
                lot.wait = self._about(now, len(lot.crashes))

    def _stumble(self, lot: Lot, now: float) -> None:
        if self._is_store_up:
            lot.stumbles += 1
            lot.wait = self._about(now, lot.stumbles)
        else:
            lot.wait = math.inf, math.inf

    def _about(self, now: float, times: int) -> tuple[float, float]:
        rules = self._rules
        wait = min(rules.initial_s * rules.factor ** (times - 1), rules.maximum_s)
        return now + wait * (1 - rules.jitter), now + wait * (1 + rules.jitter)

    def _park(self, flow_id: str, now: float) -> None:
        lot = self.lots[flow_id]
        can_be = self._can_be_parked(flow_id)
        if can_be is None:
            self._stumble(lot, now)
        elif can_be:
            lot.is_parking = True
        else:
            lot.broken_until = now + self._rules.period_s

    def not_parked(self, flow_id: str, now: float) -> None:
        lot = self.lots[flow_id]
        lot.is_parking = False
        self._stumble(lot, now)

    def store_is(self, *, up: bool, now: float) -> None:
        self._is_store_up = up
        for lot in self.lots.values():
            if up and lot.wait is not None:
                lot.wait = -math.inf, now

    def fenced(self) -> None:
        self.refuses, self._is_store_up = True, False
        for lot in self.lots.values():
            lot.wait = None
