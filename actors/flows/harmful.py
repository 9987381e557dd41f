"""Harmful flows: those whose code must not even begin before a person retries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...flows import events
from .parking import HARMFUL

if TYPE_CHECKING:
    from .parking import LastWord

__all__ = ["HarmfulFlows"]

_KNOWN_MAX = 10_000


class HarmfulFlows:
    """Knows which flows are parked because their code blocked a thread, or killed the process.

    A start that no store is asked about first runs the beginning of the flow's code. So until all parked
    flows have been looked at, and when there are too many to remember, any flow may be harmful.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._is_complete = False

    def __contains__(self, flow_id: str) -> bool:
        """Whether a flow may be harmful."""
        return not self._is_complete or flow_id in self._known or len(self._known) > _KNOWN_MAX

    def complete(self) -> None:
        """Note that all parked flows have been looked at."""
        self._is_complete = True

    def add(self, flow_id: str) -> None:
        """Note that a flow is harmful."""
        if len(self._known) <= _KNOWN_MAX:
            self._known.add(flow_id)

    def look_at(self, flow_id: str, word: LastWord | None) -> None:
        """Look why a flow is parked. If nothing says so, it may be harmful."""
        if word is None:
            self.add(flow_id)
        else:
            self.hear(flow_id, word)

    def hear(self, flow_id: str, word: LastWord) -> None:
        """Take note of how a flow has ended, or why it is parked."""
        if isinstance(word, events.Parked) and word.reason in HARMFUL:
            self.add(flow_id)
