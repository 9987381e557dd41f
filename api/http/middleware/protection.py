"""The protection around an application of any framework. Each request passes all of it."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ....actors.runtime.primitives import SystemClock
from .body import RequestBody
from .hosts import Hosts
from .limits import ServerLimits
from .problem import ProblemError, failed
from .request_context import RequestContext, RoutePolicy
from .response import ProtectedResponse
from .rules import Rules, caller

if TYPE_CHECKING:
    from ....actors.runtime.primitives import Clock
    from .asgi import ASGIApp, ASGIScope, Message, Receive, Send
    from .identity import AccessCheck
    from .rules import OpenStream

logger = logging.getLogger("persistasaurus.http")

_LOGGED: Final = 200
_POLICY_VIOLATION: Final = 1008


def protected(  # noqa: PLR0913 - all but one have a default, and a name
    app: ASGIApp,
    *,
    access: AccessCheck,
    hosts: Hosts | None = None,
    limits: ServerLimits | None = None,
    clock: Clock | None = None,
    guarded: bool = False,
) -> Protected:
    """Put the protection around an application.

    Args:
        app: any ASGI application.
        access: finds out who sends a request: `Tokens`, `OpenToAll()`, or your own callable.
        hosts: the names under which it answers; loopback names by default.
        limits: the bounds of sizes, times and rates.
        clock: the clock by which rates are counted.
        guarded: the application has `Guarding` among its plugins, so unknown callers may reach its public
        routes.
            Without it, every request needs access.
    """
    rules = Rules(access, hosts or Hosts(), limits or ServerLimits(), clock or SystemClock())
    return Protected(app, rules, guarded=guarded)


class Protected:
    """An ASGI application within its protection; `protected` returns it, and `serve` accepts it."""

    def __init__(self, app: ASGIApp, rules: Rules, *, guarded: bool) -> None:
        self.rules = rules
        self._app = app
        self._guarded = guarded

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan of the application. WebSockets are refused."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _ProtectedRequest(self._app, self.rules, scope, receive, send).handle(guarded=self._guarded)
        else:
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})


class _ProtectedRequest:
    """One request on its way in, and its answer on the way out."""

    def __init__(self, app: ASGIApp, rules: Rules, scope: ASGIScope, receive: Receive, send: Send) -> None:
        self._app = app
        self._rules = rules
        self._scope = scope
        self._context = RequestContext(
            on_policy=self._enter, stream=self._stream, signal=rules.take_signal, wait=rules.streams.wait
        )
        self._body = RequestBody(scope, receive, rules.limits)
        self._answer = ProtectedResponse(scope, send, self._context, self._body)
        self._deadline = asyncio.timeout(rules.limits.request_seconds)
        self._open: OpenStream | None = None
        self._counted: str | None = None

    async def handle(self, *, guarded: bool) -> None:
        """Answer, whatever happens, and log one line."""
        begun = self._rules.clock.elapsed()
        try:
            await self._answer_or_refuse(guarded=guarded)
        finally:
            self._leave()
            self._log((self._rules.clock.elapsed() - begun) * 1000)
        await self._answer.linger()

    async def _answer_or_refuse(self, *, guarded: bool) -> None:
        try:
            await self._answer_in_time(guarded=guarded)
        except ProblemError as problem:
            await self._answer.refuse(problem)
        except Exception:
            if self._answer.status is not None:
                # Half an answer must not look like a whole one: the server closes the connection.
                raise
            logger.exception("a request failed: %s", self._shown())
            await self._answer.refuse(failed())
        except asyncio.CancelledError:
            # By the server, which has waited long enough.
            if self._answer.status is None:
                await self._answer.refuse(_unanswered("the server is stopping"))
            raise

    async def _answer_in_time(self, *, guarded: bool) -> None:
        try:
            async with self._deadline:
                await self._pass(guarded=guarded)
        except TimeoutError:
            if not self._deadline.expired():
                raise
            raise _unanswered(f"no answer within {self._rules.limits.request_seconds:g} s") from None

    async def _pass(self, *, guarded: bool) -> None:
        self._body.check()
        self._rules.check(self._scope)
        self._context.access = await self._rules.admit(self._scope)
        if self._context.access is not None:
            self._count(self._context.access.name)
        if not guarded:
            self._context.enter_route(RoutePolicy())
        self._context.enter(self._scope)
        await self._app(self._scope, self._receive, self._answer.send)
        if self._open is not None and self._open.ended.is_set():
            await self._answer.end()

    async def _receive(self) -> Message:
        try:
            if self._open is not None and self._body.ended:
                return await self._until_stopped(self._open)
            return await self._body.receive()
        except ProblemError as problem:
            await self._answer.refuse(problem)
            raise

    async def _until_stopped(self, stream: OpenStream) -> Message:
        """Report to a stream that its client has left: it did, or the server stops."""
        gone = asyncio.ensure_future(self._body.receive())
        stopped = asyncio.ensure_future(stream.ended.wait())
        try:
            await asyncio.wait((gone, stopped), return_when=asyncio.FIRST_COMPLETED)
            return gone.result() if gone.done() else {"type": "http.disconnect"}
        finally:
            gone.cancel()
            stopped.cancel()

    def _enter(self, policy: RoutePolicy) -> None:
        self._rules.hosts.check(
            self._scope, any_host=policy.any_host, hidden_origin=policy.hidden_origin, origin=policy.origin
        )
        if self._context.access is None and policy.counted:
            self._count(self._rules.admit_stranger(self._scope, policy.link))

    def _count(self, name: str) -> None:
        self._rules.in_flight.enter(name)
        self._counted = name

    def _stream(self) -> None:
        if self._open is None:
            self._open = self._rules.streams.enter(caller(self._scope, self._context.access))
            self._deadline.reschedule(None)

    def _leave(self) -> None:
        if self._open is not None:
            self._rules.streams.leave(self._open)
        if self._counted is not None:
            self._rules.in_flight.leave(self._counted)

    def _log(self, milliseconds: float) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        name = ascii(caller(self._scope, self._context.access))[1:-1]
        logger.info("%s: %s, %.0f ms, %s", self._shown(), self._answer.status, milliseconds, name)

    def _shown(self) -> str:
        """Describe the request on one line, without secrets: paths of links are tokens."""
        known = self._context.access is not None and not self._context.is_public
        path = self._scope["path"] if known else self._scope.get("path_template", "(not shown)")
        return f"{self._scope['method'][:20]} {ascii(path[:_LOGGED])[1:-1]}"


def _unanswered(why: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{why}: the request may still take effect",
        {"Retry-After": "1", "Connection": "close"},
    )
