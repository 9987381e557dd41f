"""The answer to one request: the headers that every answer has, and what must not be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .problem import PROBLEM

if TYPE_CHECKING:
    from collections.abc import Callable

    from .asgi import ASGIScope, Message, Send
    from .body import RequestBody
    from .problem import ProblemError
    from .request_context import RequestContext

_ALWAYS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
# Unless the application sets its own, as its pages do.
_BY_DEFAULT: Final = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
DEFAULTS: Final = (*_ALWAYS, *_BY_DEFAULT)
_CLOSE: Final = (b"connection", b"close")
_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}
_REPLACED: Final = frozenset({b"server", b"x-powered-by", *(name for name, _ in _ALWAYS)})
# How long the rest of a body is read after the answer. Closing a connection with unread data resets it, and
# the client would lose the answer that says why.
_LINGER_SECONDS: Final = 2.0
# The extension by which our server learns that no one waits for the rest of a body.
UNREAD_BODY: Final = "persistasaurus.unread_body"


class ProtectedResponse:
    """The `send` of one request. The first answer counts: after a problem, the application's is dropped.

    If the answer comes long before the end of the body, the connection is closed.
    """

    def __init__(self, scope: ASGIScope, send: Send, context: RequestContext, body: RequestBody) -> None:
        self._send = send
        self._context = context
        self._body = body
        extensions: dict[str, Any] = scope.get("extensions") or {}
        self._drop_body: Callable[[], None] = extensions.get(UNREAD_BODY, lambda: None)
        self._has_connection = scope.get("http_version") not in ("2", "3")
        self._refused = False
        self.status: int | None = None
        """The status that was sent; None: nothing was."""
        self._is_whole = False
        self._lingers = False

    async def send(self, message: Message) -> None:
        """Pass on the application's answer, unless its receiver must not have it."""
        if self._refused:
            return
        if message["type"] == "http.response.body":
            await self._send_piece(message)
        elif problem := self._context.problem():
            await self.refuse(problem)
        else:
            await self._begin(message)

    async def end(self) -> None:
        """Complete the application's answer, so that the client sees that it is whole."""
        if self.status is not None and not self._is_whole:
            await self._send_piece(_END)

    async def linger(self) -> None:
        """Let the client receive the answer before the connection is closed."""
        if self._lingers:
            await self._body.skip(_LINGER_SECONDS)
            await self._send(_END)

    async def refuse(self, problem: ProblemError) -> None:
        """Answer in the application's place.

        Raises:
            ConnectionAbortedError: the application's answer has begun, and can only be cut off.
        """
        if self._refused:
            return
        if self.status is not None:
            raise ConnectionAbortedError(problem.detail)
        self._refused = True
        content = problem.content()
        given = {**(problem.headers or {}), "Content-Type": PROBLEM, "Content-Length": str(len(content))}
        headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        await self._begin({"type": "http.response.start", "status": problem.status_code, "headers": headers})
        await self._send_piece({"type": "http.response.body", "body": content})

    async def _begin(self, start: Message) -> None:
        self.status = start["status"]
        await self._send(self._complete(start))

    async def _send_piece(self, piece: Message) -> None:
        self._is_whole = not piece.get("more_body", False)
        self._lingers = self._is_whole and self._body.is_in_the_way
        await self._send({**piece, "more_body": True} if self._lingers else piece)
        if self._is_whole and not self._body.ended:
            self._drop_body()

    def _complete(self, message: Message) -> Message:
        headers = [(name.lower(), value) for name, value in message.get("headers", ())]
        headers = [pair for pair in headers if pair[0] not in _REPLACED]
        present = {name for name, _ in headers}
        headers += [pair for pair in DEFAULTS if pair[0] not in present]
        if self._body.is_in_the_way and _CLOSE[0] not in present:
            headers.append(_CLOSE)
        if not self._has_connection:
            headers = [pair for pair in headers if pair[0] != _CLOSE[0]]
        return {**message, "headers": headers}
