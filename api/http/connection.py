"""A connection that nobody can hold for ever, and whose last answer is heard.

Uvicorn has a timeout for idle connections and none for slow ones: a byte now and then holds one open.
Here each phase of a connection has an end that no byte postpones.
"""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .middleware.answer import DEFAULTS
from .middleware.gate import network
from .middleware.refusals import PROBLEM, problem

if TYPE_CHECKING:
    import asyncio

    from uvicorn.config import Config
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from .middleware.limits import ServerLimits

# For so long a client may go on sending what nobody reads: closing at once would reset the connection,
# and take from it the answer that says why.
_LINGER_SECONDS: Final = 2.0
# So many connections may be there besides, to hear their last answer; then the first of them is cut off.
_LEAVING: Final = 64


class _Phase(Enum):
    NONE = auto()
    IDLE = auto()
    """Between two requests."""
    HEAD = auto()
    """Some of a request's head is there."""
    REST = auto()
    """Answered, while the body is still coming."""


class Crowd:
    """The connections of one server, by what they do just now. Each step costs the same, however many."""

    def __init__(self, most: int) -> None:
        self._most = most + _LEAVING
        self._busy: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._idle_of: dict[str, dict[Connection, None]] = {}
        self._leaving: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._busy) + len(self._idle)

    def work(self, one: Connection) -> None:
        """One begins to be answered."""
        self.forget(one)
        self._busy.add(one)

    def rest(self, one: Connection) -> None:
        """One asks for nothing, or not for all of it yet."""
        self.forget(one)
        self._idle[one] = self._idle_of.setdefault(one.holder, {})[one] = None
        self._bound()

    def leave(self, one: Connection) -> None:
        """One has its last answer on its way."""
        self.forget(one)
        self._leaving[one] = None
        self._bound()

    def _bound(self) -> None:
        if self._leaving and len(self) + len(self._leaving) > self._most:
            next(iter(self._leaving)).cut_off()

    def forget(self, one: Connection) -> None:
        """One is gone."""
        self._busy.discard(one)
        self._leaving.pop(one, None)
        if one in self._idle:
            del self._idle[one], self._idle_of[one.holder][one]
            if not self._idle_of[one.holder]:
                del self._idle_of[one.holder]

    def dispensable(self) -> Connection | None:
        """Return the one that has asked for nothing for longest, of whoever holds most of these."""
        held = max(self._idle_of.values(), key=len, default=None)
        return None if held is None else next(iter(held))


class Connection(H11Protocol):
    """Uvicorn's protocol with limits, which a subclass sets: it is uvicorn that makes the instances."""

    limits: ServerLimits
    crowd: Crowd

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._raw: asyncio.Transport | None = None
        self._phase = _Phase.NONE
        self.holder = ""
        """Who is at the other end, as far as it can be told."""
        self._phase_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self.leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection; when there are too many, one that has nothing to do makes room."""
        self._raw = transport
        super().connection_made(cast("asyncio.Transport", _Closing(transport, self)))
        self.holder = network(self.client[0]) if self.client else ""
        if len(self.crowd) < self.limits.connections:
            self._watch()
        elif (other := self.crowd.dispensable()) is not None:
            other.cut_off()
            self._watch()
        else:
            self._end(HTTPStatus.SERVICE_UNAVAILABLE, "the server has as many connections as it may have")

    def cut_off(self) -> None:
        """Close the connection at once, whatever is still to be said."""
        self.leaving = True
        self._watch()
        self.crowd.forget(self)
        if self._raw is not None:
            self._raw.abort()

    def data_received(self, data: bytes) -> None:
        """Read on, unless all has been said."""
        if not self.leaving:
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Give the client a while to read."""
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        if not self.leaving:
            self._cancel_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.leaving = True
        self._watch()
        self.crowd.forget(self)
        self._cancel_write_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the form of all other answers."""
        del msg
        unread, _ = self.conn.trailing_data
        if len(unread) > self.limits.head_bytes:
            detail = f"the head of a request may have {self.limits.head_bytes} bytes at most"
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
        else:
            self._end(HTTPStatus.BAD_REQUEST, "this is not a valid HTTP request")

    def leave(self) -> None:
        """Close the connection when the client has read the answer, or does not seem to want to."""
        raw = self._raw
        if self.leaving or raw is None:
            return
        unfinished = self.conn.their_state in (h11.SEND_BODY, h11.ERROR) or self._is_in_head()
        self.leaving = True
        self._watch()
        self.crowd.leave(self)
        self._expect_reading()
        if not unfinished or raw.is_closing() or not raw.can_write_eof():
            raw.close()
            return
        raw.write_eof()
        self.flow.resume_reading()
        self._phase_timer = self.loop.call_later(_LINGER_SECONDS, raw.abort)

    def _end(self, status: HTTPStatus, detail: str) -> None:
        """Answer in the application's place, if it has not begun to, and leave."""
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(_written(status, problem(status, detail)))
        self.transport.close()

    def _watch(self) -> None:
        """Start the clock of a phase when it begins. What comes within the phase does not stop it."""
        phase = self._current_phase()
        if phase is self._phase:
            return
        self._phase = phase
        if self._phase_timer is not None:
            self._phase_timer.cancel()
            self._phase_timer = None
        if phase is _Phase.NONE:
            self.crowd.work(self)
        else:
            self.crowd.rest(self)
            seconds = self.limits.idle_seconds if phase is _Phase.IDLE else self.limits.head_seconds
            self._phase_timer = self.loop.call_later(seconds, self._time_out)

    def _current_phase(self) -> _Phase:
        if self.leaving or self._is_answering():
            return _Phase.NONE
        if self.conn.their_state is h11.SEND_BODY:
            return _Phase.REST
        return _Phase.HEAD if self._is_in_head() else _Phase.IDLE

    def _is_answering(self) -> bool:
        # Uvicorn declares it wrongly: there is no cycle before the first request.
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _is_in_head(self) -> bool:
        return self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])

    def _time_out(self) -> None:
        if self._phase is _Phase.HEAD:
            detail = f"the head of the request did not come within {self.limits.head_seconds:g} s"
            self._end(HTTPStatus.REQUEST_TIMEOUT, detail)
        else:
            self.leave()

    def _expect_reading(self) -> None:
        if self._write_timer is None and self._raw is not None:
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self._raw.abort)

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class _Closing:
    """The transport as uvicorn sees it: to close it is to leave."""

    def __init__(self, raw: asyncio.Transport, connection: Connection) -> None:
        self._raw = raw
        self._connection = connection

    def __getattr__(self, name: str) -> object:
        return getattr(self._raw, name)

    def close(self) -> None:
        self._connection.leave()

    def is_closing(self) -> bool:
        return self._connection.leaving or self._raw.is_closing()


def _written(status: HTTPStatus, content: bytes) -> bytes:
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", b"%d" % len(content)),
        (b"connection", b"close"),
        *DEFAULTS,
    ]
    head = b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())
    return head + b"".join(b"%s: %s\r\n" % pair for pair in headers) + b"\r\n" + content
