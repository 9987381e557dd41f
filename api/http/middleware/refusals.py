"""Requests that are answered before they reach the application, as problem details (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from litestar.exceptions import HTTPException

PROBLEM: Final = "application/problem+json"
CHALLENGE: Final = 'Bearer realm="persistasaurus"'
UNAUTHENTICATED: Final = "a token is needed, in a header: Authorization: Bearer ..."


class Refusal(HTTPException):
    """An answer to a request that goes no further. Litestar answers with its status, too."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers or {})


def problem(status: int, detail: str) -> bytes:
    """Write problem details."""
    title = HTTPStatus(status).phrase
    return msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})


def unauthenticated() -> Refusal:
    """Ask for a token: the same answer for one that is missing, unknown, wrong or malformed."""
    return Refusal(HTTPStatus.UNAUTHORIZED, UNAUTHENTICATED, {"WWW-Authenticate": CHALLENGE})


def too_many(detail: str, seconds: float) -> Refusal:
    """Send somebody away for a while, which is rounded up to whole seconds."""
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(max(1, -int(-seconds // 1)))})
