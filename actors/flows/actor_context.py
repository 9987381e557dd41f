"""The actor context: what a flow actor finds when it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...store.files.black_box import BlackBox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..persistence.persistent_actor import StreamAccess
    from ..persistence.single_actor_guard import SingleActorGuard
    from ..runtime.environment import Environment
    from ..steps.attempts import AttemptRegistry
    from .awaited import Awaited
    from .clock import JumpAwareClock
    from .heartbeat import Heartbeat
    from .recovery import Recovery
    from .starting import Starts

__all__ = ["ActorContext"]

_NOWHERE = BlackBox()


class ActorContext(NamedTuple):
    """What all flow actors of a system share."""

    access: StreamAccess
    recovery: Recovery
    attempts: AttemptRegistry
    environment: Environment
    clock: JumpAwareClock
    arm: Callable[[str, float], None]
    report: Callable[[Any], None]
    guard: SingleActorGuard
    damaged: set[str]
    """Flows with a damaged header, of which that was said: once is enough."""
    awaited: Awaited
    starts: Starts
    box: BlackBox = _NOWHERE
    heart: Heartbeat | None = None
