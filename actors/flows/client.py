"""The engine's client: how whatever is not part of the engine has something done in it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from ...flows.errors import SystemClosed
from ...store import Deliver, Delivered, NeverDelivered, RecordCorrupt, SignalConflict
from ..persistence.journal import Entry
from ..runtime.actor import PooledActor, try_tell
from ..runtime.dispatcher import DispatcherClosedError
from ..runtime.futures import Reply
from . import requests
from .admission import outside_error
from .parking import WHAT_TO_DO

if TYPE_CHECKING:
    from collections.abc import Container

    from pykka import ActorRef

    from ...store import EventStore
    from ...store.contract import Outcome
    from ..persistence.journal import Journal
    from ..runtime.environment import Environment
    from ..runtime.scheduler import Scheduler
    from ..steps.attempts import AttemptRegistry
    from .admission import Admission
    from .awaited import Awaited
    from .starting import Starts
    from .supervisor import Supervisor

__all__ = ["CLOSED", "EngineClient", "Receipt", "from_microseconds", "to_microseconds"]

logger = logging.getLogger("persistasaurus")

CLOSED = "the system is closed; you can safely repeat this request after the next start"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Receipt(msgspec.Struct, frozen=True):
    """The signal is durable. `at` is when it first came; `duplicate`: it had come before."""

    signal_id: str
    at: datetime
    duplicate: bool


def to_microseconds(at: datetime) -> int:
    """Return an instant as the store holds it: in microseconds since the epoch, UTC."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(at: int) -> datetime:
    """Return an instant of the store as a datetime, in UTC.

    A store can hold instants that no datetime can: an import may bring any number, and `sleep_until`
    takes local times whose UTC lies beyond the year 9999. They become the first or the last one there is.
    """
    try:
        return _EPOCH + timedelta(microseconds=at)
    except OverflowError:
        return _FIRST if at < 0 else _LAST


class EngineClient:
    """The way into a running engine, for what is not part of it: handles, remote requests, HTTP.

    It checks what comes from outside (`admission`), reads the store, and hands requests to the supervisor and
    signals to the journal. Every method may be called from any thread, and none of them waits.
    """

    def __init__(  # noqa: PLR0913 - the parts it stands in front of
        self,
        *,
        store: EventStore,
        admission: Admission,
        environment: Environment,
        journal: ActorRef[Journal],
        supervisor: ActorRef[Supervisor],
        workers: Scheduler,
        active: Container[str],
        awaited: Awaited,
        attempts: AttemptRegistry,
        starts: Starts,
    ) -> None:
        self.store = store
        self.admission = admission
        self.environment = environment
        self._journal = journal
        self._supervisor = supervisor
        self._workers = workers
        self._active = active
        self.awaited = awaited
        self._attempts = attempts
        self._starts = starts

    @property
    def queued(self) -> int:
        """How many requests and writes wait to be taken up."""
        inboxes = len(self._journal.actor_inbox) + len(self._supervisor.actor_inbox)  # pyright: ignore[reportArgumentType] - our own mailboxes
        return inboxes + self._starts.waiting

    def check_open(self) -> None:
        """Refuse a request that would come at a wrong time, from a wrong place, or on top of too many.

        Raises:
            SystemClosed, NotInFlowError, Overloaded, StoreUnavailable: as `Admission.check_open` says.
        """
        self.admission.check_open(self.queued)

    def ask(self, request: requests.Request | requests.Watch) -> None:
        """Hand a request to the supervisor, which answers it through its reply."""
        if not try_tell(self._supervisor, request):
            request.reply.fail(SystemClosed(CLOSED))

    def withdraw(self, watch: requests.Watch) -> None:
        """Take back a request to be told of a flow's end."""
        if not watch.reply.is_done:
            try_tell(self._supervisor, requests.Unwatch(watch.flow_id, watch.reply))

    def wake(self, flow_id: str) -> None:
        """Have a flow look into its inbox, and at the clock. It is started when it is not in memory."""
        try_tell(self._supervisor, requests.Wake(flow_id))

    def is_active(self, flow_id: str) -> bool:
        """Tell whether a flow has an actor now: it has none when it is passivated, or has ended."""
        return flow_id in self._active

    def is_called_by_step_of(self, flow_id: str) -> bool:
        """Tell whether the caller is a step of this flow: to wait for the flow would be a deadlock."""
        return self._attempts.is_calling(flow_id)

    def deliver(self, signal: Deliver) -> Reply[Receipt]:
        """Have a checked signal recorded; the reply comes when it is durable, and the flow has been woken.

        One that the flow can never take, or not where it waits now, is refused, unless it came before. This
        does not wait for the flow's code, which may block.
        """
        reply: Reply[Receipt] = Reply()
        refusal = self.admission.signal_refusal(signal, self.awaited)
        if refusal is not None:
            signal = msgspec.structs.replace(signal, only_again=True)

        def done(outcome: Outcome) -> None:
            if refusal is not None and isinstance(outcome, NeverDelivered):
                reply.fail(refusal)
                return
            if isinstance(outcome, SignalConflict):
                self._compare(signal, outcome, reply)
                return
            if isinstance(outcome, RecordCorrupt):
                logger.error("A signal could not be recorded: %s. %s", outcome, WHAT_TO_DO)
                self.wake(signal.stream)  # it may be that its header can be made anew
            if not isinstance(outcome, Delivered):
                reply.fail(outside_error(signal.stream, outcome))  # pyright: ignore[reportArgumentType] - no append
                return
            reply.resolve(Receipt(signal.key, from_microseconds(outcome.at), outcome.duplicate))
            if not outcome.duplicate:
                self.wake(signal.stream)

        if not try_tell(self._journal, Entry(signal, done)):
            reply.fail(SystemClosed(CLOSED))
        return reply

    def _compare(self, signal: Deliver, conflict: SignalConflict, reply: Reply[Receipt]) -> None:
        """Answer a signal whose id was used with other bytes; not here, on the journal's thread."""
        try:
            _SignalComparison.start_on(self._workers, self.admission, signal, conflict, reply)
        except DispatcherClosedError:
            reply.fail(SystemClosed(CLOSED))


class _SignalComparison(PooledActor):
    """Finds out whether other bytes under the same id say the same. To tell, it takes the user's types."""

    def __init__(
        self, admission: Admission, signal: Deliver, conflict: SignalConflict, reply: Reply[Receipt]
    ) -> None:
        super().__init__()
        self._admission = admission
        self._signal = signal
        self._conflict = conflict
        self._reply = reply

    def on_start(self) -> None:
        """Compare, answer, and end."""
        first = self._conflict.first
        if first is not None and self._admission.is_same_signal(self._signal, first.name, first.data):
            self._reply.resolve(Receipt(self._signal.key, from_microseconds(first.at), duplicate=True))
        else:
            self._reply.fail(outside_error(self._signal.stream, self._conflict))
        self.stop()
