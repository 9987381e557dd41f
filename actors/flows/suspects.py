"""Suspects: steps that may have killed the process run one at a time, so that the culprit is found out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from . import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtime.environment import Environment

__all__ = ["SuspectQueue"]

_TRUST_S = 10.0
"""A step that has run for so long is taken not to be the culprit."""


class SuspectQueue:
    """Gives suspected steps the one slot to run in. `tell` brings a flow a message, if its actor lives."""

    def __init__(
        self, environment: Environment, tell: Callable[[str, object], bool], hear: Callable[[object], None]
    ) -> None:
        self._environment = environment
        self._tell = tell
        self._hear = hear
        self._waiting: deque[requests.RequestSlot] = deque()
        self._flow_id: str | None = None
        self._number = 0

    def ask(self, asked: requests.RequestSlot) -> None:
        """Let a step run when the slot is free."""
        self._waiting.append(asked)
        self._next()

    def over(self, flow_id: str, slot: int | None = None) -> None:
        """Free the slot, if this flow has it; `slot`: only if it is still that one."""
        if self._flow_id == flow_id and slot in (None, self._number):
            self._flow_id = None
            self._next()

    def _next(self) -> None:
        while self._flow_id is None and self._waiting:
            flow_id, step = self._waiting.popleft()
            if not self._tell(flow_id, requests.SlotGranted(step)):
                continue  # its next actor asks anew
            self._number += 1
            self._flow_id = flow_id
            over = requests.SlotFreed(flow_id, self._number)
            self._environment.alarms.call_at(
                self._environment.clock.elapsed() + _TRUST_S, lambda over=over: self._hear(over)
            )
