"""Routes for flows of any type: starting them, and reading them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread

from ....flows.errors import FlowFailed, FlowParked, PayloadError
from ....store import Record, Unreadable
from ..contract.models import (
    EventPage,
    EventRange,
    FlowAccepted,
    FlowDetails,
    FlowFilter,
    FlowOutcome,
    FlowPage,
    NewFlow,
    WaitQuery,
)
from ..contract.parsing import (
    derived_id,
    flow_id_of,
    in_body_field,
    read_body,
    read_query,
    system_of,
    until_stopping,
)
from ..contract.promise import Contract
from ..contract.views import (
    ENDED,
    event_view,
    flow_details,
    flow_outcome,
    flow_view,
    json_response,
    unreadable_event,
)
from ..middleware.identity import Scope
from ..middleware.mounting import link, segment
from .histories import header_of, read_events

if TYPE_CHECKING:
    from ....actors import FlowSystem
    from ....store import Header

ApiRequest = Request[Any, Any, Any]
_TAG: Final = "flows"


@post(
    "/flows",
    status_code=202,
    opt=Contract(
        scope=Scope.START,
        tag=_TAG,
        body=NewFlow,
        answers={202: FlowAccepted},
        problems=(409, 422),
        takes_key=True,
        locates=True,
    ).opt,
)
async def start_flow(request: ApiRequest) -> Response[bytes]:
    """Start a flow.

    Once this is answered, the flow is durable and will run to its end. With a `flowId` or an
    `Idempotency-Key`, repeating the request gives the same answer; 409 if type or arguments differ.
    """
    new = await read_body(request, NewFlow)
    flow_id = derived_id(request, new.flow_id)
    with in_body_field("args"):
        handle = await system_of(request).start_json_async(new.type, bytes(new.args), flow_id=flow_id)
    started = FlowAccepted(flow_id=handle.id, type=new.type)
    return json_response(started, 202, {"Location": link(request.scope, "flows", handle.id)})


@get(
    "/flows",
    opt=Contract(scope=Scope.READ, tag=_TAG, query=FlowFilter, answers={200: FlowPage}, problems=(404,)).opt,
)
async def list_flows(request: ApiRequest) -> Response[bytes]:
    """List flows, oldest first, page by page.

    404 if there is no flow with the id `after`.
    """
    query = read_query(request, FlowFilter)
    headers = await sync_to_thread(_listed, system_of(request), query)
    more = headers[query.limit - 1].stream if len(headers) > query.limit else None
    views = [flow_view(header) for header in headers[: query.limit]]
    return json_response(FlowPage(flows=views, next=None if more is None else _next(request, query, more)))


def _listed(system: FlowSystem, query: FlowFilter) -> list[Header]:
    """List one more than was asked for, which shows whether there is another page."""
    given: dict[str, Any] = {
        name: value
        for name in ("type", "status", "after")
        if (value := getattr(query, name)) is not msgspec.UNSET
    }
    return system.flows(limit=query.limit + 1, **given)


def _next(request: ApiRequest, query: FlowFilter | EventRange, after: str | int) -> str:
    following: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(query, after=after))
    path = link(request.scope, *(segment(part) for part in request.scope["path"].split("/") if part))
    return f"{path}?{urlencode(following)}"


@get(
    "/flows/{flow_id:str}",
    opt=Contract(scope=Scope.READ, tag=_TAG, answers={200: FlowDetails}, problems=(404,)).opt,
)
async def show_flow(request: ApiRequest) -> Response[bytes]:
    """Show a flow: its state, and its result, its error, or why it is parked."""
    system, flow_id = system_of(request), flow_id_of(request)

    def shown() -> FlowDetails:
        return flow_details(system, header_of(system, flow_id))

    return json_response(await sync_to_thread(shown))


@get(
    "/flows/{flow_id:str}/events",
    opt=Contract(scope=Scope.READ, tag=_TAG, query=EventRange, answers={200: EventPage}, problems=(404,)).opt,
)
async def list_events(request: ApiRequest) -> Response[bytes]:
    """List the events of a flow's history, oldest first, page by page.

    A page of large events may be shorter than `limit`; `next` shows whether there is more.
    """
    query, system, flow_id = read_query(request, EventRange), system_of(request), flow_id_of(request)
    read = await sync_to_thread(read_events, system, flow_id, query.after, query.limit)
    last = (read.records[-1].version or 0) if read.records else query.after
    following = None if last >= read.header.version else _next(request, query, last)
    sound = [event_view(record) for record in read.records if isinstance(record, Record)]
    damaged = [unreadable_event(record) for record in read.records if isinstance(record, Unreadable)]
    return json_response(EventPage(events=sound, next=following, unreadable=damaged))


@get(
    "/flows/{flow_id:str}/result",
    opt=Contract(
        scope=Scope.READ,
        tag=_TAG,
        query=WaitQuery,
        answers={200: FlowOutcome, 202: FlowOutcome},
        problems=(404,),
    ).opt,
)
async def flow_result(request: ApiRequest) -> Response[bytes]:
    """Wait some time for a flow's end.

    200 if it has ended or is parked: `status` says which. 202 if it continues: ask again.
    """
    query, system, flow_id = read_query(request, WaitQuery), system_of(request), flow_id_of(request)
    if query.wait:
        await _until_ended(request, system, flow_id, query.wait)

    def shown() -> FlowOutcome:
        return flow_outcome(system, header_of(system, flow_id))

    found = await sync_to_thread(shown)
    return json_response(found, 200 if found.status in ENDED else 202)


async def _until_ended(request: ApiRequest, system: FlowSystem, flow_id: str, seconds: int) -> None:
    handle = await sync_to_thread(system.flow, flow_id)
    try:
        await until_stopping(request, handle.result_async(seconds))
    except (TimeoutError, FlowFailed, FlowParked, PayloadError):
        return  # the store has the outcome


FLOW_ROUTES: Final = [start_flow, list_flows, show_flow, list_events, flow_result]
