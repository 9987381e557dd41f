"""Sending signals: through the journal into a flow's inbox, and then ringing for the flow."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from ...flows.errors import SystemClosed
from ...store import Deliver, Delivered, NeverDelivered, RecordCorrupt, SignalConflict
from ..persistence.journal import Entry, tell
from ..runtime.actor import PooledActor
from ..runtime.dispatcher import DispatcherClosedError
from ..runtime.futures import Reply
from .admission import outside_error, rejected
from .parking import WHAT_TO_DO

if TYPE_CHECKING:
    from ...store.contract import Outcome
    from ..system import FlowSystem
    from .admission import Door

__all__ = ["Receipt", "from_microseconds", "send"]

logger = logging.getLogger("persistasaurus")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Receipt(msgspec.Struct, frozen=True):
    """The signal is durable. `at` is when it first came; `duplicate`: it had come before."""

    signal_id: str
    at: datetime
    duplicate: bool


def from_microseconds(at: int) -> datetime:
    """Return an instant of the store as a datetime, in UTC.

    A store can hold instants that no datetime can: an import may bring any number, and `sleep_until`
    takes local times whose UTC lies beyond the year 9999. They become the first or the last one there is.
    """
    try:
        return _EPOCH + timedelta(microseconds=at)
    except OverflowError:
        return _FIRST if at < 0 else _LAST


def send(system: FlowSystem, deliver: Deliver) -> Reply[Receipt]:
    """Have a checked signal recorded; the reply comes when it is durable, and the flow has been rung for.

    One that the flow can never take, or not where it waits now, is refused, unless it came before. Nobody
    waits for the flow's code, which may block.
    """
    reply: Reply[Receipt] = Reply()
    door = system.door
    unknown = door.unknown_signal(deliver.stream, deliver.name)
    misfit = unknown or door.misfit(deliver.stream, deliver.name, deliver.data)
    if misfit is True:
        reason = system.awaited.refusal(deliver.stream, deliver.name, deliver.data)
        misfit = reason is not None and rejected(reason)
    refusal = misfit or None
    if refusal is not None:
        deliver = msgspec.structs.replace(deliver, only_again=True)

    def done(outcome: Outcome) -> None:
        if refusal is not None and isinstance(outcome, NeverDelivered):
            reply.fail(refusal)
            return
        if isinstance(outcome, SignalConflict):
            _look_again(system, deliver, outcome, reply)
            return
        if isinstance(outcome, RecordCorrupt):
            logger.error("A signal could not be recorded: %s. %s", outcome, WHAT_TO_DO)
            system.ring(deliver.stream)  # it may be that its header can be made anew
        if not isinstance(outcome, Delivered):
            reply.fail(outside_error(deliver.stream, outcome))  # pyright: ignore[reportArgumentType] - no append
            return
        reply.resolve(Receipt(deliver.key, from_microseconds(outcome.at), outcome.duplicate))
        if not outcome.duplicate:
            system.ring(deliver.stream)

    if not tell(system.journal, Entry(deliver, done)):
        reply.fail(SystemClosed("the system is closed"))
    return reply


def _look_again(
    system: FlowSystem, deliver: Deliver, conflict: SignalConflict, reply: Reply[Receipt]
) -> None:
    """Answer a signal whose id was used with other bytes; not here, on the journal's thread."""
    try:
        _SecondLook.start_on(system.working, system.door, deliver, conflict, reply)
    except DispatcherClosedError:
        reply.fail(SystemClosed("the system is closed"))


class _SecondLook(PooledActor):
    """Looks whether other bytes under the same id say the same. To tell, it takes the user's types."""

    def __init__(self, door: Door, deliver: Deliver, conflict: SignalConflict, reply: Reply[Receipt]) -> None:
        super().__init__()
        self._door = door
        self._deliver = deliver
        self._conflict = conflict
        self._reply = reply

    def on_start(self) -> None:
        """Look, answer, and go."""
        first = self._conflict.first
        if first is not None and self._door.is_same_signal(self._deliver, first.name, first.data):
            self._reply.resolve(Receipt(self._deliver.key, from_microseconds(first.at), duplicate=True))
        else:
            self._reply.fail(outside_error(self._deliver.stream, self._conflict))
        self.stop()
