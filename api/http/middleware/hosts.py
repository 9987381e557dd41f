"""The names under which the server answers, and the pages that may send requests to it.

Any web page can reach a loopback address: by a name of its own that resolves to 127.0.0.1 (DNS rebinding),
or by a form that it posts across origins. `Host` reveals the first, `Origin` the second. Forwarded headers
are not trusted.
"""

from __future__ import annotations

import ipaddress
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .asgi import header, headers
from .problem import ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .asgi import ASGIScope

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_AUTHORITY: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?", re.ASCII
)
_PORTS: Final = {"http": 80, "https": 443}
# What a browser says of a request that the user, or a page of ours, has made.
_OWN_SITES: Final = (b"same-origin", b"none")


class Hosts:
    """The names by which clients may call the server, and the foreign origins whose pages may.

    Args:
        names: host names or addresses, each for all ports, or with a port (`api.example.org:8443`).
        origins: other sites whose pages may send requests, such as `https://console.example.org`.

    Raises:
        ValueError: a name or origin that can never match; there are no wildcards.
    """

    def __init__(self, names: Iterable[str] = LOOPBACK, *, origins: Iterable[str] = ()) -> None:
        self.names = tuple(names)
        self._allowed = frozenset(_entry(name) for name in self.names)
        self._origins = frozenset(_origin_entry(origin) for origin in origins)

    @property
    def are_local(self) -> bool:
        """Whether only names of this machine itself are allowed."""
        return {name for name, _ in self._allowed} <= set(LOOPBACK)

    def check(
        self,
        scope: ASGIScope,
        *,
        any_host: bool = False,
        hidden_origin: bool = False,
        origin: str | None = None,
    ) -> None:
        """Let a request pass that was sent to this server, from a page that may send it.

        Args:
            scope: the request.
            any_host: the route answers under any name, or none: it discloses nothing, and changes nothing.
            hidden_origin: `Origin: null` passes, which browsers send when the user has turned referrers
                off. For requests that carry all their authority in the path: no page can borrow any.
            origin: where the pages of this route are known to be, whatever `Host` a proxy has made of it.

        Raises:
            ProblemError: 403.
        """
        found = _authority(header(scope, b"host") or b"")
        if not any_host and (found is None or not ({found, (found[0], None)} & self._allowed)):
            raise _forbidden(
                "this server does not accept that Host: add the name with `--allow-host`, or with Hosts(...)"
            )
        if scope["method"] not in _SAFE and not self._is_welcome(
            scope, found, hidden=hidden_origin, own=origin
        ):
            raise _forbidden("cross-origin request refused: add the origin with Hosts(origins=[...])")

    def _is_welcome(
        self, scope: ASGIScope, host: tuple[str, int | None] | None, *, hidden: bool, own: str | None
    ) -> bool:
        origins, sites = headers(scope, b"origin"), headers(scope, b"sec-fetch-site")
        if sites:
            # Set by the browser, out of reach of any page; to https and loopback only, and not by old ones.
            return sites in ([site] for site in _OWN_SITES) or self._is_listed(origins)
        if not origins or self._is_listed(origins) or (hidden and origins == [b"null"]):
            return True
        if own is not None and origins == [own.encode()]:
            return True
        return host is not None and _is_same(origins, host)

    def _is_listed(self, origins: list[bytes]) -> bool:
        return len(origins) == 1 and origins[0].decode("latin-1").lower() in self._origins


def _forbidden(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.FORBIDDEN, detail)


def _is_same(origins: list[bytes], host: tuple[str, int | None]) -> bool:
    """Whether an origin is the host that was called, default ports aside."""
    scheme, _, rest = origins[0].partition(b"://")
    default = _PORTS.get(scheme.decode("latin-1").lower())
    found = _authority(rest)
    if len(origins) != 1 or default is None or found is None:
        return False
    return (found[0], found[1] or default) == (host[0], host[1] or default)


def _authority(value: bytes) -> tuple[str, int | None] | None:
    """Split `name:port`; name and address each in the one form in which they are compared."""
    match = _AUTHORITY.fullmatch(value.decode("latin-1"))
    if match is None:
        return None
    address, name, port = match.groups()
    if address is not None:
        try:
            name = ipaddress.IPv6Address(address).compressed
        except ValueError:
            return None
    return name.lower().removesuffix("."), int(port) if port else None


def _entry(name: str) -> tuple[str, int | None]:
    bare = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    found = _authority(bare.encode("latin-1", "replace"))
    if found is None:
        raise ValueError(
            f"not a host name: {name!r}. Write example.org, example.org:8443, 10.0.0.7 or [::1]:8080"
        )
    return found


def _origin_entry(origin: str) -> str:
    parts = urlsplit(origin)
    if (
        parts.scheme not in _PORTS
        or parts.path
        or _authority(parts.netloc.encode("latin-1", "replace")) is None
    ):
        raise ValueError(
            f"not an origin: {origin!r}. Write https://console.example.org, with nothing after the host"
        )
    return origin.lower()
