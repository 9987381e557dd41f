"""Which annotated types can be stored: checked when a flow is defined, long before its first effect."""

from __future__ import annotations

import collections.abc
import re
from copy import copy
from pathlib import PurePath
from types import UnionType
from typing import TYPE_CHECKING, Any, Never, NoReturn, Union, cast, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect
from msgspec.structs import force_setattr

from ..errors import FlowDefinitionError
from .location import defined_at
from .models import is_model, is_old_model, refusal
from .value_diff import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_JSON = (str, int, float, list, dict, type(None))
_KEYS = (
    inspect.AnyType,
    inspect.StrType,
    inspect.IntType,
    inspect.FloatType,
    inspect.DecimalType,
    inspect.UUIDType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.TimeDeltaType,
    inspect.BytesType,
    inspect.EnumType,
    inspect.LiteralType,
)
_LISTS = (inspect.ListType, inspect.VarTupleType, inspect.TupleType)
_WITH_FIELDS = (inspect.StructType, inspect.DataclassType, inspect.NamedTupleType, inspect.TypedDictType)
_OBJECTS = (inspect.StructType, inspect.DataclassType)
_INSTEAD: tuple[tuple[Any, str], ...] = (
    (PurePath, "annotate str, and make a path of it where it is used"),
    (complex, "annotate tuple[float, float]"),
    (BaseException, "annotate str, and describe in it what went wrong"),
    (collections.abc.Awaitable, "make the function `async def`, and annotate what it returns when awaited"),
    (collections.abc.Iterator, "annotate list, and return all of it"),
    (type, "annotate str, and look the class up by its name"),
    (str, "annotate str"),
    (int, "annotate int"),
    (float, "annotate float"),
    (collections.abc.Mapping, "annotate dict"),
    (collections.abc.Set, "annotate set"),
    (collections.abc.Sequence, "annotate list"),
    (cast("type[Any]", collections.abc.Callable), "annotate str, and look the function up by its name"),
)
_SERIES: tuple[Any, ...] = (collections.abc.Iterable, collections.abc.Reversible, collections.abc.Container)
"""Lists and text are both of these types, so they do not say which comes back."""
_IN_GENERAL = "make it a dataclass, a msgspec.Struct or a pydantic model, or annotate a type of JSON"


def parameter_hints(function: Callable[..., Any], what: str) -> dict[str, Any]:
    """Return a function's parameter annotations.

    Raises:
        FlowDefinitionError: an annotation is unknown, makes no sense, or cannot be stored.
    """
    at, hints = _hints(function, what)
    hints.pop("return", None)
    for name, hint in hints.items():
        refuse_unstorable(hint, f"{at}: the parameter {name!r}")
    return hints


def result_hint(function: Callable[..., Any], what: str) -> Any:
    """Return a function's result annotation; raises as `parameter_hints` does."""
    at, hints = _hints(function, what)
    result = hints.get("return", Any)
    if result in (NoReturn, Never):
        return Any
    refuse_unstorable(result, f"{at}: its result")
    return result


def _hints(function: Callable[..., Any], what: str) -> tuple[str, dict[str, Any]]:
    """Return a function's annotations, resolved late enough for forward references, and its location."""
    at = f"{what} at {defined_at(function)}"
    try:
        return at, get_type_hints(function, include_extras=True)
    except NameError as error:
        raise FlowDefinitionError(f"{at}: {_unknown(function, error)}") from error
    except Exception as error:
        raise FlowDefinitionError(f"{at}: its annotations cannot be resolved: {plain(error)}") from error


def _unknown(function: Callable[..., Any], error: NameError) -> str:
    """Describe an annotation whose name is not defined, and how to define it."""
    name = str(error.name)
    written = {key: hint for key, hint in function.__annotations__.items() if isinstance(hint, str)}
    where = next((key for key, hint in written.items() if re.search(rf"\b{re.escape(name)}\b", hint)), None)
    part = "its annotations name" if where is None else f"the annotation of {where!r} names"
    return (
        f"{part} {name!r}, which is not known there at run time. If it is imported for type checking only,"
        " move the import out of `if TYPE_CHECKING:`; if it is defined inside a function, move it to the"
        " module"
    )


def refuse_unstorable(annotation: Any, what: str) -> None:
    """Check an annotation and everything it consists of.

    Raises:
        FlowDefinitionError: its values could not be stored, or would not come back equal.
    """
    cause: Exception | None = None
    try:
        reason = next(_reasons(inspect.type_info(annotation), "", set()), None)
    except NameError as error:
        cause = error
        reason = f"it names {error.name!r}, which is not known at run time (imported for type checking only?)"
    except Exception as error:  # noqa: BLE001 - msgspec does not take it, or the user's types raise
        cause = error
        reason = _of_union(annotation) or f"{_shown(annotation)} cannot be stored: {plain(error)}"
    if reason is not None:
        raise FlowDefinitionError(f"{what}: {reason}") from cause


def _of_union(annotation: Any) -> str | None:
    """Return what to write instead of a union whose members can be stored but not told apart."""
    ahead = [annotation]
    while ahead:
        part = ahead.pop()
        members = get_args(part)
        ahead += members
        if get_origin(part) not in (Union, UnionType):
            continue
        try:
            for member in members:
                inspect.type_info(member)
        except Exception:  # noqa: BLE001, S112 - the member is to blame, and not the union
            continue
        shown = " | ".join(map(_shown, members))
        if any(map(is_model, members)):
            instead = "make a model that has it as a field, with a discriminator, and annotate that"
        else:
            instead = "derive its members from msgspec.Struct, with tag=True; of lists and sets, annotate one"
        return f"{shown} cannot be stored, as its members cannot be distinguished in JSON: {instead}"
    return None


def _reasons(info: inspect.Type, field: str, seen: set[int]) -> Iterator[str]:
    """Yield why values of a type cannot be stored; `field` is the innermost field around it."""
    if id(info) in seen:
        return
    seen.add(id(info))
    reason = _reason(info)
    if reason is not None:
        yield f"the field {field}: {reason}" if field else reason
    for part, name in _parts(info):
        yield from _reasons(part, name or field, seen)


def _parts(info: inspect.Type) -> Iterator[tuple[inspect.Type, str]]:
    """Yield the types that a type consists of, with their names where they have one."""
    match info:
        case inspect.TupleType():
            yield from ((part, "") for part in info.item_types)
        case inspect.UnionType():
            yield from ((part, "") for part in info.types)
        case inspect.DictType():
            yield info.value_type, ""
        case inspect.SetType() | inspect.FrozenSetType() | inspect.ListType() | inspect.VarTupleType():
            yield info.item_type, ""
        case _ if isinstance(info, _WITH_FIELDS):
            yield from ((field.type, f"{info.cls.__name__}.{field.name}") for field in info.fields)
        case _:
            return


def _reason(info: inspect.Type) -> str | None:
    """Return why values of a type cannot be stored, regardless of its parts."""
    if isinstance(info, inspect.CustomType):
        return _of_class(info.cls)
    if isinstance(info, inspect.SetType | inspect.FrozenSetType) and _is_unhashable(info.item_type):
        return "the members of a set must be hashable: annotate list"
    if isinstance(info, inspect.DictType) and not _is_key(info.key_type):
        return "the keys of a stored dict must be text or numbers: annotate a list of pairs"
    if isinstance(info, _WITH_FIELDS) and not _compares(info.cls):
        return (
            f"{info.cls.__name__} has no __eq__, so equality after decoding cannot be checked: drop eq=False"
        )
    return None


def _of_class(kind: type) -> str | None:
    """Return why instances of a class without a JSON form of its own cannot be stored."""
    if is_model(kind):
        return refusal(kind)
    if is_old_model(kind):
        return f"{kind.__name__} is a model of pydantic 1: derive it from the BaseModel of pydantic 2"
    if kind in _SERIES:
        return f"{kind.__name__} cannot be stored: annotate list"
    if any(_holds(kind, json) for json in _JSON):
        return None
    instead = next((text for base, text in _INSTEAD if _holds(base, kind)), _IN_GENERAL)
    return f"{kind.__name__} cannot be stored: {instead}"


def _holds(base: type, kind: type) -> bool:
    try:
        return issubclass(kind, base)
    except TypeError:  # a protocol that cannot tell
        return False


def _compares(kind: Any) -> bool:
    config = getattr(kind, "__struct_config__", None)
    return kind.__eq__ is not object.__eq__ if config is None else bool(config.eq)


def _is_unhashable(info: inspect.Type) -> bool:
    if isinstance(info, (inspect.ListType, inspect.SetType, inspect.DictType, inspect.ByteArrayType)):
        return True
    kind = getattr(info, "cls", None)
    return isinstance(info, inspect.TypedDictType) or (kind is not None and kind.__hash__ is None)


def _is_key(info: inspect.Type) -> bool:
    if isinstance(info, inspect.UnionType):
        return all(isinstance(part, (*_KEYS, inspect.NoneType)) for part in info.types)
    return isinstance(info, _KEYS) or (isinstance(info, inspect.CustomType) and _holds(info.cls, str))


def _shown(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


# ------------------------------------------------------------------------------------ lists and tuples
def as_annotated(value: Any, annotation: Any) -> Any:
    """Return a value whose lists and tuples are as annotated, which is how they come back."""
    return _as(value, inspect.type_info(annotation))


def _as(value: Any, info: inspect.Type) -> Any:
    kind = cast("type[Any]", type(value))
    if isinstance(info, inspect.UnionType):
        fitting = (part for part in info.types if _fits(kind, part))
        return _as(value, next(fitting, inspect.AnyType()))
    if kind in (list, tuple) and isinstance(info, _LISTS):
        return _items(cast("list[Any]", value), info)
    if kind is dict and isinstance(info, inspect.DictType):
        return {key: _as(item, info.value_type) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(info, _OBJECTS) and kind is info.cls:
        return _object(value, info)
    return value


def _fits(kind: type, info: inspect.Type) -> bool:
    if isinstance(info, _LISTS):
        return kind in (list, tuple)
    return kind is (dict if isinstance(info, inspect.DictType) else getattr(info, "cls", None))


def _items(value: list[Any], info: inspect.Type) -> Any:
    if isinstance(info, inspect.TupleType):
        return tuple(_as(item, part) for item, part in zip(value, info.item_types, strict=False))
    assert isinstance(info, (inspect.ListType, inspect.VarTupleType))
    items = [_as(item, info.item_type) for item in value]
    return tuple(items) if isinstance(info, inspect.VarTupleType) else items


def _object(value: Any, info: inspect.StructType | inspect.DataclassType) -> Any:
    made = copy(value)
    put = force_setattr if isinstance(made, msgspec.Struct) else object.__setattr__
    for field in info.fields:
        put(made, field.name, _as(getattr(value, field.name), field.type))
    return made
