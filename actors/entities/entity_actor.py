"""The actor behind a reference: one entity at work, on a carrier's turn.

It decides at once, and records in groups. While an append is under way further messages are handled on the
state as it will be, and what they record goes with the next append. A reply waits for the append that holds
what its handler has recorded or seen. When an append fails, all replies that depend on it do, and the entity
is recovered from its log; messages that were not begun are handled after that.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ...flows.entities.incarnation import EntityIncarnation
from ...flows.errors import ActorFailed, PersistasaurusError, Refused, StoreUnavailable
from ...store import Append, Appended, HeaderChange, NewRecord, StreamState
from ..persistence.persistent_actor import ACTOR_STATUS, cause_of
from ..runtime.actor import EscapedError, PooledActor, try_tell
from .handling import handling
from .messages import HandleCall, LookAt, LookIfIdle, PendingAppend
from .stream_type import check_stream_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...flows.entities.definition import ActorDefinition
    from ...flows.values.codec import PayloadLimits
    from ..persistence.persistent_actor import StreamAccess
    from ..persistence.single_actor_guard import SingleActorGuard
    from ..runtime.environment import Environment
    from ..runtime.futures import Reply
    from ..runtime.primitives import AlarmHandle

__all__ = ["EntityActor", "EntityContext"]

logger = logging.getLogger("persistasaurus")

_RECORDS_MAX = 1024
"""As many records go with one append; when more wait, no message is begun until that is durable."""


class EntityContext(NamedTuple):
    """What all entities of a system share."""

    access: StreamAccess
    environment: Environment
    limits: PayloadLimits
    guard: SingleActorGuard
    is_store_up: Callable[[], bool]
    release: Callable[[EntityActor], bool]
    """Take an entity out of the directory, unless it has mail."""
    is_checked: bool


class _PendingReply(NamedTuple):
    """What a handler has come to, and cannot be said before it is durable."""

    call: HandleCall
    value: Any
    error: BaseException | None


class EntityActor(PooledActor):
    """One entity in memory: the instance of the user's class, the end of its stream, and who waits."""

    def __init__(self, definition: ActorDefinition, stream: str, context: EntityContext) -> None:
        super().__init__()
        self.definition = definition
        self.stream = stream
        self.accepted = 0
        """How many calls were put into the mailbox. The directory counts them."""
        self.settled = 0
        """How many of them have been answered."""
        self._context = context
        self._incarnation: EntityIncarnation | None = None
        self._refusal: Exception | None = None
        """Why nothing can be handled; it is tried again when all who wait have heard of it."""
        self._version = 0
        self._has_header = False
        self._under_way: list[_PendingReply] | None = None
        """Who waits for the append that is under way."""
        self._next: list[_PendingReply] = []
        """Who waits for the append after that."""
        self._records: list[NewRecord] = []
        self._held: deque[HandleCall] | None = None
        """Calls that wait until something has been recorded; most actors never need it."""
        self._finishing: tuple[Reply[None], ...] = ()
        self._last_used_s = 0.0
        self._alarm: AlarmHandle | None = None
        self._has_left = False

    def described(self) -> str:
        """Say who this is."""
        return f"Actor {self.definition.name} {self.stream!r}"

    @property
    def state(self) -> Any:
        """The state, for a look from outside between two turns."""
        return None if self._incarnation is None else self._incarnation.state

    # ------------------------------------------------------------------------------------- recovery
    def on_start(self) -> None:
        """Recover, before any message."""
        self._context.guard.enter(self.stream, self)
        self._recover()
        self._last_used_s = self._context.environment.clock.elapsed()
        self._set_alarm(self._last_used_s)

    def _recover(self) -> None:
        """Make the state anew from the log."""
        self._incarnation = self._refusal = None
        try:
            self._incarnation = self._recovered()
        except BaseException as error:  # noqa: BLE001 - the user's, or the store's: whoever asks hears of it
            self._refusal = self._refusal_for(error)

    def _recovered(self) -> EntityIncarnation:
        if not self._context.is_store_up():
            raise StoreUnavailable(f"{self.described()} cannot be recovered: the store is halted")
        store = self._context.access.store
        incarnation = EntityIncarnation(
            self.definition, self.stream, self._context.limits, is_checked=self._context.is_checked
        )
        header = store.header(self.stream)
        self._version, self._has_header = 0, header is not None and header.is_sound
        if header is None:
            return incarnation
        check_stream_type(store, header, self.definition)
        for record in store.read(self.stream):
            try:
                incarnation.replay(record.data)
            except Exception as error:
                error.add_note(f"while event {record.version}, {record.kind!r}, was applied")
                raise
            self._version = record.version
        return incarnation

    def _refusal_for(self, error: BaseException) -> Exception:
        if isinstance(error, PersistasaurusError) and not isinstance(error, Refused):
            return error
        notes = "; ".join(getattr(error, "__notes__", ()))
        shown = f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else "")
        failed = ActorFailed(f"{self.described()} cannot be recovered from its events: {shown}")
        failed.__cause__ = error
        logger.error("%s", failed, exc_info=error)
        return failed

    # ------------------------------------------------------------------------------------- messages
    def on_receive(self, message: Any) -> None:
        """Take a message. The frequent ones come first."""
        kind = cast("type[object]", type(message))
        if kind is HandleCall:
            self._take(message)
        elif kind is PendingAppend:
            self._on_done(message)
        elif kind is LookIfIdle:
            self._on_alarm()
        elif kind is LookAt:
            self._show_itself(message.reply)
        else:
            self._finishing = (*self._finishing, message.reply)
        self._go_on()

    def _show_itself(self, reply: Reply[Any]) -> None:
        if self._refusal is None:
            reply.resolve(self)
        else:
            reply.fail(self._refusal)

    def _take(self, call: HandleCall) -> None:
        self._last_used_s = self._context.environment.clock.elapsed()
        if self._held or self._must_wait():
            if self._held is None:
                self._held = deque()
            self._held.append(call)
        else:
            self._handle(call)

    def _must_wait(self) -> bool:
        """Tell whether an append has to be answered before another message can be begun."""
        return self._is_lost or len(self._records) >= _RECORDS_MAX

    @property
    def _is_lost(self) -> bool:
        """Whether the state has to be made anew, when all that was decided on it is recorded."""
        return self._incarnation is not None and self._incarnation.is_lost

    def _handle(self, call: HandleCall) -> None:
        incarnation = self._incarnation
        if incarnation is None:
            self._settle([_PendingReply(call, None, self._refusal)])
            return
        value: Any = None
        raised: BaseException | None = None
        before, handling.stream = handling.stream, self.stream
        try:
            recorded, value = incarnation.handle(call.handler, call.values)
        except BaseException as error:  # noqa: BLE001 - the asker's
            raised = error if isinstance(error, Exception) else _escaped(call, error)
        else:
            if recorded:
                now = self._context.access.clock.now()
                self._records += [NewRecord(now, kind, data) for kind, data in recorded]
        finally:
            handling.stream = before
        self._answer(_PendingReply(call, value, raised))
        self._recover_if_lost()

    def _answer(self, answer: _PendingReply) -> None:
        """Answer now, or with the append that holds what the handler has seen."""
        if self._records:
            self._next.append(answer)
        elif self._under_way is not None:
            self._under_way.append(answer)
        else:
            self._settle([answer])

    def _settle(self, answers: list[_PendingReply]) -> None:
        for call, value, error in answers:
            if call.reply is None:
                if error is not None:
                    self._note_failure_of_tell(call, error)
            elif error is None:
                call.reply.resolve(value)
            else:
                call.reply.fail(error)
        self.settled += len(answers)

    def _note_failure_of_tell(self, call: HandleCall, error: BaseException) -> None:
        if isinstance(error, Refused):
            logger.info("%s has refused %s: %s", self.described(), call.handler.name, error)
        elif isinstance(error, PersistasaurusError):
            logger.warning("Dead letter for %s: %s was lost: %s", self.described(), call.handler.name, error)
        else:
            logger.error("%s failed in %s", self.described(), call.handler.name, exc_info=error)

    # ------------------------------------------------------------------------------------- recording
    def _go_on(self) -> None:
        """Record what was decided, when nobody else is about to add to it; come to rest."""
        if self._under_way is None and self._records and self._is_last_of_turn():
            self._append()
        if self._is_at_rest:
            self._on_rest()

    def _is_last_of_turn(self) -> bool:
        inbox = self.actor_inbox
        return inbox.budget <= 0 or len(self._records) >= _RECORDS_MAX or not inbox.has_mail()

    def _append(self) -> None:
        self._under_way, self._next = self._next, []
        records, self._records = tuple(self._records), []
        header = stream_type = None
        if not self._has_header:
            header, stream_type = HeaderChange(ACTOR_STATUS, StreamState.OPEN, None), self.definition.name
        append = Append(self.stream, self._version, records, header, stream_type)
        self._context.access.journal.tell(PendingAppend(append, self._actor_ref))

    def _on_done(self, message: PendingAppend) -> None:
        answers, self._under_way = self._under_way or [], None
        outcome = message.outcome
        if isinstance(outcome, Appended):
            self._version, self._has_header = outcome.version, True
            self._settle(answers)
            self._recover_if_lost()
        else:
            self._start_anew(answers, cause_of(outcome))
        while self._held and not self._must_wait():
            self._handle(self._held.popleft())

    def _recover_if_lost(self) -> None:
        if self._is_lost and self._is_at_rest:
            self._recover()

    @property
    def _is_at_rest(self) -> bool:
        return self._under_way is None and not self._records

    def _start_anew(self, answers: list[_PendingReply], error: Exception) -> None:
        """Fail all who have seen what is not recorded, and recover what is."""
        answers += self._next
        self._next, self._records = [], []
        self._settle([_PendingReply(call, None, error) for call, _, _ in answers])
        self._recover()

    # ------------------------------------------------------------------------------------- resting
    def _set_alarm(self, idle_since_s: float) -> None:
        after = self.definition.passivate_after_s
        if after is not None:
            self._alarm = self._context.environment.alarms.call_at(idle_since_s + after, self._on_instant)

    def _on_instant(self) -> None:
        try_tell(self.actor_ref, LookIfIdle())

    def _on_alarm(self) -> None:
        now = self._context.environment.clock.elapsed()
        is_idle = now >= self._last_used_s + (self.definition.passivate_after_s or 0.0)
        if not is_idle:
            self._set_alarm(self._last_used_s)
        elif not (self._is_at_rest and self._left()):
            self._set_alarm(now)

    def _on_rest(self) -> None:
        """Tell those who wait that nothing is under way; end, if there is nothing but an error to give."""
        finishing, self._finishing = self._finishing, ()
        for reply in finishing:
            reply.resolve(None)
        if self._incarnation is None and not self._has_left:
            self._left()

    def _left(self) -> bool:
        """End, unless there is mail: the next message starts another incarnation."""
        if self._has_left or not self._context.release(self):
            return self._has_left
        self._has_left = True
        self._drop_alarm()
        self.stop()
        return True

    def _drop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def on_stop(self) -> None:
        """End with the system."""
        self._end_with(StoreUnavailable("the system was closed; the outcome is unknown"))

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """End with an error of the engine's own."""
        del exception_type, exception_value, traceback  # Pykka logs it
        self._end_with(ActorFailed(f"{self.described()} has crashed; the outcome is unknown"))

    def _end_with(self, error: Exception) -> None:
        self._drop_alarm()
        self._context.guard.leave(self.stream, self)
        calls = [answer.call for answer in (*(self._under_way or ()), *self._next)] + [*(self._held or ())]
        self._under_way, self._next, self._records, self._held = None, [], [], None
        self._settle([_PendingReply(call, None, error) for call in calls])
        for reply in self._finishing:
            reply.resolve(None)


def _escaped(call: HandleCall, error: BaseException) -> EscapedError:
    """Wrap what must not tear down the asker."""
    escaped = EscapedError(f"{call.handler.what} raised {type(error).__name__}: {error}")
    escaped.__cause__ = error
    return escaped
