"""Routes that send a flow something: signals, queries, and operators' commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.concurrency import sync_to_thread

from ....actors import FlowHandle
from ....flows.errors import PersistasaurusError
from ..contract.models import FlowStatusView, NewQuery, NewSignal, QueryAnswer, Reason, SignalTaken
from ..contract.parsing import (
    caller_name,
    derived_id,
    flow_id_of,
    handle_of,
    in_body_field,
    name_of,
    read_body,
    system_of,
)
from ..contract.promise import Contract
from ..contract.views import json_response
from ..middleware.identity import Scope
from ..middleware.problem import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ApiRequest = Request[Any, Any, Any]
_SHOWN: Final = 500


@post(
    "/flows/{flow_id:str}/signals/{name:str}",
    status_code=202,
    opt=Contract(
        scope=Scope.SIGNAL,
        tag="signals",
        body=NewSignal,
        body_optional=True,
        answers={202: SignalTaken},
        problems=(404, 409, 422),
        takes_key=True,
        example={"payload": {"confirmed_at": "2026-05-17T09:30:00Z"}, "signalId": "mail-1"},
    ).opt,
)
async def send_signal(request: ApiRequest) -> Response[bytes]:
    """Send a flow a signal.

    Once this is answered, the signal is durable; the flow takes it when it awaits it. Repeating the same
    `signalId` or `Idempotency-Key` repeats the same signal: it is recorded once, even after the flow's end.
    409 if it comes with another payload, or the flow has ended without it.
    """
    new = await read_body(request, NewSignal, optional=True)
    signal_id, handle = derived_id(request, new.signal_id), handle_of(system_of(request), flow_id_of(request))
    name = name_of(request)
    with in_body_field("payload"):
        receipt = await handle.signal_json_async(name, bytes(new.payload), signal_id=signal_id)
    taken = SignalTaken(
        flow_id=handle.id, signal_id=receipt.signal_id, at=receipt.at, duplicate=receipt.duplicate
    )
    return json_response(taken, 202)


@post(
    "/flows/{flow_id:str}/queries/{name:str}",
    status_code=200,
    opt=Contract(
        scope=Scope.READ,
        tag="queries",
        body=NewQuery,
        body_optional=True,
        answers={200: QueryAnswer},
        problems=(404, 409, 422),
        example={"args": {}},
    ).opt,
)
async def ask_query(request: ApiRequest) -> Response[bytes]:
    """Query a flow's state between two steps. Nothing is recorded.

    The flow may be passivated, or have ended. 422 if the arguments do not fit, or the query itself fails.
    """
    body = await read_body(request, NewQuery, optional=True)
    handle, name = handle_of(system_of(request), flow_id_of(request)), name_of(request)
    try:
        result = await handle.query_json_async(name, bytes(body.args))
    except PersistasaurusError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:_SHOWN]
        raise ProblemError(422, f"the query failed: {said}", code="query-raised") from error
    return json_response(QueryAnswer(flow_id=handle.id, query=name, result=msgspec.Raw(result)))


_ORDER: Final = Contract(
    scope=Scope.ADMIN,
    tag="orders",
    body=Reason,
    body_optional=True,
    answers={200: FlowStatusView},
    problems=(404, 409),
).opt


@post("/flows/{flow_id:str}/pause", status_code=200, opt=_ORDER)
async def pause_flow(request: ApiRequest) -> Response[bytes]:
    """Pause a flow: it starts no more steps until it is resumed.

    Running steps finish, and are recorded. 409 if the flow has ended or is parked.
    """
    return await _ordered(request, FlowHandle[Any].pause_async)


@post("/flows/{flow_id:str}/resume", status_code=200, opt=_ORDER)
async def resume_flow(request: ApiRequest) -> Response[bytes]:
    """Resume a paused flow. Everything that arrived in the meantime takes effect.

    409 if the flow has ended or is parked.
    """
    return await _ordered(request, FlowHandle[Any].resume_async)


@post("/flows/{flow_id:str}/retry", status_code=200, opt=_ORDER)
async def retry_flow(request: ApiRequest) -> Response[bytes]:
    """Continue a failed or parked flow from where it stopped.

    Completed steps are not repeated. 409 if the flow has neither failed nor is parked, or its code is not the
    code that wrote its history.
    """
    return await _ordered(request, FlowHandle[Any].retry_async)


async def _ordered(request: ApiRequest, give: Callable[..., Awaitable[None]]) -> Response[bytes]:
    reason = await read_body(request, Reason, optional=True)
    handle = handle_of(system_of(request), flow_id_of(request))
    await give(handle, by=caller_name(request), why=reason.why)
    header = await sync_to_thread(handle.header)
    return json_response(FlowStatusView(flow_id=handle.id, status=header.status))  # pyright: ignore[reportArgumentType] - one of them


COMMAND_ROUTES: Final = [send_signal, ask_query, pause_flow, resume_flow, retry_flow]
