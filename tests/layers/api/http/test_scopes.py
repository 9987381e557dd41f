"""Each route with each scope, made from the routes themselves and from the document: nothing is left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from litestar import Litestar, post
from litestar.exceptions import ImproperlyConfiguredException
from litestar.routes import HTTPRoute
from persistasaurus import FlowSystem
from persistasaurus.api.examples.routes import EXAMPLE_ROUTES
from persistasaurus.api.http.access import Access, Guarding, Scope
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.tokens import Tokens
from persistasaurus.api.links.action import Action
from persistasaurus.api.links.keys import KeyRing
from persistasaurus.api.links.links import Links
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow
from serving.doubles import asked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus.api.http.middleware.protection import Protected

NOBODY, WRONG = "nobody", "wrong token"

# What a change of the routes must be written into: who adds a route decides here who may use it.
TABLE: dict[tuple[str, str], Scope | None] = {
    ("GET", "/health"): None,
    ("GET", "/links/{token}"): None,
    ("HEAD", "/links/{token}"): None,
    ("POST", "/links/{token}"): None,
    ("GET", "/links/done/{token}"): None,
    ("HEAD", "/links/done/{token}"): None,
    ("GET", "/flows"): Scope.READ,
    ("GET", "/flows/{flow_id}"): Scope.READ,
    ("GET", "/flows/{flow_id}/events"): Scope.READ,
    ("GET", "/flows/{flow_id}/result"): Scope.READ,
    ("GET", "/flows/{flow_id}/follow"): Scope.READ,
    ("POST", "/flows/{flow_id}/queries/{name}"): Scope.READ,
    ("GET", "/follow"): Scope.READ,
    ("GET", "/openapi.json"): Scope.READ,
    ("GET", "/signups/{flow_id}"): Scope.READ,
    ("POST", "/flows"): Scope.START,
    ("POST", "/flows/{flow_id}"): Scope.START,
    ("POST", "/signups"): Scope.START,
    ("POST", "/flows/{flow_id}/signals/{name}"): Scope.SIGNAL,
    ("POST", "/signups/{flow_id}/confirm"): Scope.SIGNAL,
    ("POST", "/flows/{flow_id}/pause"): Scope.ADMIN,
    ("POST", "/flows/{flow_id}/resume"): Scope.ADMIN,
    ("POST", "/flows/{flow_id}/retry"): Scope.ADMIN,
}


class Caller(NamedTuple):
    """Somebody who asks: with which token, and with which scopes."""

    name: str
    scopes: frozenset[Scope]
    headers: dict[str, str]


def callers() -> list[Caller]:
    sets = [{scope for n, scope in enumerate(Scope) if bits & 1 << n} for bits in range(2 ** len(Scope))]
    known = [
        Caller("+".join(sorted(one)) or "no scope", frozenset(one), bearer(bits))
        for bits, one in enumerate(sets)
    ]
    return [Caller(NOBODY, frozenset(), {}), Caller(WRONG, frozenset(), bearer(99)), *known]


def bearer(number: int) -> dict[str, str]:
    return {"Authorization": f"Bearer pst_{number:060d}"}


CALLERS = callers()
KNOWN = [caller for caller in CALLERS if caller.name not in (NOBODY, WRONG)]


@pytest.fixture(scope="module")
def system() -> Iterator[FlowSystem]:
    with FlowSystem(":memory:", flows=[HelloWorldFlow, SignupFlow]) as system:
        yield system


@pytest.fixture(scope="module")
def app(system: FlowSystem) -> Protected:
    tokens = {caller.headers["Authorization"][7:]: Access(caller.name, caller.scopes) for caller in KNOWN}
    confirm = Action(name="confirm", signal=SignupFlow.confirm_email_address, title="Please confirm")
    links = Links(KeyRing.fresh(), "http://localhost", [confirm])
    limits = ServerLimits(stranger_burst=10_000)
    return asgi_app(system, access=Tokens.of(tokens), links=links, limits=limits, routes=EXAMPLE_ROUTES)


def framework_of(app: Any) -> Litestar:
    while not isinstance(app, Litestar):
        app = app._app
    return app


def routes_of(app: Any) -> set[tuple[str, str]]:
    return {
        (method, route.path_format)
        for route in framework_of(app).routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if not (method == "OPTIONS" and handler.fn.__module__.startswith("litestar."))
    }


def expected(scope: Scope | None, caller: Caller) -> int | None:
    """Tell the status of a refusal; None: it gets through, whatever the route then answers."""
    if scope is None:
        return None
    if caller.name in (NOBODY, WRONG):
        return 401
    return None if scope in caller.scopes else 403


def refusal(app: Protected, method: str, path: str, caller: Caller) -> int | None:
    concrete = re.sub(r"\{\w+\}", "unknown", path)
    body = b"{}" if method == "POST" else ()
    status = asked(app, method, concrete, caller.headers, body, leaves=True).status
    assert 100 <= status < 500, f"{method} {path} as {caller.name}: {status}"
    return status if status in (401, 403) else None


def test_each_route_has_its_line_in_the_table(app: Protected) -> None:
    assert {route.path for route in framework_of(app).routes if not isinstance(route, HTTPRoute)} == set()
    assert routes_of(app) == TABLE.keys()


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
def test_each_route_is_open_to_those_with_its_scope_alone(app: Protected, caller: Caller) -> None:
    wrong = {
        route: got
        for route, scope in TABLE.items()
        if (got := refusal(app, *route, caller)) != expected(scope, caller)
    }

    assert wrong == {}


def test_the_document_tells_of_each_route_which_scope_it_needs(app: Protected) -> None:
    document = asked(app, "GET", "/openapi.json", bearer(15)).json()
    told = {
        (method.upper(), path): [
            scope for need in operation["security"] for scope in next(iter(need.values()))
        ]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    routes = {operation: route_of(*operation) for operation in told}

    assert {route for route in TABLE if route[0] != "HEAD"} == {*routes.values()}
    assert told == {
        operation: [scope.value] if (scope := TABLE[route]) else [] for operation, route in routes.items()
    }


def route_of(method: str, path: str) -> tuple[str, str]:
    """Find the route behind an operation of the document, which may be one of its flows in particular."""
    snake = re.sub(r"(?<=[a-z])[A-Z]", lambda match: f"_{match[0].lower()}", path)
    if (method, snake) in TABLE:
        return method, snake
    return next(
        (method, route)
        for other, route in TABLE
        if method == other and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), path)
    )


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_for_those_who_are_known(app: Protected, caller: Caller, method: str) -> None:
    for path in {path for _, path in TABLE}:
        concrete = re.sub(r"\{\w+\}", "unknown", path)
        status = asked(app, method, concrete, caller.headers).status

        assert status == 401 if caller.name in (NOBODY, WRONG) else status in (204, 405), (method, path)


@pytest.mark.parametrize("caller", KNOWN, ids=lambda caller: caller.name)
def test_head_needs_what_get_needs(app: Protected, caller: Caller) -> None:
    for (method, path), scope in TABLE.items():
        if method == "GET":
            assert refusal(app, "HEAD", path, caller) == expected(scope, caller), path


def test_a_planted_route_is_noticed(app: Protected) -> None:
    @post("/flows/{flow_id:str}/planted", opt={"scope": Scope.READ})
    async def planted() -> None: ...

    other = Litestar([planted], plugins=[Guarding()], openapi_config=None)

    assert routes_of(other) - TABLE.keys() == {("POST", "/flows/{flow_id}/planted")}


def test_a_planted_route_that_declares_nothing_does_not_get_in(app: Protected) -> None:
    @post("/planted")
    async def planted() -> None: ...

    with pytest.raises(ImproperlyConfiguredException, match="planted"):
        framework_of(app).register(planted)
    assert asked(app, "POST", "/planted", bearer(15)).status in (403, 404)
