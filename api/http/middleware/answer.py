"""The answer to one request: what each carries, and what nobody gets to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .refusals import PROBLEM, problem

if TYPE_CHECKING:
    from ..asgi import ASGIScope, Message, Send
    from .body import Body
    from .exchange import Exchange
    from .refusals import Refusal

_ALWAYS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
# Unless the application says otherwise, as its pages do.
_BY_DEFAULT: Final = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
)
DEFAULTS: Final = (*_ALWAYS, *_BY_DEFAULT)
_CLOSE: Final = (b"connection", b"close")
_REPLACED: Final = frozenset({b"server", b"x-powered-by", *(name for name, _ in _ALWAYS)})


class Answer:
    """The `send` of one request. The first answer counts: after a refusal, the application's is dropped."""

    def __init__(self, scope: ASGIScope, send: Send, exchange: Exchange, body: Body) -> None:
        self._send = send
        self._exchange = exchange
        self._body = body
        self._has_connection = scope.get("http_version") not in ("2", "3")
        self._refused = False
        self.status: int | None = None
        """The status that was sent; None: nothing was."""
        self._ended = False

    async def send(self, message: Message) -> None:
        """Pass on what the application answers, unless it answers somebody who must not hear it."""
        if self._refused:
            return
        if message["type"] == "http.response.start":
            if refusal := self._exchange.refusal():
                await self.refuse(refusal)
                return
            message = self._complete(message)
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        await self._send(message)

    async def finish(self) -> None:
        """End an answer that was begun, so that the client takes it for whole."""
        if self.status is not None and not self._ended and not self._refused:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, refusal: Refusal) -> None:
        """Answer in the application's place.

        Raises:
            ConnectionAbortedError: the application's answer is under way, and can only be cut off.
        """
        if self._refused:
            return
        if self.status is not None:
            raise ConnectionAbortedError(refusal.detail)
        self._refused = True
        self.status = refusal.status_code
        content = problem(refusal.status_code, refusal.detail)
        given = {**(refusal.headers or {}), "Content-Type": PROBLEM, "Content-Length": str(len(content))}
        headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        start = {"type": "http.response.start", "status": self.status, "headers": headers}
        await self._send(self._complete(start))
        await self._send({"type": "http.response.body", "body": content})

    def _complete(self, message: Message) -> Message:
        headers = [(name.lower(), value) for name, value in message.get("headers", ())]
        headers = [pair for pair in headers if pair[0] not in _REPLACED]
        present = {name for name, _ in headers}
        headers += [pair for pair in DEFAULTS if pair[0] not in present]
        if self._body.lingers and _CLOSE[0] not in present:
            headers.append(_CLOSE)
        if not self._has_connection:
            headers = [pair for pair in headers if pair[0] != _CLOSE[0]]
        return {**message, "headers": headers}
