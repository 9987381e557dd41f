"""Surroundings: what a flow actor finds when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..store.blackbox import BlackBox

if TYPE_CHECKING:
    from collections.abc import Callable

    from .awaited import Awaited
    from .event_sourced import Home
    from .heartbeat import Heartbeat
    from .moments import Moments
    from .recovery import Recovery
    from .seam import Seam
    from .step_desk import StepDesk
    from .tenancy import Tenancy

__all__ = ["Bell", "Surroundings"]

_NOWHERE = BlackBox()


class Surroundings(NamedTuple):
    """What all flow actors of a system share."""

    home: Home
    recovery: Recovery
    desk: StepDesk
    seam: Seam
    moments: Moments
    arm: Callable[[str, float], None]
    report: Callable[[Any], None]
    tenancy: Tenancy
    damaged: set[str]
    """Flows with a damaged header, of which that was said: once is enough."""
    awaited: Awaited
    box: BlackBox = _NOWHERE
    heart: Heartbeat | None = None


class Bell:
    """Whether the flow has been rung for and has not looked yet. Many rings are one."""

    __slots__ = ("is_rung",)

    def __init__(self) -> None:
        self.is_rung = False
