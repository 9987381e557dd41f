"""Passivation: flows that have nothing to do for now, the one first that has been idle longest."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtime.environment import Environment

__all__ = ["IdleFlows"]

_SWEEP_S = 1.0


class IdleFlows:
    """Says which flows are to be passivated: those idle for `idle_s`, and the oldest beyond `maximum`.

    `sweep` is called, from the alarms' thread, when it is time to ask for them.
    """

    def __init__(
        self, environment: Environment, idle_s: float, maximum: int, sweep: Callable[[], None]
    ) -> None:
        self._environment = environment
        self._idle_s = idle_s
        self._maximum = maximum
        self._sweep = sweep
        self._since: OrderedDict[str, float] = OrderedDict()
        self._is_sweeping = False

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, flow_id: str) -> str | None:
        """Note that a flow is idle from now on; return one to passivate at once."""
        self._since[flow_id] = self._environment.clock.elapsed()
        self._since.move_to_end(flow_id)
        self._sweep_later()
        return next(iter(self._since)) if len(self._since) > self._maximum else None

    def end(self, flow_id: str) -> None:
        """Note that a flow is idle no longer."""
        self._since.pop(flow_id, None)

    def overdue(self) -> list[str]:
        """Return those that have been idle for too long, at a sweep."""
        self._is_sweeping = False
        before = self._environment.clock.elapsed() - self._idle_s
        overdue: list[str] = []
        for flow_id, since in self._since.items():
            if since > before:
                self._sweep_later()
                break
            overdue.append(flow_id)
        return overdue

    def _sweep_later(self) -> None:
        if not self._is_sweeping:
            self._is_sweeping = True
            self._environment.alarms.call_at(
                self._environment.clock.elapsed() + min(_SWEEP_S, self._idle_s), self._sweep
            )
