"""Places in source files: where something is defined, is awaited, or went wrong."""

from __future__ import annotations

import inspect
from functools import lru_cache
from pathlib import PurePath
from typing import Any, NamedTuple

from .text import storable


class Location(NamedTuple):
    """A place in a source file."""

    file: str
    line: int

    def __str__(self) -> str:
        return text_of(self)


@lru_cache(maxsize=4096)
def text_of(location: Location) -> str:
    """Return a place as it is stored and shown."""
    file, line = location
    return f"{storable(PurePath(file).name)}:{line}" if file else "an unknown place"


NOWHERE = Location("", 0)


def defined_at(function: Any) -> Location:
    """Return where a function, or the function that it wraps, is defined."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return NOWHERE if code is None else Location(code.co_filename, code.co_firstlineno)
