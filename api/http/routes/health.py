"""Whether the system is healthy, for monitoring."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, get

from ..contract.models import HealthView
from ..contract.parsing import system_of
from ..contract.promise import Contract
from ..contract.views import json_response
from ..middleware.problem import ProblemError
from ..middleware.request_context import RoutePolicy

ApiRequest = Request[Any, Any, Any]


# Monitoring calls servers by address, or by no name at all, from any address.
_POLICY: Final = RoutePolicy(public=True, any_host=True, counted=False)


@get("/health", opt=Contract(scope=None, tag="health", answers={200: HealthView}, policy=_POLICY).opt)
async def show_health(request: ApiRequest) -> Response[bytes]:
    """Report whether the system runs, and its store takes writes. Open to everyone, and cheap.

    503 if it is closed, the store is not available at the moment, or another process owns it.
    """
    system = system_of(request)
    admission = system.client.admission
    if admission.is_closed or not admission.is_of_this_process or not system.statistics().is_writable:
        raise ProblemError(
            503, "nothing can be written now", code="not-writable", headers={"Retry-After": "1"}
        )
    return json_response(HealthView(status="ok"))


HEALTH_ROUTES: Final = [show_health]
