"""Bounds of one flow's history."""

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
    """How many times the process may die during one step before its flow is parked."""

    def __post_init__(self) -> None:
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
        """Below these there is nothing to check."""

    def look(self, version: int, size: int, effects: list[AnyEffect]) -> str | None:
        """Warn of a long history once; return why its flow must be parked, or None."""
        limits = self._limits
        if version >= limits.events or size >= limits.history_bytes:
            return f"{version:,} events, {size:,} bytes: raise Limits, then retry"
        if not self._warned:
            self._warned = True
            warning = (
                f"flow {self._flow_id!r} has {version:,} events ({size:,} bytes); it will be parked at"
                f" {limits.events:,} events or {limits.history_bytes:,} bytes"
            )
            effects.append(Warn(warning))
        return None
