"""Connections that no client can hold forever.

Uvicorn bounds how long a connection may be idle between two requests, and nothing else: not a connection
that never sends a request, not a head that comes byte by byte, not a client that does not read. So an
asyncio protocol of our own stands in front of uvicorn's. It knows nothing of uvicorn's inside: it sees the
bytes, and the ASGI side tells it when a request of its connection is being answered.

All of it runs on the event loop of one server.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from .middleware.problem import PROBLEM, ProblemError
from .middleware.response import DEFAULTS, UNREAD_BODY
from .middleware.rules import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from .middleware.asgi import ASGIApp, ASGIScope, Receive, Send
    from .middleware.limits import ServerLimits

    _Peer: TypeAlias = tuple[str, int]

# How long a refused client may take to send something, and how many such connections stay open.
_REFUSED_SECONDS: Final = 1.0
_REFUSED: Final = 64


_EMPTY_LINE: Final = b"\r\n"
"""What some clients begin with, and a server should ignore (RFC 9112, 2.2).

Only at the beginning of a connection: later, only uvicorn's parser knows what is part of a body.
"""


class Connections:
    """The open connections of one server. The cost of each operation does not depend on their number."""

    def __init__(self, app: ASGIApp, limits: ServerLimits) -> None:
        self.limits = limits
        self._app = app
        self._open: set[_Connection] = set()
        self._of_peer: dict[_Peer, _Connection] = {}
        self._idle: dict[str, dict[_Connection, None]] = {}
        self._refused: set[_Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def app(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Run the application, and count its connection as busy meanwhile."""
        peer = _peer(scope.get("client"))
        connection = None if peer is None else self._of_peer.get(peer)
        if connection is None:
            await self._app(scope, receive, send)
            return
        extensions: dict[str, Any] = {**(scope.get("extensions") or {}), UNREAD_BODY: connection.leave_body}
        connection.begin_request()
        try:
            await self._app({**scope, "extensions": extensions}, receive, send)
        finally:
            connection.end_request()

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the class of protocols of which uvicorn makes one for each connection."""
        connections = self

        class Bounded(_Connection):
            def __init__(self, **arguments: Any) -> None:
                super().__init__(connections, arguments)

        return Bounded

    def admit(self, connection: _Connection, peer: _Peer | None) -> bool:
        """Add a connection if there is room, or an idle one can be closed to make room."""
        if len(self._open) >= self.limits.connections:
            # The holder of the most idle connections loses the one that has been idle for longest.
            held = max(self._idle.values(), key=len, default=None)
            if held is None:
                return False
            next(iter(held)).cut_off()
        self._open.add(connection)
        if peer is not None:
            self._of_peer[peer] = connection
        return True

    def refuse(self, connection: _Connection) -> bool:
        """Keep a refused connection open for a moment, unless too many are."""
        if len(self._refused) >= _REFUSED:
            return False
        self._refused.add(connection)
        return True

    def mark_idle(self, connection: _Connection) -> None:
        """Note that a connection has no request, so it may be closed to make room."""
        self._idle.setdefault(connection.holder, {})[connection] = None

    def mark_busy(self, connection: _Connection) -> None:
        """Note that a connection has a request, or an answer that the client still has to read."""
        if (held := self._idle.get(connection.holder)) is not None:
            held.pop(connection, None)
            if not held:
                del self._idle[connection.holder]

    def remove(self, connection: _Connection, peer: _Peer | None) -> None:
        self.mark_busy(connection)
        self._open.discard(connection)
        self._refused.discard(connection)
        if peer is not None and self._of_peer.get(peer) is connection:
            del self._of_peer[peer]


class _Connection(asyncio.Protocol):
    """One connection. It passes everything on to uvicorn's protocol, and bounds the time of each phase.

    A connection of a unix socket, which only its owner can open, has no address by which to recognise its
    requests. It always counts as busy, and has only uvicorn's timeout between two requests.
    """

    def __init__(self, connections: Connections, arguments: dict[str, Any]) -> None:
        self._connections = connections
        self._limits = connections.limits
        self._arguments = arguments
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._loop = asyncio.get_running_loop()
        self._peer: _Peer | None = None
        self.holder = ""
        """The address, or IPv6 network, at the other end."""
        self._is_open = True
        self._has_begun = False
        self._requests = 0
        self._is_in_head = False
        self._has_unread_body = False
        self._is_reading = True
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._peer = _peer(transport.get_extra_info("peername"))
        self.holder = network(self._peer[0]) if self._peer is not None else ""
        if self._connections.admit(self, self._peer):
            self._inner = H11Protocol(**self._arguments)
            self._inner.connection_made(self._transport)
            self._rest()
        else:
            self._refuse()

    def data_received(self, data: bytes) -> None:
        """Pass the data on. The time for the head of a request begins with its first byte."""
        if self._inner is None:
            self._transport.close()
            return
        if self._is_idle and not self._is_in_head:
            self._is_in_head = True
            self._expect(self._limits.head_seconds)
        if not self._has_begun:
            self._has_begun = True
            data = data.removeprefix(_EMPTY_LINE)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        """Give the client `write_seconds` to read."""
        self._is_reading = False
        self._work()
        self._write_timer = self._loop.call_later(self._limits.write_seconds, self._transport.abort)
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._is_reading = True
        self._cancel_write_timer()
        self._rest()
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._work()
        self._cancel_write_timer()
        self._connections.remove(self, self._peer)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def begin_request(self) -> None:
        self._requests += 1
        self._has_unread_body = False
        self._work()

    def end_request(self) -> None:
        self._requests -= 1
        self._rest()

    def leave_body(self) -> None:
        """Note that the answer was sent, and that the rest of the request's body is dropped."""
        self._has_unread_body = True
        self._rest()

    def cut_off(self) -> None:
        """Close the connection at once, even if data is still to be sent."""
        self._transport.abort()
        self._connections.remove(self, self._peer)

    @property
    def _is_idle(self) -> bool:
        is_answered = self._requests == 0 or self._has_unread_body
        return is_answered and self._is_reading and self._is_open and self._peer is not None

    def _rest(self) -> None:
        """Wait for the next request, or for the rest of an answer to be sent."""
        if self._is_idle:
            self._is_in_head = False
            self._connections.mark_idle(self)
            self._expect(self._limits.idle_seconds)

    def _work(self) -> None:
        self._connections.mark_busy(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        if self._is_in_head and not self._has_unread_body and not self._transport.is_closing():
            detail = f"the head of the request did not come within {self._limits.head_seconds:g} s"
            self._transport.write(_answer(HTTPStatus.REQUEST_TIMEOUT, detail))
        self._transport.close()
        self._timer = self._loop.call_later(self._limits.write_seconds, self._transport.abort)

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _refuse(self) -> None:
        detail = "the server has as many connections as it may have"
        self._transport.write(_answer(HTTPStatus.SERVICE_UNAVAILABLE, detail))
        if self._connections.refuse(self):
            # With unread data, closing resets the connection, and the answer is lost.
            self._timer = self._loop.call_later(_REFUSED_SECONDS, self._transport.close)
        else:
            self._transport.close()


def _peer(address: object) -> tuple[str, int] | None:
    """Return the address and port that identify a TCP connection; unix sockets have none."""
    if not isinstance(address, (tuple, list)):
        return None
    host, port, *_ = cast("Sequence[Any]", address)
    return str(host), int(port)


def _answer(status: HTTPStatus, detail: str) -> bytes:
    content = ProblemError(status, detail).content()
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", b"%d" % len(content)),
        (b"connection", b"close"),
        *DEFAULTS,
    ]
    head = b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode())
    return head + b"".join(b"%s: %s\r\n" % pair for pair in headers) + b"\r\n" + content
