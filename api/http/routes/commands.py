"""Routes that tell or ask a flow something: signals, queries, and the orders of whoever runs it."""

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
    in_body_field,
    name_of,
    read_body,
    system_of,
)
from ..contract.promise import Contract, promise
from ..contract.views import json_response
from ..middleware.identity import Scope
from ..middleware.problem import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["COMMAND_ROUTES"]

ApiRequest = Request[Any, Any, Any]
_SHOWN: Final = 500


def handle_of(request: ApiRequest) -> FlowHandle[Any]:
    """Return a handle without looking whether there is such a flow: whatever is asked of it will tell."""
    return FlowHandle(system_of(request).client, flow_id_of(request), "")


@post(
    "/flows/{flow_id:str}/signals/{name:str}",
    status_code=202,
    opt=promise(
        Scope.SIGNAL,
        Contract(
            tag="signals",
            body=NewSignal,
            body_optional=True,
            answers={202: SignalTaken},
            problems=(404, 409, 422),
            takes_key=True,
            example={"payload": {"confirmed_at": "2026-05-17T09:30:00Z"}, "signalId": "mail-1"},
        ),
    ),
)
async def send_signal(request: ApiRequest) -> Response[bytes]:
    """Send a flow a signal.

    When this is answered, the signal is durable; the flow takes it when it awaits it. The same
    `signalId`, or `Idempotency-Key`, again is the same signal: recorded once, also after the end. 409,
    when it comes with another payload, or when the flow has ended without it.
    """
    new = await read_body(request, NewSignal, optional=True)
    signal_id, handle = derived_id(request, new.signal_id), handle_of(request)
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
    opt=promise(
        Scope.READ,
        Contract(
            tag="queries",
            body=NewQuery,
            body_optional=True,
            answers={200: QueryAnswer},
            problems=(404, 409, 422),
            example={"args": {}},
        ),
    ),
)
async def ask_query(request: ApiRequest) -> Response[bytes]:
    """Ask a flow, from its state between two steps. Nothing is recorded.

    Also one at rest, or one that has ended. 422, when the arguments do not fit, or the query itself fails.
    """
    body = await read_body(request, NewQuery, optional=True)
    handle, name = handle_of(request), name_of(request)
    try:
        result = await handle.query_json_async(name, bytes(body.args))
    except PersistasaurusError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:_SHOWN]
        raise ProblemError(422, f"the query failed: {said}", code="query-raised") from error
    return json_response(QueryAnswer(flow_id=handle.id, query=name, result=msgspec.Raw(result)))


def _order(problems: tuple[int, ...] = (404, 409)) -> dict[str, Any]:
    contract = Contract(
        tag="orders", body=Reason, body_optional=True, answers={200: FlowStatusView}, problems=problems
    )
    return promise(Scope.ADMIN, contract)


@post("/flows/{flow_id:str}/pause", status_code=200, opt=_order())
async def pause_flow(request: ApiRequest) -> Response[bytes]:
    """Have a flow start nothing more until it is resumed.

    Steps that run go on, and are recorded. 409, when it has ended or is parked.
    """
    return await _ordered(request, FlowHandle[Any].pause_async)


@post("/flows/{flow_id:str}/resume", status_code=200, opt=_order())
async def resume_flow(request: ApiRequest) -> Response[bytes]:
    """Resume a paused flow; it takes up everything that has happened meanwhile.

    409, when it has ended or is parked.
    """
    return await _ordered(request, FlowHandle[Any].resume_async)


@post("/flows/{flow_id:str}/retry", status_code=200, opt=_order())
async def retry_flow(request: ApiRequest) -> Response[bytes]:
    """Let a failed or parked flow run on from where it failed.

    Completed steps are not run again. 409, when it has neither failed nor is it parked, or when its code is
    not the one that wrote its history.
    """
    return await _ordered(request, FlowHandle[Any].retry_async)


async def _ordered(request: ApiRequest, give: Callable[..., Awaitable[None]]) -> Response[bytes]:
    reason = await read_body(request, Reason, optional=True)
    handle = handle_of(request)
    await give(handle, by=caller_name(request), why=reason.why)
    header = await sync_to_thread(handle.header)
    return json_response(FlowStatusView(flow_id=handle.id, status=header.status))  # pyright: ignore[reportArgumentType] - one of them


COMMAND_ROUTES: Final = [send_signal, ask_query, pause_flow, resume_flow, retry_flow]
