"""The schemas of the API's document: those of the models, and of the arguments of the registered flows.

msgspec makes them, which also reads the requests. Litestar's own generator omits that other fields are
refused, the defaults, and what a field's annotation adds to its schema.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ....flows.errors import FlowDefinitionError
from ....flows.values.annotations import parameter_hints
from ..middleware.problem import Problem
from .models import FlowEnd, NewFlow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ....flows import FlowDefinition, Registry
    from .models import ApiModel
    from .promise import Contract

_REFERENCE: Final = "#/components/schemas/{name}"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")


class Schemas:
    """All schemas of one application, by the shapes that they are made from."""

    def __init__(self, contracts: Iterable[Contract], registry: Registry) -> None:
        shapes: dict[Any, None] = {Problem: None, FlowEnd: None}
        self._queries: set[Any] = set()
        for contract in contracts:
            shapes |= dict.fromkeys([*contract.answers.values(), contract.body, contract.query])
            self._queries.add(contract.query)
        shapes.pop(None, None)
        self._flows = {flow.name: _arguments(flow, number) for number, flow in enumerate(registry)}
        described = [*shapes, *(shape for shape in self._flows.values() if shape is not None)]
        made, self._all = msgspec.json.schema_components(described, ref_template=_REFERENCE)
        self._made: dict[Any, dict[str, Any]] = dict(zip(described, made, strict=True))

    @property
    def components(self) -> dict[str, Any]:
        """All that is referred to. Query parameters are described where they are used."""
        hidden = {self._name(shape) for shape in self._queries if shape is not None}
        return {name: schema for name, schema in sorted(self._all.items()) if name not in hidden}

    def reference(self, shape: type[msgspec.Struct]) -> dict[str, Any]:
        return self._made[shape]

    def query(self, shape: type[ApiModel]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "in": "query",
                "description": schema.get("description", ""),
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in self._all[self._name(shape)]["properties"].items()
        ]

    def body(self, contract: Contract) -> dict[str, Any]:
        assert contract.body is not None
        schema = self._new_flow() if contract.body is NewFlow else self.reference(contract.body)
        return {"schema": schema} | ({} if contract.example is None else {"example": contract.example})

    def _new_flow(self) -> dict[str, Any]:
        """Describe the start of each registered flow, with its own arguments."""
        if not self._flows:
            return self.reference(NewFlow)
        return {"oneOf": [self._start(name, shape) for name, shape in self._flows.items()]}

    def _start(self, name: str, arguments: Any) -> dict[str, Any]:
        general = self._all[self._name(NewFlow)]
        properties: dict[str, Any] = {**general["properties"], "type": {"const": name}}
        required = ["type"]
        if arguments is not None:
            properties["args"] = self._made[arguments]
            required += ["args"] if self._all[self._name(arguments)].get("required") else []
        return {**general, "title": name, "properties": properties, "required": required}

    def _name(self, shape: Any) -> str:
        return self._made[shape]["$ref"].rpartition("/")[2]


def _arguments(definition: FlowDefinition[..., Any], number: int) -> Any:
    """Make the shape of a flow's arguments; None: its types have no schema."""
    try:
        hints = parameter_hints(definition.function, repr(definition))
        parameters = list(inspect.signature(definition.function).parameters.values())[definition.is_method :]
        fields = [_field(parameter, hints.get(parameter.name, Any)) for parameter in parameters]
        name = f"arguments.{number + 1}.{_UNSAFE.sub('_', definition.name)}"
        shape = msgspec.defstruct(name, fields, forbid_unknown_fields=True, kw_only=True)
        msgspec.json.schema(shape)
    except (TypeError, ValueError, FlowDefinitionError):
        return None
    return shape


def _field(parameter: inspect.Parameter, annotation: Any) -> Any:
    if parameter.default is parameter.empty:
        return (parameter.name, annotation)
    default = parameter.default
    return (parameter.name, annotation, msgspec.field(default_factory=lambda: default))
