"""Models of pydantic as values. Pydantic is not imported: a model brings its own methods."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast, get_args, get_origin

import msgspec

_encode = msgspec.json.Encoder().encode
_SHOWN = 3
_OTHER_WORDS = frozenset(("$ref", "allOf", "anyOf", "const", "enum", "oneOf"))
"""Keywords by which a schema describes a value, other than its type."""


def is_model(kind: object) -> bool:
    """Return whether a class is a model of pydantic 2."""
    return (
        isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump_json")
    )


def is_old_model(kind: object) -> bool:
    """Return whether a class is a model of pydantic 1."""
    return isinstance(kind, type) and hasattr(kind, "parse_raw") and hasattr(kind, "__fields__")


def encoded(model: Any) -> msgspec.Raw:
    """Return a model's own JSON, in the form that it reads back."""
    try:
        text: str = model.model_dump_json(by_alias=True, round_trip=True, warnings=False)
    except Exception as error:
        if "utf-8" not in str(error):
            raise
        raise ValueError(
            f"{type(model).__name__} has bytes that are not UTF-8: give it model_config ="
            ' ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")'
        ) from error
    return msgspec.Raw(text.encode())


def decoded(kind: Any, value: Any) -> Any:
    """Build a model from decoded JSON.

    Raises:
        ValueError: the model refuses it; the message names the fields and the reasons.
    """
    try:
        return kind.model_validate_json(_encode(value))
    except Exception as error:
        reasons = getattr(error, "errors", None)
        if reasons is None:
            raise
        raise ValueError(_in_one_line(kind.__name__, reasons(include_url=False))) from error


def _in_one_line(model: str, reasons: list[dict[str, Any]]) -> str:
    said = [f"{'.'.join([model, *map(str, reason['loc'])])}: {reason['msg']}" for reason in reasons]
    more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
    return "; ".join(said[:_SHOWN]) + more


@lru_cache(maxsize=512)
def refusal(kind: Any) -> str | None:
    """Return why values of a model would not come back equal, or None if they can.

    It compares the JSON schemas of what the model writes and of what it reads.
    """
    if not kind.model_fields and str(kind.__module__).partition(".")[0] == "pydantic":
        return f"{kind.__name__} itself has no fields: name the model"
    try:
        if not getattr(kind, "__pydantic_complete__", True):
            kind.model_rebuild()
        field = next(
            (reason for name, about in kind.model_fields.items() if (reason := _odd(name, about))), None
        )
        if field is not None:
            return f"{kind.__name__}.{field}"
        written = kind.model_json_schema(mode="serialization")
    except Exception as error:  # noqa: BLE001 - pydantic's, or of the user's own hooks
        reason = str(error).partition("\n")[0]
        return f"the model {kind.__name__} has no JSON form ({reason}); give its fields types that have one"
    try:
        read = kind.model_json_schema(mode="validation")
    except Exception:  # noqa: BLE001 - a validator without a schema may still read what is written
        return None
    return _loss(kind.__name__, _objects(kind.__name__, written), _objects(kind.__name__, read))


def _odd(name: str, field: Any) -> str | None:
    """Return a problem with a model's field that no schema shows."""
    if hasattr(field.validation_alias, "path"):
        return f"{name} is read by an AliasPath, but not written by one: give it a plain alias, or none"
    ahead = [field.annotation]
    while ahead:
        part = ahead.pop()
        ahead += get_args(part)
        if get_origin(part) is dict and get_origin(get_args(part)[0]) in (tuple, frozenset):
            return f"{name} is a dict with keys that JSON cannot hold: make it a list of pairs"
    return None


def _objects(name: str, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the properties of each object in a schema, by the object's name."""
    objects: dict[str, Any] = {**schema.get("$defs", {}), name: schema}
    return {name: cast("dict[str, Any]", part.get("properties", {})) for name, part in objects.items()}


def _loss(model: str, written: dict[str, dict[str, Any]], read: dict[str, dict[str, Any]]) -> str | None:
    """Return a difference between what a model writes and what it reads."""
    for name in sorted(written.keys() & read.keys()):
        out = {field for field, about in written[name].items() if not about.get("readOnly")}
        secret = next((field for field, about in read[name].items() if about.get("writeOnly")), None)
        if secret is not None:
            return f"the field {secret!r} of {name} hides its value when it is written (model {model})"
        if out != read[name].keys():
            odd = ", ".join(sorted(out ^ read[name].keys()))
            return (
                f"{name} does not read what it writes (model {model}): {odd}. Give each field one alias, or"
                " none, and exclude none"
            )
        for field, about in written[name].items():
            kinds = about.get("type"), read[name][field].get("type")
            if kinds[0] != kinds[1] and kinds[1] is not None and not _OTHER_WORDS & about.keys():
                how = f"as {kinds[0]}" if kinds[0] else "in a way that its serializer does not annotate"
                return (
                    f"the field {field!r} of {name} is written {how}, and read as {kinds[1]} (model {model}):"
                    " have its serializer write, and its validator read, the same"
                )
    return None
