"""Persistent actors: the machinery of all actors that write through the journal, one write at a time.

While a write is on its way to the disk, further messages wait. So a message meets the state that all
acknowledged writes have made, and what an actor does in answer never tells what could still be lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ...flows.errors import PersistasaurusError
from ...store import Append, Appended, RecordCorrupt
from ...store.contract import Outcome
from ..runtime.actor import PooledActor, try_tell

if TYPE_CHECKING:
    from pykka import ActorRef

    from ...store import EventStore
    from ..runtime.primitives import Clock
    from .journal import Journal

__all__ = ["ACTOR_STATUS", "PendingWrite", "PersistentActor", "StaleWriterError", "StreamAccess", "cause_of"]

ACTOR_STATUS = "actor"
"""The status of streams that are no flows."""


class StaleWriterError(PersistasaurusError):
    """Somebody else has written to the actor's stream: this incarnation is out of date, and ends."""

    code = "stale-writer-error"


class StreamAccess(NamedTuple):
    """Where a persistent actor lives."""

    store: EventStore
    journal: ActorRef[Journal]
    clock: Clock


class PendingWrite(msgspec.Struct):
    """An append on its way, and what its actor does after it.

    One object goes all the way, since there is one for each step of each flow: to the journal as its entry,
    and back to the actor as the message that it is answered.
    """

    write: Append
    ref: Any
    then: Callable[..., None]
    args: tuple[Any, ...]
    failed: Callable[[Exception], Any] | None
    outcome: Outcome | None = None

    def done(self, outcome: Outcome) -> None:
        """Take the journal's answer back to the actor."""
        self.outcome = outcome
        try_tell(self.ref, self)


class PersistentActor(PooledActor):
    """An actor with a stream of its own.

    When a write fails the actor stops, since its state is uncertain; the next instance recovers from what
    the store holds.
    """

    def __init__(self, stream_id: str, access: StreamAccess) -> None:
        super().__init__()
        self.stream_id = stream_id
        self.version = 0
        self._access = access
        self._writing: PendingWrite | None = None
        self._stash: deque[Any] | None = None
        """Messages that wait for the write that is under way; most actors never need it."""

    def on_command(self, message: Any) -> None:
        """Handle a message, while no write is under way."""
        raise NotImplementedError

    def write(
        self,
        append: Append,
        then: Callable[..., None],
        *args: Any,
        failed: Callable[[Exception], Any] | None = None,
    ) -> None:
        """Send an append to the journal, one at a time.

        `then(*args)` runs here when it is durable, `failed` if it is not, or may not be.
        """
        assert self._writing is None, "one write at a time"
        self._writing = write = PendingWrite(append, self._actor_ref, then, args, failed)
        self._access.journal.tell(write)

    def on_receive(self, message: Any) -> None:
        """Handle a message, or keep it until the write that is under way has been answered."""
        if type(message) is PendingWrite:
            self._on_committed(message)
        elif self._writing is not None:
            self._hold(message)
        else:
            self._handle(message)

    def _handle(self, message: Any) -> None:
        try:
            self.on_command(message)
        except BaseException as error:
            self._on_command_failed(message, error)
            raise

    def _on_command_failed(self, message: Any, error: BaseException) -> None:
        """Learn that a message is to blame for the error that is going to end the actor."""

    def _hold(self, message: Any) -> None:
        if self._stash is None:
            self._stash = deque()
        self._stash.append(message)

    def _on_committed(self, write: PendingWrite) -> None:
        assert write is self._writing, "an answer without a question"
        self._writing = None
        outcome = write.outcome
        if not isinstance(outcome, Appended):
            self._on_write_failed(write, cause_of(outcome))
            return
        self.version = outcome.version
        write.then(*write.args)
        if self._stash:
            self._unstash(self._stash)

    def _on_write_failed(self, write: PendingWrite, error: Exception) -> None:
        if write.failed is not None:
            write.failed(error)
        raise error

    def _unstash(self, stash: deque[Any]) -> None:
        while stash and self._writing is None and not self.actor_stopped.is_set():
            self._handle(stash.popleft())


def cause_of(outcome: Any) -> Exception:
    """Return the error for those who depend on a write that was not made, or may not have been."""
    if isinstance(outcome, PersistasaurusError | RecordCorrupt):
        return outcome
    stale = StaleWriterError(str(outcome))
    stale.__cause__ = outcome if isinstance(outcome, Exception) else None
    return stale
