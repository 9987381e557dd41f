"""Mailboxes: a queue of envelopes and the promise that at most one worker runs its actor.

Putting never blocks and takes no lock. `get` raises `Park` when there is nothing (left) to do, which
unwinds Pykka's own receive loop and sets the worker free.

A mailbox's `_scheduled` lock says that the actor is in the dispatcher's queue or in a worker's hands:
taking it without blocking is the test-and-set that lets one sender schedule an idle actor. No wake-up is
lost, since the sender enqueues before it looks at the lock, and the worker releases the lock before it
looks at the queue for the last time.

Ctrl-C may strike a sender between any two of its instructions, also when it has taken the lock and not yet
scheduled the actor. It then schedules the actor once more than needed. So `_scheduled` is only a hint that
keeps the dispatcher's queue short; `_running` sees to it that one worker at a time runs the actor, and a
worker that finds it running drops its entry: whoever runs the actor looks at the queue when it stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import msgspec
from pykka import ActorDeadError, Future
from pykka.messages import (
    _ActorStop as ActorStop,  # pyright: ignore[reportPrivateUsage] - the poison pill has no public name
)

from .futures import PooledFuture
from .primitives import Lock, QueueEmpty, SimpleQueue

if TYPE_CHECKING:
    from pykka._envelope import Envelope

    from .futures import OptExcInfo
    from .posts import Runnable
    from .scheduler import Scheduler

__all__ = ["ActorStop", "BatchMailbox", "Letter", "Mailbox", "MessageBatch", "Park"]


class Park(BaseException):
    """Nothing to do for now. Unwinds Pykka's receive loop, and never leaves the actor."""


class Letter(msgspec.Struct):
    """A message and who waits for the answer: Pykka's `Envelope`, at a third of its price."""

    message: Any
    reply_to: Future[Any] | None = None


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """All that was queued, in order, as one message. The handler completes each `reply_to` itself."""

    envelopes: tuple[Envelope[Any], ...]


class Mailbox:
    """A queue of envelopes. `put` is for every thread, the rest for the worker."""

    __slots__ = (
        "_budget",
        "_is_closed",
        "_label",
        "_owner",
        "_queue",
        "_ready",
        "_running",
        "_scheduled",
        "_scheduler",
        "is_set_up",
    )

    def __init__(self) -> None:
        self._queue: SimpleQueue[Envelope[Any]] = SimpleQueue()
        self._budget = 0
        self._is_closed = False
        self._owner: Runnable | None = None
        self.is_set_up = False
        # Held until the actor is started: what comes earlier waits.
        self._scheduled = Lock()
        self._scheduled.acquire()
        self._running = Lock()

    def attach(self, owner: Runnable, scheduler: Scheduler) -> None:
        """Run `owner` on `scheduler` from now on."""
        self._label = (type(owner), owner.actor_urn)
        self._scheduler = scheduler
        self._ready = scheduler.ready
        self._owner = owner
        try:
            scheduler.attach(self, owner)
            self._ready(owner)
        except Exception:
            raise
        except BaseException:
            # Ctrl-C, most likely. One that was taken in has to run, or it could not be stopped.
            self._ready(owner)
            raise

    # For everybody.

    @property
    def owner(self) -> Runnable | None:
        """The actor, from its start to its end: for a look from outside, between two turns."""
        return self._owner

    def put(self, envelope: Envelope[Any], /) -> None:
        """Queue an envelope, and have the actor run if it was idle.

        A closed mailbox refuses: an ask gets `ActorDeadError`, a tell goes to the dead letters.
        """
        try:
            self._queue.put(envelope)
            if self._is_closed:
                self._refuse_queued(None)
            elif not self._scheduled.locked() and self._scheduled.acquire(False):
                self._ready(self._owner)
        except BaseException:
            # Ctrl-C, most likely; nobody can tell how far this came.
            if (owner := self._owner) is not None:
                self._ready(owner)
            raise

    @property
    def budget(self) -> int:
        """How many envelopes may still be taken in this slice: it goes down with each that is."""
        return self._budget

    def empty(self) -> bool:
        """Whether nothing is left for Pykka's loop; a closed mailbox answers for its envelopes itself."""
        return self._is_closed or not self.has_mail()

    def has_mail(self) -> bool:
        """Whether anything is queued."""
        return not self._queue.empty()

    def __len__(self) -> int:
        return self._queue.qsize()

    # For the worker that has the actor in its hands.

    def enter(self) -> bool:
        """Take the actor in hand; False: another worker has it, and looks for mail when it stops."""
        return self._running.acquire(False)

    def open_slice(self) -> None:
        """Allow as many envelopes as the dispatcher grants at a time."""
        self._budget = self._scheduler.throughput

    def get(self) -> Envelope[Any]:
        """Take the next envelope.

        Raises:
            Park: there is none, or others have their turn first.

        """
        budget = self._budget
        if budget <= 0 or self._queue.empty():
            raise Park
        self._budget = budget - 1
        try:
            return self._queue.get_nowait()
        except QueueEmpty:
            # The dispatcher gave this actor up a moment ago, and answered in its place.
            raise Park from None

    def park(self) -> None:
        """Go idle, or to the back of the dispatcher's queue when there is more to do."""
        self._running.release()
        if not self.has_mail():
            try:  # noqa: SIM105 - `suppress` is slow, and this runs after each turn of each actor
                self._scheduled.release()
            except RuntimeError:
                pass  # released already by a worker that had an entry too many
            # Somebody may have put between the look and the release.
            if not (self.has_mail() and self._scheduled.acquire(False)):
                return
        self._ready(self._owner)

    def close(self, cause: BaseException | None) -> None:
        """Refuse what is queued and what comes later. Harmless when repeated, or from another thread."""
        self._is_closed = True
        self._refuse_queued(cause)

    def detach(self) -> None:
        """Let go of the actor."""
        self._owner = None
        self._scheduler.detach(self)

    def _refuse_queued(self, cause: BaseException | None) -> None:
        while True:
            try:
                envelope = self._queue.get_nowait()
            except QueueEmpty:
                return
            self._refuse(envelope, cause)

    def _refuse(self, envelope: Envelope[Any], cause: BaseException | None) -> None:
        is_stop = isinstance(envelope.message, ActorStop)
        if envelope.reply_to is None:
            if not is_stop:
                self._scheduler.dead_letter(self._name(), envelope.message)
        elif is_stop:
            envelope.reply_to.set(None)
        else:
            envelope.reply_to.set_exception(self._dead(cause))

    def _dead(self, cause: BaseException | None) -> OptExcInfo:
        error = ActorDeadError(f"{self._name()} stopped before handling the message")
        error.__cause__ = cause
        return (ActorDeadError, error, None)

    def _name(self) -> str:
        actor_class, urn = self._label
        return f"{actor_class.__name__} ({urn})"


class BatchMailbox(Mailbox):
    """A mailbox that hands over everything queued, up to `max_batch`, as one `MessageBatch`.

    A stop is delivered alone, after all that was sent before it. An ask that its handler has not
    answered when the actor dies fails with `ActorDeadError`, caused by what killed the actor.
    """

    __slots__ = ("_max_batch", "_owed", "_pill")

    def __init__(self, max_batch: int) -> None:
        super().__init__()
        self._max_batch = max_batch
        self._pill: Envelope[Any] | None = None
        self._owed: list[PooledFuture[Any]] = []

    def has_mail(self) -> bool:
        """Whether anything is queued, or the stop that ended a batch is still to come."""
        return self._pill is not None or super().has_mail()

    def open_slice(self) -> None:
        """Allow one batch: what comes meanwhile can wait for what others make of this one."""
        self._budget = 1

    def get(self) -> Envelope[Any]:
        """Take everything, or the stop that comes next.

        Raises:
            Park: there is nothing, or others have their turn first.

        """
        if self._owed:
            self._owed = [future for future in self._owed if not future.is_done]
        pill = self._pill
        if pill is None:
            first = super().get()
            if not isinstance(first.message, ActorStop):
                return self._batch_from(first)
            return first
        self._pill = None
        return pill

    def close(self, cause: BaseException | None) -> None:
        """Refuse what is queued and what comes later, and fail the asks that were never answered."""
        owed, self._owed = self._owed, []
        for future in owed:
            future.try_complete_with(self._dead(cause))
        pill, self._pill = self._pill, None
        if pill is not None:
            self._refuse(pill, cause)
        super().close(cause)

    def _batch_from(self, first: Envelope[Any]) -> Envelope[Any]:
        envelopes = [first, *self._take(self._max_batch - 1)]
        self._owed += [e.reply_to for e in envelopes if isinstance(e.reply_to, PooledFuture)]
        # Pykka's loop asks for no more than these two attributes.
        return cast("Envelope[Any]", Letter(MessageBatch(tuple(envelopes))))

    def _take(self, limit: int) -> list[Envelope[Any]]:
        taken: list[Envelope[Any]] = []
        while len(taken) < limit:
            try:
                envelope = self._queue.get_nowait()
            except QueueEmpty:
                break
            if isinstance(envelope.message, ActorStop):
                self._pill = envelope
                break
            taken.append(envelope)
        return taken
