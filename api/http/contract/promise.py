"""The contract of a route: who may use it, what it takes, and what it answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..middleware.identity import Scope
from ..middleware.request_context import RoutePolicy
from .models import ApiModel

_KEY: Final = "contract"
ANY_ROUTE: Final = (400, 401, 403, 408, 413, 415, 429, 431, 500, 503)
"""How any request may be refused: by the protection, by the readers of requests, by the store."""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """The contract of one route; its summary and description are the handler's docstring.

    `scope` None: it is open to everyone, as `policy` says. `answers` are the shapes by status; None: an
    answer without a body, or a stream. `problems` are the statuses besides those of `ANY_ROUTE`. `example` is
    a valid body.
    """

    scope: Scope | None
    tag: str
    answers: dict[int, type[ApiModel] | None]
    body: type[ApiModel] | None = None
    body_optional: bool = False
    query: type[ApiModel] | None = None
    problems: tuple[int, ...] = ()
    takes_key: bool = False
    locates: bool = False
    streams: bool = False
    example: dict[str, Any] | None = None
    policy: RoutePolicy | None = None

    @property
    def opt(self) -> dict[str, Any]:
        """The `opt` of the route's handler."""
        if self.scope is None:
            return {"public": True, "policy": self.policy or RoutePolicy(public=True), _KEY: self}
        return {"scope": self.scope, "stream": self.streams, _KEY: self}


def contract_of(opt: dict[str, Any]) -> Contract | None:
    return opt.get(_KEY)
