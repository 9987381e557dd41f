"""Who is admitted, how often, and how much at once, in bounded memory.

Rates are token buckets on the environment's clock. A refusal is a `ProblemError`; 429 has `Retry-After`.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
from collections import Counter, OrderedDict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ....actors.runtime.primitives import Lock
from .identity import Access
from .problem import ProblemError, too_many

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ....actors.runtime.primitives import Clock
    from .asgi import ASGIScope
    from .hosts import Hosts
    from .identity import AccessCheck
    from .limits import ServerLimits

# As ASGI calls them.
_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})


class Rates:
    """A bucket for each key: `burst` at once, refilled at `rate` a second. Usable from any thread.

    It remembers the `remembered` keys that were used last. A forgotten key has a full bucket.
    """

    def __init__(self, clock: Clock, rate: float, burst: int, remembered: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._remembered = remembered
        self._lock = Lock()
        # Which instant a bucket is full at: one number says all about it.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: str) -> float:
        """Take one and return 0, or take nothing and return the seconds until one is available."""
        with self._lock:
            now = self._clock.elapsed()
            full_at = max(self._full_at.get(key, now), now) + 1 / self._rate
            missing = full_at - now - self._burst / self._rate
            # Sums of thousands of small numbers are a little off.
            if missing > 1e-6 / self._rate:
                return missing
            self._full_at[key] = full_at
            self._full_at.move_to_end(key)
            if len(self._full_at) > self._remembered:
                self._full_at.popitem(last=False)
            return 0

    def take(self, key: str, detail: str) -> None:
        """Take one. Raises ProblemError: 429, with `Retry-After`."""
        if seconds := self.wait(key):
            raise too_many(detail, seconds)


class InFlight:
    """Counts the requests of each caller that are being answered. Used on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of.total()

    def enter(self, name: str) -> None:
        """Begin one more, to be followed by `leave`. Raises ProblemError: 429, with `Retry-After`."""
        if self._of[name] >= self._most:
            raise too_many(f"this caller has too many requests in progress (the limit is {self._most})", 1)
        self._of[name] += 1

    def leave(self, name: str) -> None:
        self._of[name] -= 1
        if not self._of[name]:
            del self._of[name]


class OpenStream:
    """An answer that stays open. `ended` is set when the server stops."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = asyncio.Event()


class Streams:
    """The open streams, of which each caller may have a limited number. Used on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[OpenStream] = set()
        self._waits: set[asyncio.Future[None]] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> None:
        """Accept streams (again)."""
        self._stopping = False

    def end(self) -> None:
        """End all streams and waits, and accept no more."""
        self._stopping = True
        for stream in self._open:
            stream.ended.set()
        for stopped in self._waits:
            if not stopped.done():
                stopped.set_result(None)

    def enter(self, name: str) -> OpenStream:
        """Open one more, to be followed by `leave`. Raises ProblemError: 429 or 503, with `Retry-After`."""
        if self._stopping:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping", {"Retry-After": "1"})
        if sum(stream.name == name for stream in self._open) >= self._most:
            raise too_many(f"this caller has too many open streams (the limit is {self._most}): close one", 1)
        stream = OpenStream(name)
        self._open.add(stream)
        return stream

    def leave(self, stream: OpenStream) -> None:
        self._open.discard(stream)

    async def wait(self, answer: Awaitable[Any]) -> Any:
        """Wait for something that may take long, such as a long poll.

        Raises:
            TimeoutError: the server stops.
        """
        waiting, stopped = asyncio.ensure_future(answer), asyncio.get_running_loop().create_future()
        self._waits.add(stopped)
        if self._stopping:
            stopped.set_result(None)
        try:
            await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise TimeoutError("the server stops")
            return waiting.result()
        finally:
            self._waits.discard(stopped)
            waiting.cancel()


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
        """Check what does not depend on the sender. Raises ProblemError: 400, 431 or 505."""
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
        own, which no one else can use up. Raises ProblemError: 429.
        """
        if link is None:
            share = f"stranger at {network(_address(scope))}"
            self._strangers.take(share, "too many requests without a valid token")
        else:
            share = f"link {link}"
            self._links.take(share, "too many requests with this link")
        return share

    def take_signal(self, flow_id: str) -> None:
        """Count a signal to a flow. Raises ProblemError: 429."""
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
