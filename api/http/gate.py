"""Who is let in, how often, and what is kept in memory about it. One for each protected application."""

from __future__ import annotations

import inspect
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from .access import Access
from .rates import Rates, Streams, Underway
from .refusals import Refusal

if TYPE_CHECKING:
    from ...actors.seam import Clock
    from .access import AccessCheck
    from .asgi import ASGIScope
    from .hosts import Hosts
    from .limits import ServerLimits

# As ASGI calls them.
_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})


class Gate:
    """The rules that requests are held against. Used on one event loop."""

    def __init__(self, access: AccessCheck, hosts: Hosts, limits: ServerLimits, clock: Clock) -> None:
        self.access = access
        self.hosts = hosts
        self.limits = limits
        self.clock = clock
        self.streams = Streams(limits.streams)
        self.underway = Underway(limits.underway)
        kept = limits.remembered
        self._callers = Rates(clock, limits.caller_rate, limits.caller_burst, kept)
        self._strangers = Rates(clock, limits.stranger_rate, limits.stranger_burst, kept)
        self._flows = Rates(clock, limits.flow_signal_rate, limits.flow_signal_burst, kept)

    def check(self, scope: ASGIScope) -> None:
        """Look at what tells nothing about the sender.

        Raises:
            Refusal: 400, 403, 431 or 505.
        """
        if len(scope["headers"]) > self.limits.headers:
            raise _large_head(f"a request may have {self.limits.headers} headers at most")
        if _head_bytes(scope) > self.limits.head_bytes:
            raise _large_head(f"the head of a request may have {self.limits.head_bytes} bytes at most")
        if not scope["path"].startswith("/"):
            detail = "the target of a request is a path, and begins with /"
            raise Refusal(HTTPStatus.BAD_REQUEST, detail, {"Connection": "close"})
        if scope.get("http_version", "1.1") not in _VERSIONS:
            detail = "this version of HTTP is not spoken here"
            raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, detail, {"Connection": "close"})
        self.hosts.check(scope)

    async def admit(self, scope: ASGIScope) -> Access | None:
        """Find out who asks, and count it.

        Raises:
            Refusal: 429.
            TypeError: the application's own check answered with something else; nobody is let in.
        """
        # An application's own check is not typed by anybody but itself.
        found: Any = self.access(scope)
        if inspect.isawaitable(found):
            found = await found
        if found is None:
            self._strangers.take(_address(scope), "too many requests without a valid token")
        elif isinstance(found, Access):
            self._callers.take(found.name, "too many requests")
        else:
            raise TypeError(f"access checks return Access or None, not {type(found).__name__}")
        return found

    def take_signal(self, flow_id: str) -> None:
        """Count a signal to a flow.

        Raises:
            Refusal: 429.
        """
        self._flows.take(flow_id, "too many signals to this flow")


def caller(scope: ASGIScope, access: Access | None) -> str:
    """Name who asks, for logs and limits."""
    return access.name if access else f"somebody at {_address(scope)}"


def _large_head(detail: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail, {"Connection": "close"})


def _head_bytes(scope: ASGIScope) -> int:
    target = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    return target + sum(len(name) + len(value) for name, value in scope["headers"])


def _address(scope: ASGIScope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "this machine"
