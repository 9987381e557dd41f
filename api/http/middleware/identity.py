"""Who sends a request, and what they may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from .asgi import ASGIScope


class Scope(StrEnum):
    """What a caller may do. None of them includes another."""

    READ = "read"
    """List, show, follow and query flows."""
    START = "start"
    """Start flows."""
    SIGNAL = "signal"
    """Send signals to flows."""
    ADMIN = "admin"
    """Pause, resume and retry flows."""


EVERYTHING: Final = frozenset(Scope)


class Access(msgspec.Struct, frozen=True):
    """A caller: the name that logs and rate limits use, and what they may do."""

    name: str
    scopes: frozenset[Scope]


AccessCheck: TypeAlias = Callable[[ASGIScope], Access | Awaitable[Access | None] | None]
"""Returns who sends a request; None: an unknown caller. Runs on the event loop, and must not block it."""


class OpenToAll:
    """The access check that checks nothing. Served on loopback only, and only when asked for by name."""

    def __call__(self, scope: ASGIScope) -> Access:
        """Let everyone do everything."""
        del scope
        return Access("anybody", EVERYTHING)
