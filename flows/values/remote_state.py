"""A flow's state on its way to the process of an isolated step: as values, by their own types.

Nothing is pickled: the process receives data and the names of classes, which msgspec builds. An attribute
that cannot be sent does not stop the step. It raises, with the reason, when the step reads it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import msgspec

from ..errors import FlowStateError, PersistasaurusError
from .codec import WIDEST_LIMITS, codec_of
from .sameness import in_slots, slots_of

if TYPE_CHECKING:
    from collections.abc import Callable

Find: TypeAlias = "Callable[[str, str], Any]"
"""Finds an object by its module and qualified name."""

_PLAIN = (type(None), bool, float, str, bytes)
_CONTAINERS: dict[type[Any], str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_MAKERS = {name: kind for kind, name in _CONTAINERS.items()}
_INT_BITS = 63


class RemoteState(msgspec.Struct, frozen=True, array_like=True):
    """A flow's class and attributes, and why some attributes could not be sent."""

    kind: tuple[str, str]
    kept: dict[str, Any]
    missing: dict[str, str]

    @classmethod
    def of(cls, instance: Any) -> RemoteState:
        """Encode the state of a flow. Raises nothing."""
        kept: dict[str, Any] = {}
        missing: dict[str, str] = {}
        kind = cast("type[Any]", type(instance))
        attributes = in_slots(instance, slots_of(kind)) | cast("dict[str, Any]", vars(instance))
        for name, value in attributes.items():
            try:
                kept[name] = _taken_down(value)
            except Exception as error:  # noqa: BLE001 - the user's types may raise anything
                missing[name] = str(error) or type(error).__name__
        return cls(place_of(kind), kept, missing)

    def bring_back(self, find: Find, role: str) -> Any:
        """Rebuild the flow. An attribute that could not be sent raises FlowStateError when it is read."""
        kind = find(*self.kind)
        if self.missing:
            gaps = {name: property(_refusal(role, name, why)) for name, why in self.missing.items()}
            kind = type(kind.__name__, (kind,), {"__module__": kind.__module__, **gaps})
        instance = object.__new__(kind)
        for name, value in self.kept.items():
            object.__setattr__(instance, name, _brought_back(value, find))
        return instance


def place_of(kind: type) -> tuple[str, str]:
    """Return a class's module and its name in that module."""
    return kind.__module__, kind.__qualname__


def is_found(place: tuple[str, str], thing: object) -> bool:
    """Return whether another process, too, would find an object under this name in its module."""
    module, name = place
    found: Any = sys.modules.get(module)
    if module == "__main__" and not hasattr(found, "__file__"):
        return False  # typed in, and nowhere else
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


def _refusal(role: str, name: str, why: str) -> Callable[[Any], NoReturn]:
    def refuse(_: Any) -> NoReturn:
        raise FlowStateError(
            f"{role!r} read self.{name}, which cannot be sent to the process of an isolated step: {why}."
            " Give the step what it needs as an argument, or let it run without isolated=True"
        )

    return refuse


def _taken_down(value: Any) -> Any:
    kind = cast("type[Any]", type(value))
    if kind in _PLAIN or (kind is int and value.bit_length() <= _INT_BITS):
        return value
    if kind is int:
        return ["int", str(value)]
    if kind in _CONTAINERS:
        return [_CONTAINERS[kind], [_taken_down(part) for part in value]]
    if kind is dict:
        return ["dict", [[_taken_down(key), _taken_down(part)] for key, part in value.items()]]
    place = place_of(kind)
    if not is_found(place, kind):
        raise PersistasaurusError(
            f"its class {kind.__qualname__} is not found by its name in {kind.__module__}"
        )
    return [*place, codec_of(kind, f"a value of type {kind.__qualname__}").seal(value, WIDEST_LIMITS)[0]]


def _brought_back(noted: Any, find: Find) -> Any:
    if type(noted) is not list:
        return noted
    match cast("list[Any]", noted):
        case ["int", digits]:
            return int(digits)
        case ["dict", pairs]:
            return {_brought_back(key, find): _brought_back(part, find) for key, part in pairs}
        case [container, parts]:
            return _MAKERS[container](_brought_back(part, find) for part in parts)
        case [module, name, data]:
            kind = find(module, name)
            return codec_of(kind, f"a value of type {name}").decode(data)
        case _:
            raise TypeError(f"{noted!r} was not taken down")
