"""Errors as problem details (RFC 9457): what callers get, and what stays in the log.

| status | |
| --- | --- |
| 400 | the request cannot be read, or is not what the document of the API describes |
| 404 | there is no such flow, signal, query or path |
| 409 | it contradicts what is recorded |
| 422 | it can be read, but does not fit what that flow, signal or query declares |
| 503 | it cannot be confirmed now; it is safe to repeat with the same key or id |

No answer holds a stack trace, a statement or a path of the server. About a failure of the store, the caller
learns only that it happened.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.exceptions import HTTPException

from ....flows.errors import (
    FlowDefinitionError,
    FlowNotFound,
    Overloaded,
    PayloadError,
    PersistasaurusError,
    QueryNotFound,
    SignalNotFound,
    SignalRejected,
    StoreUnavailable,
    SystemClosed,
)
from ....store import StoreError
from ..middleware.problem import PROBLEM, FieldError, ProblemError, failed

if TYPE_CHECKING:
    from litestar import Request

logger = logging.getLogger("persistasaurus.http")

_AGAIN: Final = "You can safely repeat it with the same key or id"
_RETRY_AFTER: Final = {"Retry-After": "1"}
_STATUSES: Final[dict[type[Exception], int]] = {
    FlowNotFound: 404,
    QueryNotFound: 404,
    FlowDefinitionError: 422,
    PayloadError: 422,
    PersistasaurusError: 409,
}


def problem_response(error: ProblemError) -> Response[bytes]:
    return Response(
        error.content(), status_code=error.status_code, media_type=PROBLEM, headers=error.headers or {}
    )


def _of_request(_: Request[Any, Any, Any], error: ProblemError) -> Response[bytes]:
    return problem_response(error)


def _of_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework, the guard or the protection refuses."""
    status = error.status_code
    headers = {name: str(value) for name, value in (error.headers or {}).items()}
    if status == HTTPStatus.NOT_FOUND:
        detail = "there is nothing at this path"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not allowed here"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.SERVICE_UNAVAILABLE:
        return _unexpected(request, error)
    else:
        detail = error.detail
    return problem_response(ProblemError(status, detail, headers))


def _of_engine(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer what the engine raises on purpose."""
    refused = problem_of(error)
    if refused.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("not confirmed: %s: %s", type(error).__name__, ascii(str(error)))
    return problem_response(refused)


def problem_of(error: Exception) -> ProblemError:
    """Turn what the engine raises on purpose into what callers get."""
    match error:
        case Overloaded():
            return _unavailable("too many writes are waiting; nothing was written", error.code)
        case SystemClosed():
            return _unavailable("the system is closed, or closing", error.code)
        case StoreUnavailable() | StoreError():
            return _unavailable("the store cannot confirm it now", StoreUnavailable.code)
        case SignalRejected():
            return _rejected(error)
        case PayloadError():
            errors = [FieldError(path=error.path, reason=error.reason)]
            return ProblemError(422, f"{error.what}: {error.reason}", code=error.code, errors=errors)
        case _:
            assert isinstance(error, PersistasaurusError), "HANDLERS name nothing else"
            status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
            return ProblemError(status, str(error), code=error.code)


def _unavailable(detail: str, code: str) -> ProblemError:
    return ProblemError(503, f"{detail}. {_AGAIN}", code=code, headers=_RETRY_AFTER)


def _rejected(error: SignalRejected) -> ProblemError:
    """Distinguish a payload that does not fit from an id that another signal has used."""
    cause = error.__cause__
    if isinstance(cause, PayloadError):
        return problem_of(cause)
    if isinstance(error, SignalNotFound):
        return ProblemError(404, str(error), code=error.code)
    return ProblemError(409, "another signal has used this id; nothing was written", code=error.code)


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("%s failed", request.method, exc_info=error)
    return problem_response(failed())


HANDLERS: Final[dict[int | type[Exception], Any]] = {
    ProblemError: _of_request,
    HTTPException: _of_framework,
    PersistasaurusError: _of_engine,
    StoreError: _of_engine,
    Exception: _unexpected,
}
"""Litestar's `exception_handlers`: whatever is raised becomes a problem."""
