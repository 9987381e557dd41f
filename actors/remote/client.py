"""The postbox: how a process that does not own a store has something done to a flow in it.

    with Postbox("flows.db") as postbox:
        posted = postbox.signal("signup-ada", "confirm", b'{"confirmed_at": "2026-05-17T00:00:00Z"}')
        answered = posted.wait(timeout=5)
        if answered is None: ...        # on record; it is done at the engine's next start
        else: answered.result()         # the receipt, or the error that a FlowHandle would have raised

What is posted is durable: the engine takes it within 100 ms, or when it is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...flows.errors import (
    FlowEnded,
    FlowNotFound,
    Overloaded,
    PayloadError,
    PersistasaurusError,
    SignalRejected,
    StoreUnavailable,
)
from ...flows.values.codec import Codec, PayloadLimits, check
from ...flows.values.depth import DEPTH_MAX
from ...flows.values.duplicates import refuse_duplicates
from ...store import RecordTooLarge, StoreError, StoreReader
from ...store.files.spool import Spool, SpoolFull
from ..flows.admission import checked_id
from ..flows.refusals import nothing_to_retry
from ..persistence.event_sourced import ACTOR_STATUS
from ..runtime.primitives import Event, SystemClock, new_id
from .protocol import (
    Answered,
    Order,
    PauseOrder,
    ResumeOrder,
    RetryOrder,
    SignalOrder,
    decode_answer,
    decode_order,
    encode,
)

if TYPE_CHECKING:
    import os
    from types import TracebackType
    from typing import Any, Self

    from ...store import Header
    from ..runtime.primitives import Clock

__all__ = ["Postbox", "Posted", "Undelivered"]

_NAP_S = 0.005
_LIMITS = PayloadLimits(size=16 << 20, depth=DEPTH_MAX)


class Undelivered(msgspec.Struct, frozen=True):
    """An order that was on record and can never be carried out, and whose sender did not wait to hear so.

    `at`: when it was refused, in microseconds since the epoch, UTC. `order` is None when it was none.
    """

    at: int
    order: Order | None
    reason: str


class Posted:
    """An order that is on record. `signal_id`: sending the same again under it is safe."""

    def __init__(self, postbox: Postbox, name: str, flow_id: str, signal_id: str | None) -> None:
        self._postbox = postbox
        self.name = name
        self.flow_id = flow_id
        self.signal_id = signal_id

    def wait(self, timeout: float) -> Answered | None:
        """Wait for the engine's answer, up to `timeout` seconds; not at all when no engine is running.

        None: nobody has answered yet. The order stays on record, and is carried out when the engine
        comes to it. An answer is told once.

        Raises:
            StoreUnavailable: the answer cannot be read. What it says has happened.
        """
        return self._postbox.answer(self.name, timeout)


class Postbox:
    """Leaves orders beside a store that another process owns, or none. For one thread.

    Nothing that is posted waits for anybody, and nothing here can hold up the engine. What can be
    checked without owning the store is checked before anything is written; the engine checks all of it.
    Only the user whom the store belongs to can post.

    Raises:
        StoreUnusable: there is no such store, or it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._reader = StoreReader.open(path)
        self._spool = Spool(self._reader.path, self._clock.now)
        self._payload = Codec(msgspec.Raw, "the signal's payload")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store. What was posted stays on record."""
        self._reader.close()

    # ---------------------------------------------------------------------------------------- posting
    def signal(
        self, flow_id: str, name: str, payload: bytes = b"{}", *, signal_id: str | None = None, by: str = ""
    ) -> Posted:
        """Post a signal, whose payload is JSON; see `FlowHandle.signal_json`. Durable when this returns.

        The same `signal_id` again is the same signal, and recorded once. Without one, each is another.

        Raises:
            FlowNotFound: there is no such flow; nothing was written.
            FlowEnded: the flow has ended, and no signal of this id can have come before; nothing was written.
            SignalRejected: the payload is no JSON, too large or too deep; nothing was written.
            Overloaded: too many orders wait; nothing was written.
            ValueError: the name or the id cannot be stored.
            StoreError: it could not be written; the message says why.
        """
        checked_id(name, "name of a signal")
        header = self._header(flow_id)
        if header.state.is_over and signal_id is None:
            raise FlowEnded(flow_id, header.status)
        key = new_id() if signal_id is None else checked_id(signal_id, "signal id")
        raw = self._checked(payload)
        return self._post(SignalOrder(flow_id, by, name, key, raw, self._clock.now()), key)

    def pause(self, flow_id: str, *, by: str = "", why: str = "") -> Posted:
        """Post that a flow is to be paused; see `FlowHandle.pause`. Durable when this returns.

        Raises:
            FlowNotFound, FlowEnded: there is no such flow, or it has ended; nothing was written.
            Overloaded: too many orders wait; nothing was written.
            StoreError: it could not be written; the message says why.
        """
        self._check_open(flow_id)
        return self._post(PauseOrder(flow_id, by, why))

    def resume(self, flow_id: str, *, by: str = "", why: str = "") -> Posted:
        """Post that a paused flow is to go on; raises as `pause` does."""
        self._check_open(flow_id)
        return self._post(ResumeOrder(flow_id, by, why))

    def retry(self, flow_id: str, *, by: str = "", why: str = "") -> Posted:
        """Post that a failed or parked flow is to run on; see `FlowHandle.retry`.

        It is meant for the failure that is on record now, and does nothing if that was repaired meanwhile.

        Raises:
            FlowNotFound: there is no such flow; nothing was written.
            PersistasaurusError: the flow has neither failed nor is it parked; nothing was written.
            Overloaded: too many orders wait; nothing was written.
            StoreError: it could not be written; the message says why.
        """
        header = self._header(flow_id)
        if header.status not in ("failed", "parked"):
            raise nothing_to_retry(flow_id, header.status)
        return self._post(RetryOrder(flow_id, by, why, header.version))

    def _header(self, flow_id: str) -> Header:
        header = self._reader.header(checked_id(flow_id, "flow id"))
        if header is None or header.status == ACTOR_STATUS:
            raise FlowNotFound(flow_id)
        return header

    def _check_open(self, flow_id: str) -> None:
        header = self._header(flow_id)
        if header.state.is_over:
            raise FlowEnded(flow_id, header.status)

    def _checked(self, payload: bytes) -> msgspec.Raw:
        what = self._payload.what
        try:
            check(payload, what, _LIMITS)
            raw: Any = self._payload.decode(payload)
            refuse_duplicates(payload, what)
        except PayloadError as error:
            raise SignalRejected(f"{error}; nothing was written") from error
        return raw

    def _post(self, order: Order, signal_id: str | None = None) -> Posted:
        try:
            data = encode(order)
        except UnicodeEncodeError as error:
            raise ValueError(f"{error.object!a} is no text that can be stored") from error
        try:
            name = self._spool.put(data, new_id())
        except SpoolFull as error:
            raise Overloaded(f"{error}, try again later") from error
        except RecordTooLarge as error:
            raise SignalRejected(f"{error}; nothing was written") from error
        return Posted(self, name, order.flow_id, signal_id)

    # ---------------------------------------------------------------------------------------- hearing
    def answer(self, name: str, timeout: float) -> Answered | None:
        """Wait for the answer to what was posted under a name; see `Posted.wait`."""
        deadline = self._clock.elapsed() + timeout
        never = Event()
        is_served = self._reader.owner() is not None
        while (data := self._taken(name)) is None:
            if not is_served or self._clock.elapsed() >= deadline:
                return None
            never.wait(_NAP_S)
        try:
            return decode_answer(data)
        except msgspec.MsgspecError as error:
            raise StoreUnavailable(f"the answer to {name} cannot be read: {error}") from error

    def _taken(self, name: str) -> bytes | None:
        try:
            return self._spool.take_answer(name)
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error

    def waiting(self) -> int:
        """Tell how many orders wait for the engine.

        Raises:
            StoreUnavailable: the spool cannot be read now.
            StoreError: the spool cannot be used; the message says why.
        """
        try:
            return len(self._spool.pending())
        except OSError as error:
            raise _unreadable(error) from error

    def undelivered(self) -> list[Undelivered]:
        """Return the orders that could not be carried out, and whose senders have not heard so, oldest first.

        Raises:
            StoreUnavailable: the spool cannot be read now.
            StoreError: the spool cannot be used; the message says why.
        """
        try:
            refused = self._spool.refused()
        except OSError as error:
            raise _unreadable(error) from error
        return [Undelivered(r.at, _order_in(r.data), r.reason) for r in refused]


def _unreadable(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"the spool cannot be read: {error.strerror}")


def _order_in(data: bytes) -> Order | None:
    """Return the order that was refused; None: it was none."""
    try:
        return decode_order(data) if data else None
    except PersistasaurusError:
        return None
