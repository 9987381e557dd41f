"""Which part of a value does not survive being stored."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import msgspec

from .depth import DEPTH_MAX
from .models import encoded, is_model
from .text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN = 60
_LOOKED_AT = 100_000
_FIELDS = 5
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _in_other_words(value: Any) -> Any:
    """Return a replacement that msgspec can encode.

    Raises:
        TypeError: there is none; the message says why, and what to do.
    """
    kind = cast("type[Any]", type(value))
    if is_model(kind):
        return encoded(value)
    hint: str | None = getattr(kind, "no_value", None)
    if hint is not None:
        raise TypeError(f"it is {value!r}: {hint}")
    if isinstance(value, Coroutine):
        raise TypeError(
            f"it is a coroutine, {value.__qualname__}(), that was not awaited: write `await` in front of it"
        )
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no JSON form: use a dataclass, or convert it")


encode = msgspec.json.Encoder(enc_hook=_in_other_words).encode
"""Encode a value as JSON. Its errors say what to do."""


def first_unencodable(value: Any) -> str:
    """Return the path of the innermost part that has no JSON form."""
    path = "$"
    for _ in range(DEPTH_MAX):
        culprit = next(((step, part) for step, part in _children(value) if not _has_form(part)), None)
        if culprit is None:
            return path
        path += culprit[0]
        value = culprit[1]
    return path


def first_difference(before: Any, after: Any) -> tuple[str, str]:
    """Return where, innermost, a value differs from what came back, and how."""
    path = "$"
    for _ in range(DEPTH_MAX):
        ours, theirs = dict(_children(before)), dict(_children(after))
        if type(before) is not type(after) or ours.keys() != theirs.keys():
            break
        step = next((step for step, part in ours.items() if not _is_same(part, theirs[step])), None)
        if step is None:
            break
        path += step
        before, after = ours[step], theirs[step]
    return path, (
        f"{_shorten(before)} ({type(before).__name__}) comes back as {_shorten(after)}"
        f" ({type(after).__name__}); annotate its type, or convert it"
    )


def first_nonfinite(value: Any) -> tuple[str, str] | None:
    """Return the path of a number that JSON cannot hold, and what to do; None if there is none."""
    ahead: list[tuple[str, Any]] = [("$", value)]
    for _ in range(_LOOKED_AT):
        if not ahead:
            return None
        path, part = ahead.pop()
        if isinstance(part, float) and not isfinite(part):
            return path, (
                f"{part!r} is not a number that JSON can hold: store None (annotate float | None), or a"
                " number that stands for it"
            )
        if isinstance(part, (set, frozenset)):
            ahead += [(path, item) for item in cast("set[Any]", part)]
        ahead += [(path + step, child) for step, child in _children(part)]
    return None


def differing_fields(before: bytes, after: bytes) -> str:
    """Describe the fields in which two JSON objects differ, before and after, shortened."""
    ours: dict[str, msgspec.Raw] = _decode_fields(before)
    theirs: dict[str, msgspec.Raw] = _decode_fields(after)
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    said = [f"{name} was {_field(ours, name)} and is {_field(theirs, name)} now" for name in names]
    return "; ".join(said[:_FIELDS]) + ("; ..." if len(said) > _FIELDS else "")


def _field(fields: dict[str, msgspec.Raw], name: str) -> str:
    if name not in fields:
        return "left out"
    return shortened(bytes(fields[name]).decode(errors="replace"), _SHOWN)


def is_same_in_other_zones(before: Any, after: Any) -> bool:
    """Return whether all differences are equal instants in other time zones.

    Where clocks change, no datetime equals one of another zone, not even the same instant.
    """
    if type(before) is not type(after):
        return False
    if isinstance(before, datetime):
        both_are_aware = before.tzinfo is not None and after.tzinfo is not None
        return both_are_aware and before.astimezone(UTC) == after.astimezone(UTC)
    ours, theirs = dict(_children(before)), dict(_children(after))
    if ours.keys() != theirs.keys():
        return False
    differing = [step for step, part in ours.items() if not _is_same(part, theirs[step])]
    return bool(differing) and all(is_same_in_other_zones(ours[step], theirs[step]) for step in differing)


def plain(error: BaseException) -> str:
    """Return an error's message, or its class name if it has none."""
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - the user's own __str__
        return type(error).__name__


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value with their paths, as msgspec would write them."""
    if isinstance(value, msgspec.Struct):
        yield from ((f".{name}", getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        parts = cast("dict[Any, Any]", value)
        yield from ((f"[{key!r}]", item) for key, item in parts.items())
    elif isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        yield from ((f"[{i}]", item) for i, item in enumerate(items))
    else:
        kind = cast("Any", type(value))
        fields: dict[str, Any] = (
            kind.model_fields if is_model(kind) else getattr(kind, "__dataclass_fields__", {})
        )
        yield from ((f".{name}", getattr(value, name)) for name in fields)


def _has_form(part: Any) -> bool:
    try:
        encode(part)
    except Exception:  # noqa: BLE001 - whatever it is, this part is the culprit
        return False
    return True


def _is_same(before: Any, after: Any) -> bool:
    try:
        return bool(before == after)
    except Exception:  # noqa: BLE001 - the user's own __eq__
        return False


def _shorten(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the user's own __repr__
        return "a value without a repr"
    return shortened(text, _SHOWN)
