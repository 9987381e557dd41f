"""Turns: steps that may have killed the process run one at a time, so that the culprit is found out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from . import requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..runtime.environment import Environment

__all__ = ["Turns"]

_TRUST_S = 10.0
"""A step that has run for so long is taken not to be the culprit."""


class Turns:
    """Gives suspected steps their turn. `tell` brings a message to a flow, if its actor is alive."""

    def __init__(
        self, environment: Environment, tell: Callable[[str, object], bool], hear: Callable[[object], None]
    ) -> None:
        self._environment = environment
        self._tell = tell
        self._hear = hear
        self._waiting: deque[requests.AskTurn] = deque()
        self._flow_id: str | None = None
        self._number = 0

    def ask(self, asked: requests.AskTurn) -> None:
        """Let a step run when its turn comes."""
        self._waiting.append(asked)
        self._next()

    def over(self, flow_id: str, turn: int | None = None) -> None:
        """End a flow's turn, if it has it; `turn`: only if it is still that one."""
        if self._flow_id == flow_id and turn in (None, self._number):
            self._flow_id = None
            self._next()

    def _next(self) -> None:
        while self._flow_id is None and self._waiting:
            flow_id, step = self._waiting.popleft()
            if not self._tell(flow_id, requests.StepTurn(step)):
                continue  # its next actor asks anew
            self._number += 1
            self._flow_id = flow_id
            over = requests.TurnOver(flow_id, self._number)
            self._environment.alarms.call_at(
                self._environment.clock.elapsed() + _TRUST_S, lambda over=over: self._hear(over)
            )
