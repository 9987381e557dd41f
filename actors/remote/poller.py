"""The request poller: does what other processes request, and responds.

Requests for one flow are done one after the other, in the order in which they were left; those for different
flows concurrently. The outcome of a request is durable before its response is written. A process that dies
before the response finds the request again at its next start; one with a response is never done again. A
repeated signal is recognised by its key, a pause or a resumption by the id of the request, which the history
has, and a retry by the repair that followed it. Except for signals, the response is durable before the next
request for the same flow begins.

Before flows begin, all waiting requests are looked at: pauses are done, and retries handed on. So an operator
can stop a flow whose code kills the process, and no one is told of a failure that is about to be retried.
Everything else waits until flows have begun.

It is an actor with a thread of its own, so a slow disk or a locked file of requests holds up nothing else.
What cannot be done now stays on record and is tried again.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from ...flows.errors import PayloadError, PersistasaurusError, StoreUnavailable, SystemClosed
from ...store import Deliver, StoreError, StoreHalted
from ...store.requests import RequestsDamaged, StoredResponse
from ..flows import requests
from ..flows.admission import checked_id
from ..flows.client import Receipt
from ..runtime.actor import PooledActor, try_tell
from ..runtime.futures import PooledFuture, Reply
from .protocol import (
    PauseRequest,
    RemoteRequest,
    RemoteResponse,
    ResumeRequest,
    RetryRequest,
    SignalRequest,
    decode_request,
    encode,
    response_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store.requests import RequestStore, StoredRequest
    from ..flows.client import EngineClient
    from ..runtime.primitives import AlarmHandle

__all__ = ["Poll", "RequestPoller"]

logger = logging.getLogger("persistasaurus")

_PAUSE_S = (0.005, 0.1)
# After how long a request that could not be done, or a response that could not be written, is retried.
_PATIENCE_S = (1.0, 30.0)
_RESPOND_AGAIN_S = (0.01, 5.0)
_SWEEP_S = 600.0
_REOPEN_S = 10.0
"""How often the file is reopened, as senders open it: damage, or another file, is noticed then."""
_AT_ONCE = 16
_SIGNALS_MAX = 64
_FIRST_MAX = 10_000
"""At most this many requests are looked at before flows begin: as many as senders may leave."""
_FIRST_S = 2.0
"""Flows wait at most this long for requests to be read."""
_NOT_NOW = (StoreUnavailable, SystemClosed)
_NO_FLOW = ""
"""The queue for what is not a request. No flow has this id."""


class Poll(NamedTuple):
    """See whether there are new requests."""


class Continue(NamedTuple):
    """Begin more of the requests that wait."""


class Completed(NamedTuple):
    queue: FlowQueue
    is_signal: bool
    future: PooledFuture[Any]


class Respond(NamedTuple):
    """Write the responses that are known."""


class Unwritten(NamedTuple):
    queue: FlowQueue
    request_id: str
    response: RemoteResponse

    def stored(self) -> StoredResponse:
        response = self.response
        refusal = "" if response.is_done else response.error or response.kind
        return StoredResponse(self.request_id, encode(response), refusal)


class FlowQueue:
    """The requests for one flow, first come first served; only the first is in progress.

    Before flows begin, its first `pauses` are in progress instead. They overtake signals, which change
    nothing yet.
    """

    __slots__ = ("flow_id", "has_control", "ids", "is_busy", "not_before", "patience_s", "pauses")

    def __init__(self, flow_id: str) -> None:
        self.flow_id = flow_id
        self.ids: deque[str] = deque()
        self.pauses = 0
        self.has_control = False
        """Something in it, a resumption or a retry, must not be overtaken."""
        self.is_busy = False
        self.not_before = 0.0
        self.patience_s = _PATIENCE_S[0]

    def put_off(self, now: float, why: object) -> None:
        """Try again later, and each time later, with one log line each time."""
        logger.warning("A request for flow %r stays on record for now: %s", self.flow_id, why)
        self.not_before = now + self.patience_s
        self.patience_s = min(2 * self.patience_s, _PATIENCE_S[1])

    def next(self) -> str:
        """Remove the first one, and return its id."""
        self.is_busy, self.not_before, self.patience_s = False, 0.0, _PATIENCE_S[0]
        self.pauses = max(0, self.pauses - 1)
        return self.ids.popleft()

    @property
    def is_ready(self) -> bool:
        """Whether its first is neither in progress nor put off."""
        return bool(self.ids) and not self.is_busy and not self.not_before

    def add_early(self, request_id: str, request: RemoteRequest | RemoteResponse) -> bool:
        """Add one before flows begin; return whether it is the pause that is to be done now."""
        if not isinstance(request, PauseRequest) or self.has_control:
            self.has_control = self.has_control or not isinstance(request, SignalRequest)
            self.ids.append(request_id)
            return False
        self.ids.insert(self.pauses, request_id)
        self.pauses += 1
        return self.pauses == 1


class RequestPoller(PooledActor):
    """Polls the requests for a system's store, from the first `Poll` on."""

    def __init__(
        self, engine: EngineClient, store: RequestStore, let_begin: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self._let_begin = let_begin
        self._taken = 0
        self._retries: list[FlowQueue] = []
        """Those that begin with a retry, before flows have begun."""
        self._left: deque[FlowQueue] = deque()
        """Those that have waited until flows had begun."""
        self._engine = engine
        self._store = store
        self._clock = engine.environment.clock
        self._began = self._clock.elapsed()
        self._queues: dict[str, FlowQueue] = {}
        self._known: set[str] = set()
        self._unwritten: deque[Unwritten] = deque()
        self._is_responding = False
        self._respond_again_s = _RESPOND_AGAIN_S[0]
        self._response_alarm: AlarmHandle | None = None
        self._signals = 0
        self._is_reading = False
        """There may be more to read than has been read."""
        self._is_full = False
        self._pause_s = _PAUSE_S[1]
        self._alarm: AlarmHandle | None = None
        self._sweep_at = 0.0
        self._reopen_at = self._began + _REOPEN_S
        self._not_before = 0.0
        self._complaint = ""

    def on_stop(self) -> None:
        """Stop polling. What is there stays for the next start."""
        for alarm in (self._alarm, self._response_alarm):
            if alarm is not None:
                alarm.cancel()
        self._store.close()

    def on_receive(self, message: Poll | Continue | Completed | Respond) -> None:
        """Handle a message. If one request fails, the others continue."""
        try:
            match message:
                case Poll():
                    self._poll()
                case Continue():
                    self._take_some()
                case Completed():
                    self._completed(message)
                case Respond():
                    self._respond()
                case _:
                    assert_never(message)
        except Exception:
            logger.exception("The request poller could not handle %s", type(message).__name__)
            self._taken = _FIRST_MAX
            if isinstance(message, Poll | Continue):
                self._store.close()  # so that requests that were not begun arrive again
                self._poll_later()
        if self._let_begin is not None:
            self._see_whether_flows_may_begin(self._let_begin)

    def _see_whether_flows_may_begin(self, let_begin: Callable[[], None]) -> None:
        """Let flows begin once the pauses are done that were requested while nothing ran."""
        if self._is_looking:
            return
        # Requests whose responses cannot be written are done.
        is_stuck = self._respond_again_s > _RESPOND_AGAIN_S[0]
        done = {unwritten.queue.flow_id for unwritten in self._unwritten} if is_stuck else set[str]()
        busy = (q for q in self._queues.values() if q.is_busy)
        if any(queue.flow_id not in done for queue in busy):
            return
        self._let_begin = None
        try:
            for queue in self._retries:
                if queue.is_ready:
                    self._go_on(queue)
            self._retries.clear()
            self._left.extend(queue for queue in self._queues.values() if queue.is_ready)
        finally:
            let_begin()
        self.actor_ref.tell(Continue())

    @property
    def _is_looking(self) -> bool:
        """Whether there is more to look at before flows begin."""
        is_late = self._clock.elapsed() >= self._began + _FIRST_S
        return self._is_reading and self._taken < _FIRST_MAX and not is_late

    # ---------------------------------------------------------------------------------------- polling
    def _poll(self) -> None:
        now = self._clock.elapsed()
        self._pause_s = min(2 * self._pause_s, _PAUSE_S[1])
        put_off = (q for q in self._queues.values() if not q.is_busy and 0 < q.not_before <= now)
        for queue in list(islice(put_off, _AT_ONCE)):
            self._go_on(queue)
        if self._reopen_at <= now:
            self._reopen_at = now + _REOPEN_S
            self._store.close()
        if self._sweep_at <= now:
            self._sweep_at = now + _SWEEP_S
            with suppress(StoreError):  # the next read reports what is wrong
                self._store.sweep()
        self._take_some()

    def _take_some(self) -> None:
        """Begin the new requests; their outcomes arrive in between."""
        if self._signals >= _SIGNALS_MAX:
            self._is_full = True  # of payloads; the next completion makes room
            return
        if self._left:
            self._go_on(self._left.popleft())
            self.actor_ref.tell(Continue())
            return
        if self._let_begin is not None and self._taken and not self._is_looking:
            return  # it continues when flows have begun
        arrived = self._arrived()
        for request in arrived:
            self._taken += 1
            self._take(request)
        if arrived:
            self._is_reading = True
            self._pause_s = _PAUSE_S[0]
            self.actor_ref.tell(Continue())
        else:
            self._poll_later()

    def _arrived(self) -> list[StoredRequest]:
        """Return the next new requests; none, if this system is not, or no longer, the one to do them."""
        self._is_reading = False
        if self._clock.elapsed() < self._not_before:
            return []
        try:
            self._engine.admission.check_open()
            arrived = self._store.arrived()
        except PersistasaurusError:
            return []
        except RequestsDamaged as error:
            self._set_aside(error)
            return []
        except StoreError as error:
            # A pause may be among them.
            self._is_reading = (
                isinstance(error, StoreHalted) and self._clock.elapsed() < self._began + _FIRST_S
            )
            self._complain(f"Requests of other processes cannot be read, and none are done: {error}")
            return []
        self._complaint = ""
        return arrived

    def _set_aside(self, error: RequestsDamaged) -> None:
        """Move the damaged requests aside, and begin with an empty file."""
        try:
            kept = self._store.set_aside()
        except StoreError as failure:
            self._not_before = self._clock.elapsed() + _PATIENCE_S[1]
            self._complain(f"Requests of other processes cannot be read: {error}. Nor set aside: {failure}")
        else:
            logger.error(
                "%s. Requests without a response are not done, and have to be sent again. The file was set"
                " aside: %s",
                error,
                kept,
            )

    def _complain(self, text: str) -> None:
        """Log an error, once for as long as it is the same."""
        if text != self._complaint:
            self._complaint = text
            logger.error("%s", text)

    def _poll_later(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()  # there is only one
        at = self._clock.elapsed() + self._pause_s
        self._alarm = self._engine.environment.alarms.call_at(at, lambda: self._tell_self(Poll()))

    def _take(self, stored: StoredRequest) -> None:
        """Begin a request, unless others for the same flow come first."""
        if stored.id in self._known:
            return
        request = _decoded(stored.data)
        flow_id = _NO_FLOW if isinstance(request, RemoteResponse) else request.flow_id
        queue = self._queues.get(flow_id)
        if queue is None:
            queue = self._queues[flow_id] = FlowQueue(flow_id)
        self._known.add(stored.id)
        if self._let_begin is not None:
            if isinstance(request, RetryRequest) and len(queue.ids) == queue.pauses:
                self._retries.append(queue)
            if not queue.add_early(stored.id, request):
                return
        else:
            queue.ids.append(stored.id)
        if queue.ids[0] == stored.id:
            self._begin(queue, request)

    # --------------------------------------------------------------------------------------- handling
    def _go_on(self, queue: FlowQueue) -> None:
        """Begin the first request of a queue; those that have vanished are skipped."""
        while queue.ids:
            if self._let_begin is not None and not queue.pauses:
                return  # until flows have begun
            try:
                data = self._store.read(queue.ids[0])
            except StoreError as error:
                queue.put_off(self._clock.elapsed(), error)
                return
            if data is not None:
                self._begin(queue, _decoded(data))
                return
            self._known.discard(queue.next())
        del self._queues[queue.flow_id]

    def _begin(self, queue: FlowQueue, request: RemoteRequest | RemoteResponse) -> None:
        if isinstance(request, RemoteResponse):
            self._respond_first(queue, request)
            return
        try:
            self._engine.check_open()
        except PersistasaurusError as error:
            queue.put_off(self._clock.elapsed(), error)
            return
        queue.is_busy = True
        is_signal = isinstance(request, SignalRequest)
        self._signals += is_signal
        try:
            reply = self._hand_on(queue.ids[0], request)
        except Exception as error:  # noqa: BLE001 - the sender gets it
            reply = Reply[Any]()
            reply.fail(error)
        reply.add_done_callback(lambda future: self._tell_self(Completed(queue, is_signal, future)))

    def _hand_on(self, request_id: str, request: RemoteRequest) -> Reply[Any]:
        """Do a request as `FlowHandle` does; the reply comes when that is durable."""
        self._check_flow(request)
        flow_id, by, reply = request.flow_id, request.by, Reply[None]()
        match request:
            case SignalRequest():
                return self._send(request)
            case PauseRequest():
                left = requests.Left(checked_id(request_id, "request id"), request.version)
                self._engine.ask(requests.PauseFlow(flow_id, by, request.why, reply, left))
            case ResumeRequest():
                left = requests.Left(checked_id(request_id, "request id"), request.version)
                self._engine.ask(requests.ResumeFlow(flow_id, by, request.why, reply, left))
            case RetryRequest():
                self._engine.ask(requests.RetryFlow(flow_id, by, request.why, reply, request.version))
            case _:
                assert_never(request)
        return reply

    def _check_flow(self, request: RemoteRequest) -> None:
        """Refuse a request that was left for another store, which was in this place before.

        Raises:
            PersistasaurusError: the flow is not the one that is meant.
            StoreUnavailable: that cannot be decided now.
        """
        if request.created_at is None:
            return
        try:
            header = self._engine.store.header(request.flow_id)
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error
        if header is not None and header.is_sound and header.created_at != request.created_at:
            raise PersistasaurusError(
                f"the request was left for another flow {request.flow_id!r}, in a store that was in the place"
                " of this one before"
            )

    def _send(self, request: SignalRequest) -> Reply[Receipt]:
        call = self._engine.admission.signal_json(request.flow_id, request.name, bytes(request.payload))
        key = checked_id(request.signal_id, "signal id")
        # If the clock has been set back since, this instant lies ahead, and the flow would wait for it.
        at = min(request.at, self._clock.now())
        return self._engine.deliver(Deliver(request.flow_id, call.name, key, call.data, at))

    def _completed(self, completed: Completed) -> None:
        completed.queue.is_busy = False
        self._signals -= completed.is_signal
        try:
            self._conclude(completed.queue, completed.future)
        finally:
            if self._is_full and self._signals < _SIGNALS_MAX:
                self._is_full = False
                self.actor_ref.tell(Continue())

    def _conclude(self, queue: FlowQueue, future: PooledFuture[Any]) -> None:
        """Respond, unless the outcome is unknown, or the request could not be done now."""
        try:
            value = future.get(timeout=0)
        except _NOT_NOW as error:
            queue.put_off(self._clock.elapsed(), error)
        except Exception as error:  # noqa: BLE001 - the sender gets it
            self._respond_first(queue, response_of(error))
        else:
            if isinstance(value, Receipt):
                self._respond_soon(Unwritten(queue, queue.next(), RemoteResponse(receipt=value)))
                self._go_on(queue)
            else:
                self._respond_first(queue, RemoteResponse())

    # -------------------------------------------------------------------------------------- responding
    def _respond_first(self, queue: FlowQueue, response: RemoteResponse) -> None:
        """Have a response written before the flow's next request begins.

        A request without a key, done again after what followed it, could have another outcome.
        """
        queue.is_busy = True
        self._respond_soon(Unwritten(queue, queue.ids[0], response))

    def _respond_soon(self, unwritten: Unwritten) -> None:
        """Have a response written, together with all others that are known by then."""
        self._unwritten.append(unwritten)
        if not self._is_responding:
            self._is_responding = True
            self.actor_ref.tell(Respond())

    def _respond(self) -> None:
        """Write the known responses. Until they are written, their requests stay on record."""
        try:
            self._store.respond([unwritten.stored() for unwritten in self._unwritten])
        except Exception as error:
            self._respond_later(error)
            if not isinstance(error, StoreError):
                raise
            return
        self._is_responding = False
        self._respond_again_s = _RESPOND_AGAIN_S[0]
        written, self._unwritten = self._unwritten, deque()
        for queue, request_id, response in written:
            self._known.discard(request_id)
            if not response.is_done:
                logger.warning("A request for flow %r is refused: %s", queue.flow_id, response.error)
            if queue.ids and queue.ids[0] == request_id:
                queue.next()
                self._go_on(queue)

    def _respond_later(self, why: object) -> None:
        if self._respond_again_s >= 1.0:  # a short conflict with a sender is not worth a line
            logger.warning("%s responses wait to be written: %s", len(self._unwritten), why)
        at = self._clock.elapsed() + self._respond_again_s
        self._respond_again_s = min(2 * self._respond_again_s, _RESPOND_AGAIN_S[1])
        self._response_alarm = self._engine.environment.alarms.call_at(at, lambda: self._tell_self(Respond()))

    def _tell_self(self, message: Poll | Completed | Respond) -> None:
        try_tell(self.actor_ref, message)


def _decoded(data: bytes) -> RemoteRequest | RemoteResponse:
    """Return a request, or, if it is not one, the response that says so."""
    try:
        request = decode_request(data)
        checked_id(request.flow_id, "flow id")
    except (PayloadError, ValueError) as error:
        return RemoteResponse(kind=PersistasaurusError.__name__, error=str(error))
    return request
