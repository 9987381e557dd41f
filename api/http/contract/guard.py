"""The guard of the routes: each route declares who may use it; a route that declares nothing is denied.

How an application joins:

- Each route handler declares `opt={"scope": Scope.READ}`, or `opt={"public": True}` when it is open to
  everyone (health, links for people). A public route may add `"policy": ...`, the `RoutePolicy` that says
  how, or a function that makes one of the connection. A route that stays open for long (server-sent events)
  adds `"stream": True`: it has no deadline, and counts against the caller's streams.
- `Litestar(..., plugins=[Guarding()])` puts the guard on each route, and fails to build an application with
  a route that declares nothing. To cover Litestar's OpenAPI document, give its router a declaration:
  `OpenAPIConfig(..., openapi_router=Router("/schema", route_handlers=[], opt={"scope": Scope.READ}))`.
- `protected(app, ...)` of the middleware goes around it, and finds out who sends a request.
- A route handler that needs the sender calls `access_of(request.scope)`.

The guard raises Litestar's own exceptions; the application's handlers turn them into problem details.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from litestar.exceptions import ImproperlyConfiguredException, PermissionDeniedException
from litestar.plugins import InitPlugin, ReceiveRoutePlugin
from litestar.routes import HTTPRoute

from ..middleware.identity import Scope
from ..middleware.request_context import RoutePolicy, context_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.config.app import AppConfig
    from litestar.connection import ASGIConnection
    from litestar.handlers import BaseRouteHandler
    from litestar.routes import ASGIRoute, BaseRoute, WebSocketRoute

_FLOW_ID: Final = frozenset({"flow_id", "flowId"})


def declared(handler: BaseRouteHandler) -> Scope | None:
    """Return the scope that a route needs; None: it is public.

    Raises:
        ImproperlyConfiguredException: it declares neither, or both.
    """
    scope, public = handler.opt.get("scope"), handler.opt.get("public", False)
    if _is_made_by_litestar(handler):
        return None
    if isinstance(scope, Scope) and public is False:
        return scope
    if scope is None and public is True:
        return None
    raise ImproperlyConfiguredException(
        f"{handler.handler_name} ({', '.join(sorted(handler.paths))}) must declare either"
        " opt={'scope': Scope...} or opt={'public': True}"
    )


async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let a request through if its sender may use the route.

    Raises:
        ProblemError: the sender is unknown (401), too frequent (429), or used a wrong host name (403).
        PermissionDeniedException: the sender is known, and may not (403).
    """
    context = context_of(connection.scope)
    if context is None:
        raise PermissionDeniedException("this application runs without its protection")
    scope, automatic = _declared_or_denied(handler), _is_made_by_litestar(handler)
    context.enter_route(_policy(connection, handler, scope))
    if scope is not None and context.access is not None and scope not in context.access.scopes:
        raise PermissionDeniedException(f"the token may not do this: it lacks the scope {scope.value!r}")
    if scope is Scope.SIGNAL:
        for name in _FLOW_ID & connection.path_params.keys():
            context.signal(str(connection.path_params[name]))
    if handler.opt.get("stream") and not automatic:
        context.stream()


class Guarding(InitPlugin, ReceiveRoutePlugin):
    """Puts `guard` on each route of an application, and refuses routes that declare nothing."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.guards = [guard, *app_config.guards]  # pyright: ignore[reportUnknownMemberType]
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Refuse a route as it is registered, even one that is added later."""
        if isinstance(route, HTTPRoute):
            handlers: list[BaseRouteHandler] = [*route.route_handlers]
        else:
            handlers = [cast("ASGIRoute | WebSocketRoute", route).route_handler]
        for handler in handlers:
            declared(handler)


def _declared_or_denied(handler: BaseRouteHandler) -> Scope | None:
    try:
        return declared(handler)
    except ImproperlyConfiguredException as error:
        raise PermissionDeniedException("this route is closed: it declares no scope") from error


def _policy(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler, scope: Scope | None
) -> RoutePolicy:
    if scope is not None or not handler.opt.get("public"):
        return RoutePolicy()
    found: RoutePolicy | Callable[[Any], RoutePolicy] = handler.opt.get("policy", RoutePolicy(public=True))
    return found if isinstance(found, RoutePolicy) else found(connection)


def _is_made_by_litestar(handler: BaseRouteHandler) -> bool:
    """Recognise the handler that answers OPTIONS, which every known caller may ask for."""
    return handler.fn.__module__ == "litestar.routes.http" and handler.handler_name == "options_handler"
