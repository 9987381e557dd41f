"""Whether the system is well, for whoever watches over it."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, get

from ..contract.models import HealthView
from ..contract.parsing import system_of
from ..contract.promise import Contract, promise
from ..contract.views import json_response
from ..middleware.problem import ProblemError
from ..middleware.request_context import RoutePolicy

__all__ = ["HEALTH_ROUTES"]

ApiRequest = Request[Any, Any, Any]


# Who watches over servers calls them by address, or by no name at all, and comes from where everybody does.
_POLICY: Final = RoutePolicy(public=True, any_host=True, counted=False)


@get(
    "/health",
    opt=promise(None, Contract(tag="health", answers={200: HealthView}), policy=_POLICY),
)
async def show_health(request: ApiRequest) -> Response[bytes]:
    """Tell whether the system runs, and its store takes writes. Open to everybody, and costs nothing.

    503, when it is closed, when the store is not available just now, or when another process owns it.
    """
    system = system_of(request)
    admission = system.client.admission
    if admission.is_closed or not admission.is_of_this_process or not system.statistics().is_writable:
        raise ProblemError(
            503, "nothing can be written now", code="not-writable", headers={"Retry-After": "1"}
        )
    return json_response(HealthView(status="ok"))


HEALTH_ROUTES: Final = [show_health]
