"""Answers that refuse a request, as problem details (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from litestar.exceptions import HTTPException

PROBLEM: Final = "application/problem+json"
CHALLENGE: Final = 'Bearer realm="persistasaurus"'
UNAUTHENTICATED: Final = "a token is needed, in a header: Authorization: Bearer ..."

_BLANK: Final = "about:blank"
_CODES: Final = "urn:persistasaurus:problem:"


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, and where: a path such as `$.email`, or the name of a parameter."""

    path: str
    reason: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457). `type` distinguishes what a program may want to distinguish."""

    title: str
    status: int
    detail: str
    type: Annotated[
        str, msgspec.Meta(description="Ends in the error's code; about:blank: the status says it all.")
    ]
    errors: list[FieldError] = []


class ProblemError(HTTPException):
    """The middleware or the framework answers the request with a problem.

    Args:
        status: the status of the answer.
        detail: what is wrong, and what to do.
        headers: of the answer.
        code: identifies the problem for programs; docs/errors.md has a section on it.
        errors: where it is wrong.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: dict[str, str] | None = None,
        *,
        code: str | None = None,
        errors: list[FieldError] | None = None,
    ) -> None:
        super().__init__(detail=detail, status_code=status, headers=headers or {})
        self.problem = Problem(
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            type=problem_type(code),
            errors=errors or [],
        )

    def content(self) -> bytes:
        return msgspec.json.encode(self.problem)


def problem_type(code: str | None) -> str:
    return _BLANK if code is None else _CODES + code


def failed() -> ProblemError:
    """Report a defect without details, which are in the server's log."""
    return ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the log of the server says why")


def unauthenticated() -> ProblemError:
    """Ask for a token: the same answer whether it is missing, unknown, wrong or malformed."""
    return ProblemError(HTTPStatus.UNAUTHORIZED, UNAUTHENTICATED, {"WWW-Authenticate": CHALLENGE})


def too_many(detail: str, seconds: float) -> ProblemError:
    """Refuse a caller for some time, which is rounded up to whole seconds."""
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(max(1, -int(-seconds // 1)))}
    )
