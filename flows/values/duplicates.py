"""Duplicate fields of JSON objects, of which decoders silently take the last."""

from __future__ import annotations

from typing import Any, cast

from ..errors import PayloadError


class _Doubled(dict[str, Any]):
    """An object with a duplicate field."""

    field = ""


def refuse_duplicates(data: bytes, what: str) -> None:
    """Refuse JSON in which an object has a field twice. It must be well-formed and not too deep.

    Raises:
        PayloadError: it names the path and the field.
    """
    if data.count(b":") < 2:  # noqa: PLR2004 - it takes two fields
        return
    # Only callers that take JSON pay for the import.
    import json  # noqa: PLC0415

    found: list[_Doubled] = []

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        known = dict(pairs)
        if len(known) == len(pairs):
            return known
        doubled = _Doubled(known)
        names = [name for name, _ in pairs]
        doubled.field = next(name for name in known if names.count(name) > 1)
        found.append(doubled)
        return doubled

    # Numbers stay text: only the names matter.
    tree = json.loads(data.decode(), object_pairs_hook=fields, parse_int=str, parse_float=str)
    if found:
        # The outermost comes last, and so is still part of the tree.
        path = _path(tree, found[-1], "$")
        raise PayloadError(what, path or "$", f"it has the field {found[-1].field!r} twice")


def _path(tree: Any, wanted: _Doubled, path: str) -> str | None:
    if tree is wanted:
        return path
    parts: list[tuple[str, Any]] = []
    if isinstance(tree, dict):
        parts = [(f"{path}.{name}", part) for name, part in cast("dict[str, Any]", tree).items()]
    elif isinstance(tree, list):
        parts = [(f"{path}[{n}]", part) for n, part in enumerate(cast("list[Any]", tree))]
    return next((found for at, part in parts if (found := _path(part, wanted, at))), None)
