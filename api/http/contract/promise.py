"""What a route promises: who may use it, what it takes, and what it answers. The API's document says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from .models import ApiModel

if TYPE_CHECKING:
    from ..middleware.identity import Scope

__all__ = ["ANY_ROUTE", "Contract", "promise"]

_KEY: Final = "contract"
ANY_ROUTE: Final = (400, 401, 403, 408, 413, 415, 429, 431, 500, 503)
"""What any request may be answered with: by the protection, by the readers of requests, by the store."""


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """The contract of one route; its summary and description are the handler's docstring.

    `answers` are the shapes by status; None: an answer without a body, or a stream. `problems` are the
    statuses besides those of `ANY_ROUTE`. `example` is a body that may be tried.
    """

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


def promise(scope: Scope | None, contract: Contract, **opt: Any) -> dict[str, Any]:
    """Return the `opt` of a route: its scope (None: open to everybody), and its contract."""
    access: dict[str, Any] = {"public": True} if scope is None else {"scope": scope}
    return {**access, _KEY: contract, **opt}


def contract_of(opt: dict[str, Any]) -> Contract | None:
    """Return what a route has promised."""
    return opt.get(_KEY)
