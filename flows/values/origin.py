"""Where in the user's code something comes from: an error, or a call that a library makes for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from .location import NOWHERE, Location

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

_ENGINE = __name__.partition(".flows.")[0]
_STDLIB = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as code objects name their files
_WRAPPERS = ("contextlib", "functools")
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


def origin_of(error: BaseException) -> Location:
    """Return the innermost line of the user's code that an error passed through, or `NOWHERE`."""
    passed: list[tuple[FrameType, int]] = []
    trace = error.__traceback__
    while trace is not None:
        passed.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    own = _own_package(frame for frame, _ in passed)
    for frame, line in reversed(passed):
        if _is_of_user(frame, own):
            return Location(frame.f_code.co_filename, line)
    return NOWHERE


class Use(NamedTuple):
    """A call into a library: package and name, and where the user's code made it."""

    package: str
    name: str
    location: Location


def use_of_library(frame: FrameType | None) -> Use:
    """Return the library call that led to a frame, without package and name if it is the user's own."""
    around: list[FrameType] = []
    while frame is not None and not _is_engine(frame):
        around.append(frame)
        frame = frame.f_back
    own = _own_package(reversed(around))
    package = name = ""
    for outer in around:
        if _is_of_user(outer, own):
            return Use(package, name, Location(outer.f_code.co_filename, outer.f_lineno))
        if package_of(outer) not in _WRAPPERS:
            package, name = package_of(outer), _name(outer)
    return Use(package, name, NOWHERE)


def _own_package(outside_in: Iterable[FrameType]) -> str | None:
    """Return the package whose code runs first: it is the user's, even if installed as a library."""
    users = (frame for frame in outside_in if not _is_engine(frame) and not _is_standard(frame))
    first = next(users, None)
    return None if first is None else package_of(first)


def _is_of_user(frame: FrameType, own: str | None) -> bool:
    if _is_engine(frame) or _is_standard(frame):
        return False
    return package_of(frame) == own or not any(part in frame.f_code.co_filename for part in _INSTALLED)


def _name(frame: FrameType) -> str:
    """Return the name of a function, or of the class if it is a method."""
    instance = frame.f_locals.get("self")
    return frame.f_code.co_name if instance is None else type(instance).__name__


def package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_engine(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(f"{_ENGINE}.")


def _is_standard(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith((_STDLIB, "<frozen ")) and not any(part in file for part in _INSTALLED)
