"""Event-sourced actors: whatever they decide is durable before anybody sees it.

    class Deposited(msgspec.Struct, tag="deposited"):
        amount: int

    class Account(EventSourcedActor[Deposited]):
        events = Deposited                      # or a union of tagged structs

        def __init__(self, stream_id, access):
            super().__init__(stream_id, access)
            self.balance = 0

        def apply(self, event):                 # live, after the commit, and in each recovery
            self.balance += event.amount

        def on_command(self, message):          # decides; changes nothing
            if message <= 0:
                raise ValueError("a deposit is more than nothing")
            return self.persist(Deposited(message), then=lambda: self.balance)

    account = system.actor(Account, "account-ada")
    assert account.ask(10) == 10                # durable by now

The three movements of a message are always the same: decide, record, act. While a record is on its
way to the disk, further messages wait. So a command sees the state that all acknowledged events
have made, and a reply never tells what could still be lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec

from ...flows.errors import PersistasaurusError
from ...store import Append, Appended, HeaderChange, NewRecord, RecordCorrupt, StreamState
from ...store.contract import Outcome
from ..runtime.actor import PooledActor, try_tell
from .journal import Entry

if TYPE_CHECKING:
    from pykka import ActorRef

    from ...store import EventStore, Record
    from ..runtime.futures import Deferred
    from ..runtime.primitives import Clock
    from .journal import Journal

__all__ = ["ACTOR_STATUS", "EventSourcedActor", "StaleWriterError", "StreamAccess"]

ACTOR_STATUS = "actor"
"""The status of streams that are no flows."""

E = TypeVar("E")
_encode = msgspec.json.Encoder().encode


class StaleWriterError(PersistasaurusError):
    """Somebody else has written to the actor's stream: this incarnation is out of date, and ends."""

    code = "stale-writer-error"


class StreamAccess(NamedTuple):
    """Where an event-sourced actor lives."""

    store: EventStore
    journal: ActorRef[Journal]
    clock: Clock


class Committed(msgspec.Struct, frozen=True):
    """The journal's answer."""

    outcome: Outcome


class EventSourcedActor(PooledActor, Generic[E]):
    """An actor whose state is derived from its recorded events.

    It recovers in `on_start`, before any message. An exception in `on_command` changes nothing, since
    state only changes in `apply`; as in Pykka, it goes to the caller of `ask`, and stops the actor after
    a `tell`. When a commit fails the actor stops, since its state is uncertain; the next instance recovers
    from disk.
    """

    events: ClassVar[Any]
    """The type of the events: a tagged struct, or a union of them. Tags are stored, names are not."""
    stream_type: ClassVar[str] = "actor"
    """What its streams are listed as."""

    def __init__(self, stream_id: str, access: StreamAccess) -> None:
        super().__init__()
        self.stream_id = stream_id
        self.version = 0
        self._has_header = False
        self._access = access
        self._writing: _Write | None = None
        self._stash: deque[tuple[Any, Deferred | None]] = deque()

    # ------------------------------------------------------------------------------ for subclasses
    def apply(self, event: E) -> None:
        """Change the state. Pure: it is called again for every event, at each recovery."""
        raise NotImplementedError

    def on_command(self, message: Any) -> Any:
        """Decide about a message; return a reply, or what `persist` returns."""
        raise NotImplementedError

    def on_recovered(self) -> None:
        """Act on pending work, after all events have been applied."""

    def persist(self, *events: E, then: Callable[[], Any] | None = None) -> Deferred:
        """Record events, all or none; when they are durable apply them and reply with what `then` returns.

        Call this once per message, as its last action. The caller of `ask` gets `StoreUnavailable` if the
        store could not confirm.

        Raises:
            TypeError: an event is not of the declared type.
        """
        records = tuple(self._record(event) for event in events)
        header = None if self._has_header else HeaderChange(ACTOR_STATUS, StreamState.OPEN, None)
        stream_type = None if self._has_header else self.stream_type
        reply = self.defer()
        self.write(
            Append(self.stream_id, self.version, records, header, stream_type),
            lambda: self._applied(events, then, reply),
            reply.fail,
        )
        return reply

    # ------------------------------------------------------------------------------------ machinery
    def write(
        self, append: Append, then: Callable[[], None], failed: Callable[[Exception], Any] | None = None
    ) -> None:
        """Send an append to the journal, one at a time.

        `then` runs here when it is durable, `failed` if it is not, or may not be.
        """
        assert self._writing is None, "one write at a time"
        self._writing = _Write(append, then, failed)
        self._access.journal.tell(Entry(append, self._on_outcome))

    def on_start(self) -> None:
        """Recover."""
        header = self._access.store.header(self.stream_id)
        if header is not None:
            self._has_header = header.is_sound  # else it is made anew by the next event
            for record in self._access.store.read(self.stream_id):
                self.apply(self._decode(record))
                self.version = record.version
        self.on_recovered()

    def on_receive(self, message: Any) -> Any:
        """Handle a message, or keep it until the write that is under way has been answered."""
        if type(message) is Committed:
            return self._on_committed(message.outcome)
        if self._writing is not None:
            return self._hold(message)
        try:
            return self.on_command(message)
        except BaseException as error:
            self._on_command_failed(message, error)
            raise

    def _on_command_failed(self, message: Any, error: BaseException) -> None:
        """Learn that a message is to blame for the error that is going to end the actor, or to its asker."""

    def _hold(self, message: Any) -> Deferred | None:
        reply = self.defer()
        self._stash.append((message, reply))
        return reply

    def _on_outcome(self, outcome: Outcome) -> None:
        try_tell(self.actor_ref, Committed(outcome))

    def _on_committed(self, outcome: Outcome) -> None:
        write, self._writing = self._writing, None
        assert write is not None, "an answer without a question"
        if not isinstance(outcome, Appended):
            self._on_write_failed(write, _cause(outcome))
            return
        self.version = outcome.version
        write.then()
        self._unstash()

    def _on_write_failed(self, write: _Write, error: Exception) -> None:
        if write.failed is not None:
            write.failed(error)
        raise error

    def _unstash(self) -> None:
        while self._stash and self._writing is None and not self.actor_stopped.is_set():
            message, reply = self._stash.popleft()
            try:
                result = self.on_command(message)
            except BaseException as error:
                self._on_command_failed(message, error)
                if reply is None or not reply.is_awaited or not isinstance(error, Exception):
                    raise
                reply.fail(error)
            else:
                if reply is not None:
                    reply.follow(result)

    def _applied(self, events: tuple[E, ...], then: Callable[[], Any] | None, reply: Deferred) -> None:
        self._has_header = True
        for event in events:
            self.apply(event)
        try:
            result = then() if then is not None else None
        except Exception as error:
            if not reply.is_awaited:
                raise
            reply.fail(error)  # the events stand, and so does the state
        else:
            reply.follow(result)

    def _record(self, event: E) -> NewRecord:
        data = _encode(event)
        try:
            self._decoder().decode(data)  # what could not be read back is refused now
        except msgspec.MsgspecError as error:
            raise TypeError(f"{event!r} is none of the events of {type(self).__name__}: {error}") from error
        tag = type(event).__struct_config__.tag if isinstance(event, msgspec.Struct) else None
        return NewRecord(self._access.clock.now(), str(tag or type(event).__name__), data)

    def _decode(self, record: Record) -> E:
        return self._decoder().decode(record.data)

    @classmethod
    def _decoder(cls) -> msgspec.json.Decoder[Any]:
        decoder = cls.__dict__.get("_made_decoder")
        if decoder is None:
            decoder = msgspec.json.Decoder(cls.events)
            cls._made_decoder = decoder
        return decoder


class _Write(msgspec.Struct, frozen=True):
    append: Append
    then: Callable[[], None]
    failed: Callable[[Exception], Any] | None


def _cause(outcome: Any) -> Exception:
    if isinstance(outcome, PersistasaurusError | RecordCorrupt):
        return outcome
    stale = StaleWriterError(str(outcome))
    stale.__cause__ = outcome if isinstance(outcome, Exception) else None
    return stale
