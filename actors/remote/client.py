"""How a process that does not own a store requests something of a flow in it.

    with RemoteClient("flows.db") as client:
        pending = client.signal("signup-ada", "confirm", b'{"confirmed_at": "2026-05-17T00:00:00Z"}')
        response = pending.wait(timeout=5)
        if response is None: ...        # on record; it is done at the engine's next start
        else: response.result(...)      # the receipt, or the error that a FlowHandle would have raised

A request is durable: the engine takes it within 100 ms, or when it is started.
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
from ...store.requests import RequestsFull
from ...store.sqlite.requests import SqliteRequests
from ..flows.admission import checked_id
from ..flows.refusals import nothing_to_retry
from ..persistence.persistent_actor import ACTOR_STATUS
from ..runtime.primitives import Event, SystemClock, new_id
from .protocol import (
    PauseRequest,
    RemoteRequest,
    RemoteResponse,
    ResumeRequest,
    RetryRequest,
    SignalRequest,
    decode_request,
    decode_response,
    encode,
)

if TYPE_CHECKING:
    import os
    from types import TracebackType
    from typing import Any, Self

    from ...store import Header
    from ..runtime.primitives import Clock

__all__ = ["PendingRequest", "RefusedRequest", "RemoteClient"]

_NAP_S = 0.005
_LIMITS = PayloadLimits(size=16 << 20, depth=DEPTH_MAX)


class RefusedRequest(msgspec.Struct, frozen=True):
    """A request that can never be done, and whose sender did not wait for the answer.

    `at`: when it was refused, in microseconds since the epoch, UTC. `request` is None if it could not be
    read.
    """

    at: int
    request: RemoteRequest | None
    reason: str


class PendingRequest:
    """A request that is on record. Sending the same signal again under `signal_id` is safe."""

    def __init__(self, client: RemoteClient, request_id: str, flow_id: str, signal_id: str | None) -> None:
        self._client = client
        self.id = request_id
        self.flow_id = flow_id
        self.signal_id = signal_id

    def wait(self, timeout: float) -> RemoteResponse | None:
        """Wait up to `timeout` seconds for the engine's response; not at all when no engine is running.

        None: there is none yet. The request stays on record until the engine does it. A response is given
        once.

        Raises:
            StoreUnavailable: the response cannot be read. What it says has happened.
        """
        return self._client.response(self.id, timeout)


class RemoteClient:
    """Leaves requests beside a store, which another process may own. For one thread.

    It needs no engine, and cannot hold one up. What can be checked without owning the store is checked before
    anything is written; the engine checks all of it. Only the user who owns the store can send. Senders wait
    for each other, each for the duration of a commit. If one of them was stopped while it wrote, the others
    give up after three seconds with `StoreHalted`, and nothing was written.

    Raises:
        StoreUnusable: there is no such store, or it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock | None = None) -> None:
        self._clock = SystemClock() if clock is None else clock
        self._reader = StoreReader.open(path)
        self._requests = SqliteRequests(self._reader.path, self._clock.now)
        self._payload = Codec(msgspec.Raw, "the signal's payload")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store. What was sent stays on record."""
        self._requests.close()
        self._reader.close()

    # ---------------------------------------------------------------------------------------- sending
    def signal(
        self, flow_id: str, name: str, payload: bytes = b"{}", *, signal_id: str | None = None, by: str = ""
    ) -> PendingRequest:
        """Send a signal, whose payload is JSON; see `FlowHandle.signal_json`. Durable on return.

        The same `signal_id` again is the same signal, and recorded once. Without one, each call is another
        signal.

        Raises:
            FlowNotFound: there is no such flow; nothing was written.
            FlowEnded: the flow has ended, and no signal of this id can have come before; nothing was written.
            SignalRejected: the payload is not JSON, too large or too deep; nothing was written.
            Overloaded: too many requests are waiting; nothing was written.
            ValueError: the name or the id cannot be stored.
            TypeError: the payload is not bytes.
            StoreError: it could not be written; the message says why.
        """
        checked_id(name, "name of a signal")
        if not isinstance(payload, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
            raise TypeError(
                f"the payload is JSON, as bytes, and not {type(payload).__name__}: give"
                " msgspec.json.encode(value), or json.dumps(value).encode()"
            )
        header = self._header(flow_id)
        if header.state.is_over and signal_id is None:
            raise FlowEnded(flow_id, header.status)
        key = new_id() if signal_id is None else checked_id(signal_id, "signal id")
        raw = self._checked(payload)
        request = SignalRequest(
            flow_id, by, _created_at(header), name=name, signal_id=key, payload=raw, at=self._clock.now()
        )
        return self._send(request, key)

    def pause(self, flow_id: str, *, by: str = "", why: str = "") -> PendingRequest:
        """Request that a flow be paused; see `FlowHandle.pause`. Durable on return.

        Raises:
            FlowNotFound, FlowEnded: there is no such flow, or it has ended; nothing was written.
            Overloaded: too many requests are waiting; nothing was written.
            StoreError: it could not be written; the message says why.
        """
        header = self._open_header(flow_id)
        return self._send(PauseRequest(flow_id, by, _created_at(header), why=why, version=_version(header)))

    def resume(self, flow_id: str, *, by: str = "", why: str = "") -> PendingRequest:
        """Request that a paused flow be resumed; raises as `pause` does."""
        header = self._open_header(flow_id)
        return self._send(ResumeRequest(flow_id, by, _created_at(header), why=why, version=_version(header)))

    def retry(self, flow_id: str, *, by: str = "", why: str = "") -> PendingRequest:
        """Request that a failed or parked flow continue; see `FlowHandle.retry`.

        It applies to the failure that is recorded now, and does nothing if that was repaired in the meantime.

        Raises:
            FlowNotFound: there is no such flow; nothing was written.
            WrongStatus: the flow has neither failed nor is parked; nothing was written.
            Overloaded: too many requests are waiting; nothing was written.
            StoreError: it could not be written; the message says why.
        """
        header = self._header(flow_id)
        if header.status not in ("failed", "parked"):
            raise nothing_to_retry(flow_id, header.status)
        return self._send(RetryRequest(flow_id, by, _created_at(header), why=why, version=header.version))

    def _header(self, flow_id: str) -> Header:
        header = self._reader.header(checked_id(flow_id, "flow id"))
        if header is None or header.status == ACTOR_STATUS:
            raise FlowNotFound(flow_id)
        return header

    def _open_header(self, flow_id: str) -> Header:
        header = self._header(flow_id)
        if header.state.is_over:
            raise FlowEnded(flow_id, header.status)
        return header

    def _checked(self, payload: bytes) -> msgspec.Raw:
        what = self._payload.what
        try:
            check(payload, what, _LIMITS)
            raw: Any = self._payload.decode(payload)
            refuse_duplicates(payload, what)
        except PayloadError as error:
            raise SignalRejected(f"{error}; nothing was written") from error
        return raw

    def _send(self, request: RemoteRequest, signal_id: str | None = None) -> PendingRequest:
        try:
            data = encode(request)
        except UnicodeEncodeError as error:
            raise ValueError(f"{error.object!a} is not text that can be stored") from error
        request_id = new_id()
        try:
            self._requests.add(request_id, data)
        except RequestsFull as error:
            raise Overloaded(f"{error}, try again later") from error
        except RecordTooLarge as error:
            raise SignalRejected(f"{error}; nothing was written") from error
        return PendingRequest(self, request_id, request.flow_id, signal_id)

    # ---------------------------------------------------------------------------------------- hearing
    def response(self, request_id: str, timeout: float) -> RemoteResponse | None:
        """Wait for the response to a request by its id; see `PendingRequest.wait`."""
        deadline = self._clock.elapsed() + timeout
        never = Event()
        is_served = self._reader.owner() is not None
        while (data := self._taken(request_id)) is None:
            if not is_served or self._clock.elapsed() >= deadline:
                return None
            never.wait(_NAP_S)
        try:
            return decode_response(data)
        except msgspec.MsgspecError as error:
            raise StoreUnavailable(f"the response to {request_id} cannot be read: {error}") from error

    def _taken(self, request_id: str) -> bytes | None:
        try:
            return self._requests.take_response(request_id)
        except StoreError as error:
            raise StoreUnavailable(str(error)) from error

    def pending_count(self) -> int:
        """Return how many requests wait for the engine.

        Raises:
            StoreError: the requests cannot be read; the message says why.
        """
        return self._requests.pending_count()

    def refused(self) -> list[RefusedRequest]:
        """Return the refused requests whose senders have not seen the response, oldest first.

        Raises:
            StoreError: the requests cannot be read; the message says why.
        """
        return [RefusedRequest(r.at, _request_in(r.data), r.reason) for r in self._requests.refusals()]


def _created_at(header: Header) -> int | None:
    """Return what distinguishes this flow from others that had or will have its id; None: unknown."""
    return header.created_at if header.is_sound else None


def _version(header: Header) -> int:
    """Return how far the flow has come, for certain."""
    return header.version if header.is_sound else 0


def _request_in(data: bytes) -> RemoteRequest | None:
    try:
        return decode_request(data)
    except PersistasaurusError:
        return None
