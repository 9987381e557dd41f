"""How long one flow's history may become."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..values.codec import DEFAULT_LIMITS, PayloadLimits
from ..values.settings import check_count, check_type
from .effects import Warn

if TYPE_CHECKING:
    from .effects import AnyEffect

_WARN_SHARE = 5


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one flow. A warning comes at a fifth of `events` and of `history_bytes`."""

    events: int = 50_000
    history_bytes: int = 50 << 20
    payload: PayloadLimits = DEFAULT_LIMITS
    poison_after: int = 3
    """So often may the process die during one step before its flow is parked."""

    def __post_init__(self) -> None:
        """Refuse what is no bound.

        Raises:
            TypeError, ValueError: saying which, and what it may be.
        """
        check_count("Limits", "events", self.events)
        check_count("Limits", "history_bytes", self.history_bytes)
        check_count("Limits", "poison_after", self.poison_after)
        check_type("Limits", "payload", self.payload, PayloadLimits)


DEFAULT = Limits()


class LengthWatch:
    """Warns once when a history grows long, and says when it is too long."""

    def __init__(self, flow_id: str, limits: Limits) -> None:
        self._flow_id = flow_id
        self._limits = limits
        self._warned = False
        self.short_events = limits.events // _WARN_SHARE
        self.short_bytes = limits.history_bytes // _WARN_SHARE
        """Below these there is nothing to look at."""

    def look(self, version: int, size: int, effects: list[AnyEffect]) -> str | None:
        """Look at the length of a history, and return why its flow is to be parked; None while it is not."""
        limits = self._limits
        if version >= limits.events or size >= limits.history_bytes:
            return f"{version:,} events, {size:,} bytes: raise Limits, then retry"
        if not self._warned:
            self._warned = True
            effects.append(Warn(self._warning(version, size)))
        return None

    def _warning(self, version: int, size: int) -> str:
        return (
            f"flow {self._flow_id!r} has {version:,} events ({size:,} bytes); it will be parked at"
            f" {self._limits.events:,} events or {self._limits.history_bytes:,} bytes"
        )
