"""The document of the API says what there is: every route, who may use it, and what it can answer."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from litestar.routes import HTTPRoute
from persistasaurus import Flow, FlowSystem, flow
from persistasaurus.api.http.access import Access, Scope, declared
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.tokens import Tokens
from persistasaurus.api.links.action import Action
from persistasaurus.api.links.keys import KeyRing
from persistasaurus.api.links.links import Links
from persistasaurus.flows.examples import SignupFlow, signup_flow
from routes.client import TOKEN, Client
from routes.flows import Questions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from litestar import Litestar

PATHS = {
    "GET /health": None,
    "GET /openapi.json": "read",
    "GET /flows": "read",
    "POST /flows": "start",
    "POST /flows/{flowId}": "start",
    "GET /flows/{flowId}": "read",
    "GET /flows/{flowId}/events": "read",
    "GET /flows/{flowId}/result": "read",
    "GET /flows/{flowId}/follow": "read",
    "GET /follow": "read",
    "POST /flows/{flowId}/signals/{name}": "signal",
    "POST /flows/{flowId}/queries/{name}": "read",
    "POST /flows/{flowId}/pause": "admin",
    "POST /flows/{flowId}/resume": "admin",
    "POST /flows/{flowId}/retry": "admin",
    "POST /signups": "start",
    "GET /signups/{flowId}": "read",
    "POST /signups/{flowId}/confirm": "signal",
}


@pytest.fixture
def document(client: Client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def framework(client: Client) -> Litestar:
    return client.app._app._app  # type: ignore[attr-defined]


def test_what_is_offered_and_what_it_takes_to_use_it(document: dict[str, Any]) -> None:
    scopes = {
        name: operation["security"][0]["bearer"][0] if operation["security"] else None
        for name, operation in operations(document)
    }

    assert scopes == PATHS


def test_every_route_is_in_the_document(client: Client, document: dict[str, Any]) -> None:
    routes = {
        f"{method} {re.sub('flow_id', 'flowId', route.path_format)}": declared(handler)
        for route in framework(client).routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }

    assert routes == PATHS
    assert set(routes) == {name for name, _ in operations(document)}


def test_each_scope_opens_its_routes_and_no_other(system: FlowSystem) -> None:
    for scope in Scope:
        access = Tokens.of({TOKEN: Access("somebody", frozenset({scope}))})
        client = Client.of(system, access=access)
        for name, needed in PATHS.items():
            method, path = name.replace("{flowId}", "nobody").replace("{name}", "x").split(" ")
            if path == "/follow" and scope is Scope.READ:
                path = "/follow?seconds=0"
            denied = client.ask(method, path).status_code == 403
            assert denied == (needed is not None and needed != scope), (scope, name)


def test_strangers_are_turned_away_from_all_that_is_not_public(client: Client) -> None:
    stranger = client.with_token("")
    for name, needed in PATHS.items():
        method, path = name.replace("{flowId}", "nobody").replace("{name}", "x").split(" ")
        answer = stranger.ask(method, path)
        assert answer.status_code == (200 if needed is None else 401), name
        if needed is not None:
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_every_operation_is_explained_and_named_once(document: dict[str, Any]) -> None:
    named = [operation["operationId"] for _, operation in operations(document)]

    assert len(named) == len(set(named))
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        answers = {status for status in operation["responses"] if status < "300"}
        assert answers, name
        assert {"400", "403", "413", "415", "429", "503"} <= operation["responses"].keys(), name
        assert ("401" in operation["responses"]) == bool(operation["security"]), name


def test_every_problem_is_described_the_same(document: dict[str, Any]) -> None:
    for status, response in document["components"]["responses"].items():
        content = response["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert content["example"]["status"] == int(status)
    assert "Retry-After" in document["components"]["responses"]["503"]["headers"]


def test_nothing_is_referred_to_that_is_not_there(document: dict[str, Any]) -> None:
    for reference in re.findall(r"#/components/(\w+)/([\w.-]+)", str(document)):
        assert reference[1] in document["components"][reference[0]]


def test_bodies_take_what_is_described_and_no_more(document: dict[str, Any]) -> None:
    asked = [
        operation["requestBody"]["content"]["application/json"]["schema"]
        for _, operation in operations(document)
        if "requestBody" in operation
    ]
    for schema in asked:
        for part in schema.get("oneOf", [schema]):
            name = part.get("$ref", "").rpartition("/")[2]
            described = document["components"]["schemas"].get(name, part)
            assert described["additionalProperties"] is False


def test_each_registered_flow_is_described_with_its_arguments(document: dict[str, Any]) -> None:
    new = document["paths"]["/flows"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    questions = next(schema for schema in new if schema["properties"]["type"] == {"const": "questions"})
    arguments = questions["properties"]["args"]["$ref"].rpartition("/")[2]

    described = document["components"]["schemas"][arguments]

    assert questions["required"] == ["type", "args"]
    assert described["properties"] == {
        "topic": {"type": "string"},
        "most": {"type": "integer"},
    }
    assert described["required"] == ["topic"]


class Strange(Flow):
    @flow(name="strange")
    async def run(self, point: Any, *, sizes: list[int] = [1]) -> None: ...  # noqa: B006 - a default all the same


def test_arguments_of_any_kind_are_described_as_far_as_they_can_be() -> None:
    with FlowSystem(flows=[Strange]) as system:
        document = Client.of(system).get("/openapi.json").json()

    assert document["components"]["schemas"]["arguments.1.strange"]["required"] == ["point"]


def test_without_flows_there_is_still_a_document() -> None:
    with FlowSystem() as system:
        document = Client.of(system, routes=()).get("/openapi.json").json()

    assert "/flows" in document["paths"]
    assert "/signups" not in document["paths"]


def test_links_for_people_are_described_and_open_to_everybody() -> None:
    action = Action(name="confirm", signal=SignupFlow.confirm_email_address, title="?")
    links = Links(KeyRing.fresh(), "http://localhost", [action])
    with FlowSystem(flows=[signup_flow(timedelta(0)), Questions]) as system:
        client = Client.of(system, links=links)
        document = client.get("/openapi.json").json()
        page = client.with_token("").get(links.url("nobody", "confirm").removeprefix("http://localhost"))

    assert {method: found["security"] for method, found in document["paths"]["/links/{token}"].items()} == {
        "get": [],
        "post": [],
    }
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")


def test_the_application_is_built_without_a_server_for_it(system: FlowSystem) -> None:
    assert callable(asgi_app(system, access=lambda _scope: None))
