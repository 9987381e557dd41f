"""An incarnation: one actor's state in memory, and the handlers that run on it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..errors import ActorStateError, PayloadError
from ..values.codec import DEFAULT_LIMITS, WIDEST_LIMITS
from ..values.sameness import Comparison, Pair
from .actor import new_actor

if TYPE_CHECKING:
    import msgspec

    from ..values.codec import PayloadLimits
    from .definition import ActorDefinition, Handler
    from .event_codec import RecordedEvent

logger = logging.getLogger("persistasaurus")

_TAIL_MIN = 512


class EntityIncarnation:
    """Folds events into a state, and runs commands and queries on it, one at a time.

    What a command records is applied at once. Should the command fail after that, the state becomes what it
    was before, which takes an older copy of it, as bytes, and the events since then. A new copy is made when
    those events have as many bytes as the last one: so what the copies cost grows with the events, whatever
    the size of the state, and most commands make none.

    Args:
        definition: the actor's class.
        actor_id: the actor's id.
        limits: bounds of each event, argument and reply.
        is_checked: whether to compare the state, after each handler, with what the events make of it.
    """

    __slots__ = (
        "_actor",
        "_can_keep",
        "_definition",
        "_failure",
        "_handler",
        "_is_applying",
        "_is_checked",
        "_kept",
        "_limits",
        "_recorded",
        "_tail",
        "_tail_size",
        "is_lost",
        "state",
    )

    def __init__(
        self,
        definition: ActorDefinition,
        actor_id: str,
        limits: PayloadLimits = DEFAULT_LIMITS,
        *,
        is_checked: bool = False,
    ) -> None:
        self.state: Any = definition.state.new()
        self.is_lost = False
        """Whether the state is not what it should be, and only all events could tell what that is."""
        self._definition = definition
        self._limits = limits
        self._is_checked = is_checked
        self._actor = new_actor(definition, actor_id, self)
        self._handler: Handler | None = None
        self._recorded: list[RecordedEvent] = []
        self._failure: BaseException | None = None
        self._is_applying = False
        self._can_keep = True
        self._kept: bytes | None = None
        self._tail: list[bytes] = []
        """The events since the state was kept."""
        self._tail_size = 0

    # -------------------------------------------------------------------------------------- recovery
    def replay(self, data: bytes) -> None:
        """Apply an event that was recorded earlier, before anything is handled.

        Raises:
            PayloadError: it is not an event of this class.
            Exception: whatever `apply` raises.
        """
        self._apply(self._definition.events.decode(data))

    # -------------------------------------------------------------------------------------- handling
    def handle(self, handler: Handler, values: msgspec.Struct) -> tuple[list[RecordedEvent], Any]:
        """Run a command or query; return what it has recorded, and its reply as the asker will see it.

        Raises:
            BaseException: whatever the handler raises. Then nothing was recorded, and unless `is_lost`, the
                state is as it was.
        """
        if self._is_checked and self._kept is None:
            self._keep()
        recorded = self._recorded = []
        self._failure, self._handler = None, handler
        try:
            reply = handler.parameters.call_other(handler.function, values, self._actor)
            self._raise_what_was_caught()
            _, reply = handler.result.seal(reply, self._limits)
            if self._is_checked:
                self._check(handler)
        except BaseException as error:
            if recorded or self._failure is not None or isinstance(error, ActorStateError):
                self._undo()
            raise
        finally:
            self._handler, self._recorded = None, []
        for event in recorded:
            self._tail.append(event.data)
            self._tail_size += len(event.data)
        return recorded, reply

    def _raise_what_was_caught(self) -> None:
        """Raise the error of an `apply` that the handler has caught: the state may be half changed."""
        if self._failure is not None:
            raise self._failure

    def record(self, event: Any, /) -> None:
        """Record an event for the command that is being handled; raises like `EventSourcedActor.record`."""
        handler = self._handler
        if handler is None or not handler.is_command or self._is_applying:
            where = "apply()" if self._is_applying else "no command" if handler is None else handler.what
            raise RuntimeError(
                f"{self._actor!r}: record() was called in {where}; only a command records events"
            )
        recorded, decoded = self._definition.events.seal(event, self._limits)
        if not self._recorded and (self._kept is None or self._tail_size > max(_TAIL_MIN, len(self._kept))):
            self._keep()
        try:
            self._apply(decoded)
        except BaseException as error:
            self._failure = error
            raise
        self._recorded.append(recorded)

    def _apply(self, event: Any) -> None:
        self._is_applying = True
        try:
            returned = self._actor.apply(self.state, event)
        finally:
            self._is_applying = False
        if returned is not None:
            raise TypeError(
                f"{type(self._actor).__name__}.apply() returned {returned!r}: it changes the state that it is"
                " given, and returns nothing"
            )

    # ------------------------------------------------------------------------------------- older states
    def _keep(self) -> None:
        """Keep the state as it is, to come back to. If its bytes would not bring it back, keep nothing."""
        self._tail.clear()
        self._tail_size = 0
        if not self._can_keep:
            return
        try:
            self._kept, _ = self._definition.state.codec.seal(self.state, WIDEST_LIMITS)
        except PayloadError as error:
            self._kept, self._can_keep = None, False
            logger.warning("%r is slow to undo a command, and cannot be checked: %s", self._actor, error)

    def _undo(self) -> None:
        """Go back to the state before the handler."""
        try:
            self.state = self._as_recorded([])
        except BaseException:  # noqa: BLE001 - the user's `apply` does not do the same again
            self.is_lost = True

    def _as_recorded(self, more: list[RecordedEvent]) -> Any:
        """Return what the events make of the state; `more` are those of this handler."""
        if self._kept is None:
            raise LookupError
        live = self.state
        self.state = rebuilt = self._definition.state.codec.decode(self._kept)
        try:
            for data in (*self._tail, *(event.data for event in more)):
                self.replay(data)
        finally:
            self.state = live
        return rebuilt

    def _check(self, handler: Handler) -> None:
        """Find changes of the state that no event has made.

        Raises:
            ActorStateError: it names what has changed.
        """
        if self._kept is None:
            return
        pairs = [Pair("state", self.state, self._as_recorded(self._recorded))]
        change = Comparison().first_difference(pairs)
        if change is not None:
            raise ActorStateError(
                f"{handler.what} changed {change.path} outside of apply(): it is {change.live!r}, and the"
                f" events make {change.rebuilt!r} of it. Record an event, and change the state in apply()"
            )
