"""The routes of links: pages for those who follow one, and the signal for those who press the button."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from litestar import HttpMethod, MediaType, Request, Response
from litestar.concurrency import sync_to_thread
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import ResponseSpec

from ...actors.runtime.primitives import new_id
from ...flows import SignalCall, events
from ...flows.errors import FlowEnded, FlowNotFound, PersistasaurusError, SignalRejected
from ...store import StoreError, StreamNotFound
from ..http.contract.parsing import handle_of
from ..http.middleware.request_context import RoutePolicy
from .double_submit import DoubleSubmitCache
from .keys import KeysUnusable
from .links import link_signal_id
from .pages import HEADERS, ask_page, done_page, later_page, refused_page
from .signed_text import Claim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.connection import ASGIConnection

    from ...actors.system import FlowSystem
    from .action import Action
    from .links import Links

logger = logging.getLogger("persistasaurus.http")

# Looked up when a link is not genuine, so that this takes as long. No flow has an empty id.
_NOBODY: Final = Claim("", "", 1, "", 0)
_RECEIVED: Final = events.SignalReceived.__struct_config__.tag
_INBOX_MOST: Final = 10_000
_BODY_MOST: Final = 1024
_VISIT: Final = re.compile(rb"visit=([0-9a-f]{32})")
_LINK: Final = re.compile(r"(/links/)[^\s?#\"']+")
_PAGES: Final = {
    200: ResponseSpec(str, description="What the link asks.", media_type=MediaType.HTML),
    404: ResponseSpec(str, description="The link does not work.", media_type=MediaType.HTML),
    503: ResponseSpec(str, description="Not just now.", media_type=MediaType.HTML),
}
_ANSWERS: Final = {
    303: ResponseSpec(str, description="Recorded; leads to a page that says so.", media_type=MediaType.HTML),
    404: _PAGES[404],
    503: _PAGES[503],
}


class HidesLinks(logging.Filter):
    """Keeps links out of a log: paths that begin with /links/ are cut off there."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place; none is dropped."""
        if isinstance(record.args, tuple):
            record.args = tuple(_hidden(value) for value in record.args)
        record.msg = _hidden(record.msg)
        return True


_hides_links = HidesLinks()


def _hidden(value: Any) -> Any:
    return _LINK.sub(r"\1...", value) if isinstance(value, str) else value


def _token(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return connection.path_params["token"]


class _Answer(NamedTuple):
    status: HTTPStatus
    page: str
    location: str = ""


class LinkRoutes:
    """Answers links to the flows of one system. The answer to an invalid link never depends on the reason."""

    def __init__(self, system: FlowSystem, links: Links) -> None:
        self._system = system
        self._links = links
        self._double_submits: DoubleSubmitCache[str] = DoubleSubmitCache(system.environment.clock)

    # ------------------------------------------------------------------------------------- the policy
    def policy(self, connection: ASGIConnection[Any, Any, Any, Any]) -> RoutePolicy:
        """Admit a link. A genuine one has its own share of requests, by its signature."""
        token = _token(connection)
        try:
            genuine = self._links.read(token) or self._links.read_done(token)
        except KeysUnusable:
            genuine = None  # the answer is that nothing can be recorded now
        link = None if genuine is None else token.rpartition(".")[2]
        return RoutePolicy(public=True, hidden_origin=True, origin=self._links.origin, link=link)

    # ------------------------------------------------------------------------------------- the routes
    async def show_link(self, request: Request[Any, Any, Any]) -> Response[str]:
        """Show what a link asks. Following it changes nothing."""
        return await self._answered(lambda: sync_to_thread(self._shown, _token(request)))

    async def use_link(self, request: Request[Any, Any, Any]) -> Response[str]:
        """Do what a link asks. When that is durable, redirect to a page that may be reloaded."""
        visit = _VISIT.fullmatch(await request.body())
        chosen = visit.group(1).decode() if visit else new_id()
        response = await self._answered(lambda: self._used(_token(request), chosen))
        # Relative, since only the browser knows where the application is mounted; Litestar drops the slash.
        raw_path = cast("dict[str, Any]", request.scope).get("raw_path") or b""
        if "Location" in response.headers and raw_path.endswith(b"/"):
            response.headers["Location"] = "../" + response.headers["Location"]
        return response

    async def show_link_done(self, request: Request[Any, Any, Any]) -> Response[str]:
        """Show that it is recorded, after the redirect."""
        return await self._answered(lambda: sync_to_thread(self._shown_done, _token(request)))

    async def _answered(self, answer: Callable[[], Awaitable[_Answer]]) -> Response[str]:
        try:
            return _response(await answer())
        except Exception as error:  # noqa: BLE001 - Litestar would log the path with it
            return _response(self._failed(error))

    # ------------------------------------------------------------------------------------ what is done
    def _shown(self, token: str) -> _Answer:
        found = self._links.read(token)
        claim, action = found or (_NOBODY, None)
        is_open = self._is_open(claim, action)
        if found is None or not is_open:
            return self._refused()
        return _Answer(HTTPStatus.OK, ask_page(found[1], claim, new_id(), self._links.wording))

    def _shown_done(self, token: str) -> _Answer:
        found = self._links.read_done(token)
        if found is None:
            return self._refused()
        done, action = found
        return _Answer(HTTPStatus.OK, done_page(action, done, self._links.wording))

    async def _used(self, token: str, visit: str) -> _Answer:
        found = self._links.read(token)
        if found is None:
            await sync_to_thread(self._is_open, _NOBODY)
            return self._refused()
        claim, action = found
        done = await self._double_submits.once(f"{visit} {token}", self._sending(claim, action))
        return self._refused() if done is None else _Answer(HTTPStatus.SEE_OTHER, "", f"done/{done}")

    def _sending(self, claim: Claim, action: Action) -> Callable[[], Awaitable[str | None]]:
        async def send() -> str | None:
            is_open = await sync_to_thread(self._is_open, claim, action)
            return await self._send(claim, action) if is_open else None

        return send

    async def _send(self, claim: Claim, action: Action) -> str | None:
        """Send the signal, and return the token of the page that says so; None: the link cannot be used."""
        handle = handle_of(self._system, claim.flow_id)
        message, key = action.message(self._links.now()), link_signal_id(claim.signal, claim.wait)
        try:
            if isinstance(message, SignalCall):
                receipt = await handle.signal_async(cast("SignalCall[Any]", message), signal_id=key)
            else:
                receipt = await handle.signal_async(action.signal_name, message, signal_id=key)
        except (FlowNotFound, FlowEnded):
            return None
        except (SignalRejected, TypeError):
            if await sync_to_thread(self._is_open, claim, action):
                logger.exception("action %r does not fit flow %r", action.name, claim.flow_id)
            return None
        return None if receipt.duplicate else self._links.done_token(action, receipt.at)

    def _is_open(self, claim: Claim, action: Action | None = None) -> bool:
        """Whether the flow has received exactly the signals of that name that precede this wait.

        Waits take signals in order: with fewer, the signal would answer an earlier wait; with more, the wait
        has its answer. The inbox is read first, since signals move from there into the history.
        """
        store, flow_id = self._system.store, claim.flow_id
        takes_it = self._takes(flow_id, action)
        try:
            waiting, records = store.inbox(flow_id, limit=_INBOX_MOST), store.read(flow_id)
        except StreamNotFound:
            return False
        keys = {entry.key for entry in waiting if entry.name == claim.signal}
        received = (events.decode(record.data) for record in records if record.kind == _RECEIVED)
        keys |= {
            event.key
            for event in received
            if isinstance(event, events.SignalReceived) and event.name == claim.signal
        }
        return takes_it and len(keys) == claim.wait - 1

    def _takes(self, flow_id: str, action: Action | None) -> bool:
        """Whether the flow exists, is open, and can wait for what the action sends."""
        try:
            header = handle_of(self._system, flow_id).header()
        except FlowNotFound:
            return False
        definition = self._system.client.admission.registry.find(header.type)
        if action is None or header.state.is_over:
            return False
        if definition is None or definition.takes_signal(action.signal_name):
            return True
        logger.error("flow %r (%s) never waits for what action %r sends", flow_id, header.type, action.name)
        return False

    # ------------------------------------------------------------------------------------- the answers
    def _refused(self) -> _Answer:
        return _Answer(HTTPStatus.NOT_FOUND, refused_page(self._links.wording))

    def _failed(self, error: Exception) -> _Answer:
        """Answer that it did not work now. The link itself is not disclosed, not even to the log."""
        if isinstance(error, PersistasaurusError | StoreError):
            logger.warning("a link could not be answered: %s: %s", type(error).__name__, error)
        else:
            logger.error("a link could not be answered", exc_info=error)
        return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, later_page(self._links.wording))


def link_routes(system: FlowSystem, links: Links) -> list[HTTPRouteHandler]:
    """Return Litestar's handlers of `/links/...`: open to everyone, since the link is the authority.

    Uvicorn's log does not show the links.
    """
    access_log = logging.getLogger("uvicorn.access")
    if _hides_links not in access_log.filters:
        access_log.addFilter(_hides_links)
    routes = LinkRoutes(system, links)
    look = [HttpMethod.GET, HttpMethod.HEAD]
    return [
        _public("/links/{token:str}", look, routes, responses=_PAGES)(routes.show_link),
        _public(
            "/links/{token:str}",
            HttpMethod.POST,
            routes,
            responses=_ANSWERS,
            status_code=HTTPStatus.SEE_OTHER,
            request_max_body_size=_BODY_MOST,
        )(routes.use_link),
        _public("/links/done/{token:str}", look, routes, responses=_PAGES)(routes.show_link_done),
    ]


def _public(path: str, methods: Any, routes: LinkRoutes, **options: Any) -> HTTPRouteHandler:
    opt = {"public": True, "policy": routes.policy}
    return HTTPRouteHandler(
        path, http_method=methods, opt=opt, media_type=MediaType.HTML, tags=["links"], **options
    )


def _response(answer: _Answer) -> Response[str]:
    headers = dict(HEADERS)
    if answer.location:
        headers["Location"] = answer.location
    if answer.status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "60"
    return Response(answer.page, status_code=answer.status, headers=headers, media_type=MediaType.HTML)
