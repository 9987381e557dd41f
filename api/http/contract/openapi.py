"""The document of the API: OpenAPI 3.1, made from the routes, their contracts, and the types of the flows."""

from __future__ import annotations

import re
from http import HTTPStatus
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from litestar.routes import HTTPRoute

from ..middleware.problem import PROBLEM, Problem, ProblemError
from .guard import declared
from .models import FlowEnd
from .promise import ANY_ROUTE, Contract, contract_of
from .schemas import Schemas

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.handlers import HTTPRouteHandler

    from ....actors import FlowSystem

_JSON: Final = "application/json"
_SCHEME_NAME: Final = "bearer"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_ABOUT: Final = """
Start flows, inspect them and send them signals. Whatever an answer reports is durable. Unknown and
repeated fields and query parameters are refused. Errors are problem
details (RFC 9457) whose `type` ends in the error's code: `persistasaurus error CODE` explains it. HEAD and
OPTIONS are answered everywhere.
"""
_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "The token that the server was started with.",
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key again is the same request. Keys of other callers are other keys.",
    "schema": {"type": "string", "pattern": '^([!#-~]{1,200}|"[!#-~]{1,200}")$'},
}
_LAST_EVENT: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that was seen; browsers send it by themselves.",
    "schema": {"type": "string", "pattern": "^[0-9]{0,15}$"},
}
_PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "flowId": {
        "description": "The flow's id, percent-encoded.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
    "name": {
        "description": "The name, percent-encoded.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
}
_HEADERS: Final[dict[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}},
    503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}},
}
_SAYS: Final = {
    400: "It cannot be read, or does not match the description.",
    401: "A token is needed.",
    403: "The token does not allow it, or the host or origin is not one that is answered.",
    404: "Not found.",
    408: "The body came too slowly.",
    409: "It conflicts with what is recorded.",
    413: "The body is too large.",
    415: "The body is not JSON, or has a content encoding.",
    422: "It can be read, and does not fit what the flow declares.",
    429: "Too much at once.",
    431: "The headers are too large, or too many.",
    500: "A defect: the server's log says more.",
    503: "It cannot be confirmed now. You can safely repeat it with the same key or id.",
}


class _Endpoint(NamedTuple):
    """An operation, and where it is. `name` is its id."""

    path: str
    method: str
    handler: HTTPRouteHandler
    contract: Contract | None
    name: str


def document(app: Litestar, system: FlowSystem) -> dict[str, Any]:
    """Return the document without its `servers`, which depend on where the application is mounted."""
    endpoints = _endpoints(app)
    schemas = Schemas(
        [endpoint.contract for endpoint in endpoints if endpoint.contract is not None],
        system.client.admission.registry,
    )
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint, endpoints, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Persistasaurus",
            "version": metadata.version("persistasaurus"),
            "description": _ABOUT.strip(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {str(status): _problem(status) for status in sorted(_SAYS)},
            "securitySchemes": {_SCHEME_NAME: _SCHEME},
        },
    }


def _endpoints(app: Litestar) -> list[_Endpoint]:
    """List the operations, except HEAD and OPTIONS, which are everywhere."""
    endpoints: list[_Endpoint] = []
    for route in app.routes:
        path = _PARAMETER.sub(lambda match: f"{{{_camel(match[1])}}}", route.path_format)
        handlers = route.route_handlers if isinstance(route, HTTPRoute) else []
        endpoints += [
            _Endpoint(path, method.lower(), handler, contract_of(handler.opt), _camel(handler.handler_name))
            for handler in handlers
            for method in sorted(handler.http_methods)
            if method in ("GET", "POST")
        ]
    return endpoints


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _operation(endpoint: _Endpoint, endpoints: list[_Endpoint], schemas: Schemas) -> dict[str, Any]:
    summary, _, description = (endpoint.handler.fn.__doc__ or "").strip().partition("\n")
    scope = declared(endpoint.handler)
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": summary.rstrip("."),
        "description": re.sub(r"\s*\n\s*", " ", description.strip()) or summary,
        "parameters": _parameters(endpoint, schemas),
        "security": [] if scope is None else [{_SCHEME_NAME: [scope.value]}],
    }
    if endpoint.contract is None:
        return operation | {
            "tags": list(endpoint.handler.tags or ["pages"]),
            "responses": _pages(endpoint.handler),
        }
    operation |= {"tags": [endpoint.contract.tag], "responses": _responses(endpoint, endpoints, schemas)}
    if endpoint.contract.body is not None:
        operation["requestBody"] = {
            "required": not endpoint.contract.body_optional,
            "content": {_JSON: schemas.body(endpoint.contract)},
        }
    return operation


def _parameters(endpoint: _Endpoint, schemas: Schemas) -> list[dict[str, Any]]:
    plain: dict[str, Any] = {"schema": {"type": "string"}}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, **_PATH_PARAMETERS.get(name, plain)}
        for name in _PARAMETER.findall(endpoint.path)
    ]
    contract = endpoint.contract
    if contract is None:
        return parameters
    if contract.query is not None:
        parameters += schemas.query(contract.query)
    return parameters + [_KEY] * contract.takes_key + [_LAST_EVENT] * contract.streams


def _responses(endpoint: _Endpoint, endpoints: list[_Endpoint], schemas: Schemas) -> dict[str, Any]:
    contract = endpoint.contract
    assert contract is not None
    responses: dict[str, Any] = {}
    for status, shape in contract.answers.items():
        response: dict[str, Any] = {
            "description": HTTPStatus(status).description or HTTPStatus(status).phrase
        }
        if contract.streams and shape is not None:
            response["description"] = "Events. The last is named `end`, or `problem` when it broke off."
            response["content"] = {
                "text/event-stream": {
                    "schema": _event([schemas.reference(each) for each in (shape, FlowEnd, Problem)])
                }
            }
        elif shape is not None:
            response["description"] = (shape.__doc__ or "").strip().partition("\n")[0]
            response["content"] = {_JSON: {"schema": schemas.reference(shape)}}
        if contract.locates:
            response["headers"] = {"Location": {"description": "Where it is.", "schema": {"type": "string"}}}
            response["links"] = _links(endpoint, endpoints)
        responses[str(status)] = response
    statuses = sorted(
        {*ANY_ROUTE, *contract.problems} - ({401} if declared(endpoint.handler) is None else set())
    )
    return responses | {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _event(data: list[dict[str, Any]]) -> dict[str, Any]:
    text = {"type": "string"}
    content = {**text, "contentMediaType": _JSON, "contentSchema": {"anyOf": data}}
    return {
        "type": "object",
        "properties": {"id": text, "event": text, "data": content},
        "required": ["data"],
    }


def _links(start: _Endpoint, endpoints: list[_Endpoint]) -> dict[str, Any]:
    return {
        endpoint.name: {"operationId": endpoint.name, "parameters": {"flowId": "$response.body#/flowId"}}
        for endpoint in endpoints
        if endpoint.path.startswith(f"{start.path}/{{flowId}}")
    }


def _problem(status: int) -> dict[str, Any]:
    example = msgspec.to_builtins(ProblemError(status, _SAYS[status]).problem)
    response: dict[str, Any] = {
        "description": _SAYS[status],
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
    return response | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


def _pages(handler: HTTPRouteHandler) -> dict[str, Any]:
    """Describe pages for people from what their handler declares."""
    return {
        str(status): {
            "description": spec.description,
            "content": {
                str(getattr(spec.media_type, "value", spec.media_type)): {"schema": {"type": "string"}}
            },
        }
        for status, spec in (handler.responses or {}).items()
    }
