"""The types of ASGI, as far as they are used here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

ASGIScope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[ASGIScope, Receive, Send], Awaitable[None]]


def header(scope: ASGIScope, name: bytes) -> bytes | None:
    """Return the only header of that name; None: there is none, or more than one."""
    found = headers(scope, name)
    return found[0] if len(found) == 1 else None


def headers(scope: ASGIScope, name: bytes) -> list[bytes]:
    """Return the values of all headers of that (lower-case) name."""
    return [value for key, value in scope["headers"] if key == name]
