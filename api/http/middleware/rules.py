"""Who is admitted, how often, and what is remembered for that. One for each protected application."""

from __future__ import annotations

import inspect
import ipaddress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from .identity import Access
from .problem import ProblemError
from .rates import InFlight, Rates, Streams

if TYPE_CHECKING:
    from ....actors.runtime.primitives import Clock
    from .asgi import ASGIScope
    from .hosts import Hosts
    from .identity import AccessCheck
    from .limits import ServerLimits

# As ASGI calls them.
_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})


class Rules:
    """The rules that requests are checked against. Used on one event loop."""

    def __init__(self, access: AccessCheck, hosts: Hosts, limits: ServerLimits, clock: Clock) -> None:
        self.access = access
        self.hosts = hosts
        self.limits = limits
        self.clock = clock
        self.streams = Streams(limits.streams)
        self.in_flight = InFlight(limits.in_flight)
        kept = limits.remembered
        self._callers = Rates(clock, limits.caller_rate, limits.caller_burst, kept)
        self._strangers = Rates(clock, limits.stranger_rate, limits.stranger_burst, kept)
        # Apart from those, so that no number of strangers pushes these out of memory.
        self._links = Rates(clock, limits.stranger_rate, limits.stranger_burst, kept)
        self._flows = Rates(clock, limits.flow_signal_rate, limits.flow_signal_burst, kept)

    def check(self, scope: ASGIScope) -> None:
        """Check what does not depend on the sender.

        Raises:
            ProblemError: 400, 431 or 505.
        """
        if len(scope["headers"]) > self.limits.headers:
            raise _large_head(f"a request may have at most {self.limits.headers} headers")
        if _head_bytes(scope) > self.limits.head_bytes:
            raise _large_head(f"the head of a request may have at most {self.limits.head_bytes} bytes")
        if not scope["path"].startswith("/"):
            detail = "the target of a request is a path, and begins with /"
            raise ProblemError(HTTPStatus.BAD_REQUEST, detail, {"Connection": "close"})
        if scope.get("http_version", "1.1") not in _VERSIONS:
            detail = "this version of HTTP is not supported"
            raise ProblemError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, detail, {"Connection": "close"})

    async def admit(self, scope: ASGIScope) -> Access | None:
        """Find out who sends the request, and count it if they are known.

        Raises:
            ProblemError: 429.
            TypeError: the access check returned something else; the request is refused.
        """
        # An application's own check may return anything.
        found: Any = self.access(scope)
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, Access):
            self._callers.take(found.name, "too many requests")
        elif found is not None:
            raise TypeError(f"access checks return Access or None, not {type(found).__name__}")
        return found

    def admit_stranger(self, scope: ASGIScope, link: str | None = None) -> str:
        """Count a request of an unknown caller, and return the share that it counts against.

        Everyone behind a proxy has the same address. So requests with a genuine link have a share of their
        own, which no one else can use up.

        Raises:
            ProblemError: 429.
        """
        if link is None:
            share = f"stranger at {network(_address(scope))}"
            self._strangers.take(share, "too many requests without a valid token")
        else:
            share = f"link {link}"
            self._links.take(share, "too many requests with this link")
        return share

    def take_signal(self, flow_id: str) -> None:
        """Count a signal to a flow.

        Raises:
            ProblemError: 429.
        """
        self._flows.take(flow_id, "too many signals to this flow")


def caller(scope: ASGIScope, access: Access | None) -> str:
    """Name the sender, for logs and limits."""
    return access.name if access else f"stranger at {_address(scope)}"


def _large_head(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail, {"Connection": "close"})


def _head_bytes(scope: ASGIScope) -> int:
    target = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    return target + sum(len(name) + len(value) for name, value in scope["headers"])


def _address(scope: ASGIScope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "this machine"


def network(address: str) -> str:
    """Return what one sender controls: an address, or in IPv6 the network that each subscriber gets."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address) or found.is_loopback:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
