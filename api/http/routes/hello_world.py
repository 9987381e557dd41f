"""The route of the hello-world flow, as the seeds have it. There when the flow is registered."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, post

from ....flows.examples import HelloWorldFlow
from ..access import Scope
from ..contract import Contract, promise
from ..models import Greeting
from ..parsing import asked_flow, derived_id, patiently, refuse_body, system_of
from ..problems import Refused
from ..views import answer

__all__ = ["HELLO_ROUTES", "HELLO_WORLD"]

Asking = Request[Any, Any, Any]
HELLO_WORLD: Final = "hello-world"
_TYPE: Final = HelloWorldFlow.say_hello.name
_PATIENCE_S: Final = 30


# The path is that of any flow, so that a flow which has this id can be shown like any other.
@post(
    "/flows/{flow_id:str}",
    status_code=200,
    opt=promise(
        Scope.START,
        Contract(
            tag="examples",
            path=f"/flows/{HELLO_WORLD}",
            answers={200: Greeting},
            problems=(409,),
            takes_key=True,
        ),
    ),
)
async def say_hello(request: Asking) -> Response[bytes]:
    """Run the hello-world flow, and answer when it has completed.

    With an `Idempotency-Key`, the same again is answered the same, and nobody is greeted twice. 409, when
    the flow has failed, is parked, or was paused.
    """
    if asked_flow(request) != HELLO_WORLD:
        raise Refused(405, "POST is for /flows, and /flows/hello-world", headers={"Allow": "GET"})
    await refuse_body(request)
    system = system_of(request)
    definition = system.client.admission.registry.find(_TYPE) or HelloWorldFlow.say_hello
    handle = await system.start_async(definition(), flow_id=derived_id(request))
    try:
        total = await patiently(request, handle.result_async(_PATIENCE_S))
    except TimeoutError:
        raise Refused(
            503,
            f"flow {handle.id!r} is durable, and has not completed yet: ask for its result",
            name="not-completed",
        ) from None
    return answer(Greeting(flow_id=handle.id, message=f"Hello, World! The flow has completed: {total}"))


HELLO_ROUTES: Final = [say_hello]
