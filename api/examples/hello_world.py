"""The route of the hello-world flow."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, post

from ...flows.examples import HelloWorldFlow
from ..http.contract.models import ApiModel
from ..http.contract.parsing import derived_id, flow_id_of, refuse_body, system_of, until_stopping
from ..http.contract.promise import Contract
from ..http.contract.views import json_response
from ..http.middleware.identity import Scope
from ..http.middleware.problem import ProblemError

ApiRequest = Request[Any, Any, Any]
HELLO_WORLD: Final = "hello-world"
_TYPE: Final = HelloWorldFlow.say_hello.name
_PATIENCE_S: Final = 30


class Greeting(ApiModel, frozen=True):
    """The hello-world flow has completed."""

    flow_id: str
    message: str


# The path is that of any flow, so that a flow with this id can be shown like any other.
@post(
    "/flows/{flow_id:str}",
    status_code=200,
    opt=Contract(
        scope=Scope.START, tag="examples", answers={200: Greeting}, problems=(404, 409), takes_key=True
    ).opt,
)
async def say_hello(request: ApiRequest) -> Response[bytes]:
    """Run the hello-world flow, and answer when it has completed.

    404 if `flowId` is not hello-world. With an `Idempotency-Key`, repeating the request gives the same
    answer, and runs the flow only once. 409 if the flow has failed, is parked, or was paused.
    """
    if flow_id_of(request) != HELLO_WORLD:
        raise ProblemError(404, "flows are started by POST /flows, or /flows/hello-world")
    await refuse_body(request)
    system = system_of(request)
    definition = system.client.admission.registry.find(_TYPE) or HelloWorldFlow.say_hello
    handle = await system.start_async(definition(), flow_id=derived_id(request))
    try:
        total = await until_stopping(request, handle.result_async(_PATIENCE_S))
    except TimeoutError:
        raise ProblemError(
            503,
            f"flow {handle.id!r} is durable, and has not completed yet: ask for its result",
            code="not-completed",
        ) from None
    return json_response(
        Greeting(flow_id=handle.id, message=f"Hello, World! The flow has completed: {total}")
    )


HELLO_ROUTES: Final = [say_hello]
