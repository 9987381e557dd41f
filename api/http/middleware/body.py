"""The body of a request: how it may be framed, how large it may be, and how long it may take."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from .asgi import headers
from .problem import ProblemError

if TYPE_CHECKING:
    from .asgi import ASGIScope, Message, Receive
    from .limits import ServerLimits

# Up to this much of an unwanted body may still come on a connection that stays open.
_SMALL: Final = 64 * 1024
_LONGEST_LENGTH: Final = 15


class RequestBody:
    """The `receive` of one request. It ends the request when too much comes, or too slowly."""

    def __init__(self, scope: ASGIScope, receive: Receive, limits: ServerLimits) -> None:
        self._scope = scope
        self._receive = receive
        self._limits = limits
        self._announced = 0
        self._received = 0
        self._chunked = bool(headers(scope, b"transfer-encoding"))
        self.ended = not self._chunked and not headers(scope, b"content-length")
        """All of it was received."""
        self._until: float | None = None

    @property
    def is_in_the_way(self) -> bool:
        """Whether the connection is useless after the answer: too much of the body is still to come."""
        return not self.ended and (self._chunked or self._announced - self._received > _SMALL)

    def check(self) -> None:
        """Refuse by the headers what need not be read. Raises ProblemError: 400, 413 or 415."""
        self._until = asyncio.get_running_loop().time() + self._limits.body_seconds
        _check_framing(self._scope)
        self._announced = max((int(value) for value in headers(self._scope, b"content-length")), default=0)
        if self._announced > self._limits.body_bytes:
            raise self._too_large()
        encodings = b",".join(headers(self._scope, b"content-encoding")).strip().lower()
        if encodings not in (b"", b"identity"):
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "send the body as it is: no Content-Encoding is accepted",
                {"Accept-Encoding": "identity"},
            )

    async def receive(self) -> Message:
        """Receive the next message; after the body, wait for the client to disconnect.

        Raises:
            ProblemError: 400, 408 or 413.
        """
        if self.ended:
            return await self._receive()
        message = await self._next()
        if message["type"] == "http.disconnect":
            self.ended = True
            raise _bad("the client disconnected before the end of its body")
        self._received += len(message.get("body", b""))
        if self._received > self._limits.body_bytes:
            raise self._too_large()
        self.ended = not message.get("more_body", False)
        return message

    async def skip(self, seconds: float) -> None:
        """Read what the client still sends, for so many seconds, and drop it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.ended:
                    message = await self._receive()
                    self.ended = message["type"] == "http.disconnect" or not message.get("more_body", False)

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            raise self._too_slow() from None

    def _too_slow(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_TIMEOUT,
            f"the body did not come within {self._limits.body_seconds:g} s",
            {"Connection": "close"},
        )

    def _too_large(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body may have at most {self._limits.body_bytes} bytes",
            {"Connection": "close"},
        )


def _check_framing(scope: ASGIScope) -> None:
    """Refuse a body whose end a proxy might see elsewhere: the rest would be taken for a request.

    Most servers refuse it themselves; this must hold with any server.
    """
    lengths, codings = headers(scope, b"content-length"), headers(scope, b"transfer-encoding")
    if len(set(lengths)) > 1 or not all(_is_length(value) for value in lengths):
        raise _bad("Content-Length must occur once, and be a number")
    if codings and (lengths or scope.get("http_version") == "1.0"):
        raise _bad("use either a Content-Length, or chunked with version 1.1, not both")
    if codings and [coding.strip().lower() for coding in codings] != [b"chunked"]:
        raise _bad("the only Transfer-Encoding is chunked")


def _is_length(value: bytes) -> bool:
    return value.isdigit() and len(value) <= _LONGEST_LENGTH


def _bad(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, detail, {"Connection": "close"})
