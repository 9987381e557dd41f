"""The application: joins all routes over one system, and puts the protection around them."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.enums import MediaType
from litestar.routes import HTTPRoute

from ..links.routes import link_routes
from .contract.guard import Guarding
from .contract.openapi import document
from .contract.problems import HANDLERS
from .contract.promise import Contract
from .middleware.identity import Scope
from .middleware.mounting import MountedApp, link
from .middleware.protection import Protected, protected
from .routes.commands import COMMAND_ROUTES
from .routes.commit_notifier import CommitNotifier
from .routes.flows import FLOW_ROUTES
from .routes.follow import FOLLOW_ROUTES
from .routes.health import HEALTH_ROUTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from litestar.handlers import HTTPRouteHandler

    from ...actors import FlowSystem
    from ..links.links import Links
    from .middleware.asgi import ASGIApp
    from .middleware.hosts import Hosts
    from .middleware.identity import AccessCheck
    from .middleware.limits import ServerLimits

__all__ = ["asgi_app"]

_HEARTBEAT_S: Final = 15.0
_PARAMETER: Final = re.compile(r"\\\{\w+\\\}")


def asgi_app(  # noqa: PLR0913 - settings, all by name, with defaults
    system: FlowSystem,
    *,
    access: AccessCheck,
    hosts: Hosts | None = None,
    limits: ServerLimits | None = None,
    links: Links | None = None,
    routes: Sequence[HTTPRouteHandler] = (),
    lifespan: bool = False,
    heartbeat_s: float = _HEARTBEAT_S,
) -> Protected:
    """Return an ASGI application over a system, for any server, or to be mounted in another application.

    It learns its mount point from each request's `root_path`. Between requests it keeps only the callers'
    rates: every answer comes from the store.

    Args:
        system: is neither opened nor closed here, unless `lifespan` says so.
        access: finds out who sends a request: `Tokens`, `OpenToAll()`, or your own callable.
        hosts: the names under which it answers; loopback names by default.
        limits: the bounds of sizes, times and rates.
        links: adds the routes of links for people.
        routes: route handlers of your own, each of which declares a scope; see `EXAMPLE_ROUTES`.
        lifespan: the application owns the system, and closes it when the server shuts the application down.
            For a factory that makes both, and a server that speaks the lifespan protocol.
        heartbeat_s: the interval at which followers hear that the connection lives, when nothing happens.
    """
    state = {"system": system, "commit_notifier": CommitNotifier(system), "heartbeat_s": heartbeat_s}
    framework = Litestar(
        route_handlers=[*_ROUTES, *routes, *([] if links is None else link_routes(system, links))],
        plugins=[Guarding()],
        exception_handlers=HANDLERS,
        state=State(state),
        lifespan=[_closing] if lifespan else [],
        openapi_config=None,
        debug=False,
        logging_config=None,
    )
    described = document(framework, system)

    def describe(prefix: str) -> bytes:
        return msgspec.json.encode({**described, "servers": [{"url": prefix or "/"}]})

    framework.state.describe = describe
    return protected(
        MountedApp(cast("ASGIApp", framework), _allowed_methods(framework)),
        access=access,
        hosts=hosts,
        limits=limits,
        guarded=True,
    )


@get("/openapi.json", opt=Contract(scope=Scope.READ, tag="about", answers={200: None}).opt)
async def show_document(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Show this document."""
    described: bytes = request.app.state.describe(link(request.scope))
    return Response(described, media_type=MediaType.JSON)


def _allowed_methods(app: Litestar) -> Callable[[str], str]:
    """Return a function that lists the methods of a path. Litestar knows only those of the last handler."""
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    patterns = [re.compile(_PARAMETER.sub("[^/]+", re.escape(route.path_format))) for route in routes]

    def allowed(path: str) -> str:
        methods: set[str] = set()
        for pattern, route in zip(patterns, routes, strict=True):
            if pattern.fullmatch(path):
                methods.update(
                    str(method) for handler in route.route_handlers for method in handler.http_methods
                )
        return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))

    return allowed


_ROUTES: Final = [*HEALTH_ROUTES, *FLOW_ROUTES, *COMMAND_ROUTES, *FOLLOW_ROUTES, show_document]


@asynccontextmanager
async def _closing(app: Litestar) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await app.state.system.close_async()
