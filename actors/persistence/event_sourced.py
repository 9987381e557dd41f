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

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from ...store import Append, HeaderChange, NewRecord, StreamState
from .persistent_actor import PersistentActor

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store import Record
    from ..runtime.futures import Deferred
    from .persistent_actor import StreamAccess

__all__ = ["ACTOR_STATUS", "EventSourcedActor"]

ACTOR_STATUS = "actor"
"""The status of streams that are no flows."""

E = TypeVar("E")
_encode = msgspec.json.Encoder().encode


class EventSourcedActor(PersistentActor, Generic[E]):
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
        super().__init__(stream_id, access)
        self._has_header = False

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
            self._applied,
            events,
            then,
            reply,
            failed=reply.fail,
        )
        return reply

    # ------------------------------------------------------------------------------------ machinery
    def on_start(self) -> None:
        """Recover."""
        header = self._access.store.header(self.stream_id)
        if header is not None:
            self._has_header = header.is_sound  # else it is made anew by the next event
            for record in self._access.store.read(self.stream_id):
                self.apply(self._decode(record))
                self.version = record.version
        self.on_recovered()

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
