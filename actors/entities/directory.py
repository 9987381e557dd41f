"""The directory of entities: where calls are sent, whoever lives and whoever rests.

A call is put into its entity's mailbox under the directory's lock, and an entity takes itself out under the
same lock, when it has no mail. So no call is put where nobody looks any more, and calls of one sender keep
their order whether the entity lived or not.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from ...flows.errors import (
    ActorFailed,
    ActorTypeMismatch,
    DeadlockError,
    MailboxFull,
    StoreUnavailable,
    SystemClosed,
)
from ...store import StoreError
from ..runtime.dispatcher import DispatcherClosedError
from ..runtime.futures import Reply
from ..runtime.mailbox import Letter
from ..runtime.primitives import Lock
from .entity_actor import EntityActor, EntityContext
from .handling import handling
from .messages import FinishAll, HandleCall, LookAt
from .stream_type import check_stream_type

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pykka._envelope import Envelope

    from ...flows.entities.definition import ActorDefinition
    from ...flows.values.codec import PayloadLimits
    from ..persistence.persistent_actor import StreamAccess
    from ..persistence.single_actor_guard import SingleActorGuard
    from ..runtime.environment import Environment
    from ..runtime.scheduler import Scheduler

__all__ = ["EntityDirectory"]

logger = logging.getLogger("persistasaurus")

_CLOSED = "the system is closed"


class EntityDirectory:
    """Sends calls to entities, one live actor a stream, which it starts when there is none."""

    def __init__(  # noqa: PLR0913 - settings, all by name
        self,
        *,
        access: StreamAccess,
        scheduler: Scheduler,
        environment: Environment,
        limits: PayloadLimits,
        guard: SingleActorGuard,
        is_store_up: Callable[[], bool],
        is_checked: bool,
    ) -> None:
        self.limits = limits
        self._store = access.store
        self._scheduler = scheduler
        self._context = EntityContext(
            access, environment, limits, guard, is_store_up, self._release, is_checked
        )
        self._guard = guard
        self._lock = Lock()
        self._live: dict[str, EntityActor] = {}
        self._waits: dict[str, str] = {}
        """Which entity's handler waits for the answer of which."""
        self._is_closing = False

    @property
    def live(self) -> int:
        """How many entities are in memory."""
        return len(self._live)

    def awake(self, definition: ActorDefinition, stream: str) -> EntityActor:
        """Have an entity recovered, if it does not live; return it, for a look at it between two turns.

        Raises:
            ActorTypeMismatch, ActorFailed, StoreUnavailable: it cannot be recovered.
        """
        reply: Reply[EntityActor] = Reply()
        self.send(definition, stream, LookAt(reply))
        return reply.get()

    # --------------------------------------------------------------------------------------- sending
    def send(self, definition: ActorDefinition, stream: str, call: HandleCall | LookAt) -> None:
        """Put a call into an entity's mailbox; start the entity if it does not live.

        Raises:
            ActorTypeMismatch: the stream is a flow, or an actor of another class.
            MailboxFull: too many calls wait for this entity.
            SystemClosed: no more calls are accepted.
        """
        if not self._put(definition, stream, call):
            self._check_type(definition, stream)
            self._put(definition, stream, call, may_start=True)

    def _check_type(self, definition: ActorDefinition, stream: str) -> None:
        """Look into the store; without the lock, since that may take as long as the disk does."""
        try:
            check_stream_type(self._store, self._store.header(stream), definition)
        except StoreError as error:
            raise StoreUnavailable(f"{stream!r} cannot be looked up: {error}") from error

    def _put(
        self, definition: ActorDefinition, stream: str, call: HandleCall | LookAt, *, may_start: bool = False
    ) -> bool:
        """Put a call into the mailbox of a live entity; False: there is none, and none may be started."""
        with self._lock:
            if self._is_closing:
                raise SystemClosed(_CLOSED)
            entity = self._live.get(stream)
            if entity is None or entity.actor_stopped.is_set():
                if not may_start:
                    return False
                entity = self._started(definition, stream)
            if entity.definition is not definition:
                raise ActorTypeMismatch(
                    f"{stream!r} cannot be opened as the actor {definition.name!r}: it is an actor"
                    f" {entity.definition.name!r}"
                )
            if entity.accepted - entity.settled >= definition.mailbox:
                raise MailboxFull(
                    f"{entity.described()} has {definition.mailbox:,} messages that wait; this one was not"
                    " accepted, send it again later"
                )
            entity.accepted += type(call) is HandleCall
            entity.actor_inbox.put(cast("Envelope[Any]", Letter(call)))
            return True

    def _started(self, definition: ActorDefinition, stream: str) -> EntityActor:
        entity = EntityActor(definition, stream, self._context)
        try:
            entity.actor_inbox.attach(entity, self._scheduler)
        except DispatcherClosedError:
            raise SystemClosed(_CLOSED) from None
        self._live[stream] = entity
        return entity

    def _release(self, entity: EntityActor) -> bool:
        """Take an entity out, unless it has mail. Nothing is put into its mailbox after that."""
        with self._lock:
            if entity.actor_inbox.has_mail():
                return False
            self._guard.leave(entity.stream, entity)
            if self._live.get(entity.stream) is entity:
                del self._live[entity.stream]
            return True

    @staticmethod
    def undelivered(call: HandleCall | LookAt) -> None:
        """Answer for a call whose entity has ended before it began it."""
        if call.reply is not None:
            call.reply.fail(ActorFailed("the actor has crashed before it came to this message"))
        else:
            logger.warning("Dead letter: %s was lost: its actor has crashed", call.handler.what)

    # --------------------------------------------------------------------------------------- waiting
    @contextmanager
    def waiting_for(self, stream: str) -> Generator[None]:
        """Be entered by whoever waits for an entity's answer.

        Raises:
            DeadlockError: that entity waits, directly or by way of others, for the handler that calls this.
        """
        caller = handling.stream
        if caller is None:
            yield
            return
        with self._lock:
            self._refuse_circle(caller, stream)
            self._waits[caller] = stream
        try:
            yield
        finally:
            del self._waits[caller]

    def _refuse_circle(self, caller: str, stream: str) -> None:
        at: str | None = stream
        while at is not None:
            if at == caller:
                how = "itself" if at == stream else f"{stream!r}, which waits for it"
                raise DeadlockError(
                    f"the handler of actor {caller!r} asks {how}: neither would ever be answered. A command"
                    " calls others of the same actor as methods, self.withdraw(...); to another actor, tell()"
                )
            at = self._waits.get(at)

    # --------------------------------------------------------------------------------------- closing
    def finish(self) -> list[Reply[None]]:
        """Accept nothing more; return what each live entity resolves when it has answered everything."""
        with self._lock:
            self._is_closing = True
            replies: list[Reply[None]] = []
            for entity in self._live.values():
                if not entity.actor_stopped.is_set():
                    replies.append(Reply())
                    entity.actor_inbox.put(cast("Envelope[Any]", Letter(FinishAll(replies[-1]))))
        return replies
