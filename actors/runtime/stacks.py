"""Stacks: what code a thread is in just now, seen from another thread.

Below are the frames of the engine, and of the libraries that it is called by and that it calls; above them,
if there is any, is somebody's code.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pykka

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Held", "held_at", "is_debugged", "is_of_the_engine", "split", "stack_of"]

_FRAMES_MAX = 30
_DEBUGGERS = frozenset(("bdb", "pdb", "ipdb", "pydevd", "_pydevd_bundle", "debugpy", "pudb"))

_PACKAGE = Path(__file__).parents[2]
_ENGINE = tuple(f"{_PACKAGE / layer}/" for layer in ("flows", "store", "actors", "api"))
# Their flows are as a user's.
_NOT_THE_ENGINE = tuple(f"{_PACKAGE / folder}/" for folder in ("flows/examples", "api/cli/demo"))
_LIBRARY = sysconfig.get_path("stdlib")
_PYKKA = pykka.__file__.rpartition("/")[0]


class Held(NamedTuple):
    """The place in somebody's code at which a thread is held."""

    line: str
    function: str
    stack: str


def is_of_the_engine(filename: str) -> bool:
    """Tell whether a source file is one of this package's own."""
    return filename.startswith(_ENGINE) and not filename.startswith(_NOT_THE_ENGINE)


def stack_of(thread: int) -> list[FrameType]:
    """Return the frames of a thread, the outermost first; none when it has ended."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def split(frames: list[FrameType]) -> tuple[list[FrameType], list[FrameType]]:
    """Split a stack into the frames of ours that have called somebody's code, and those from there inward."""
    ours: list[FrameType] = []
    for number, frame in enumerate(frames):
        file = frame.f_code.co_filename
        if is_of_the_engine(file) or file.startswith(_PYKKA):
            ours.append(frame)
        elif not file.startswith(("<", _LIBRARY)) or "-packages" in file:
            return ours, frames[number:]
        # The standard library is called by the engine, and on its way to somebody's code at most.
    return ours, []


def held_at(inward: list[FrameType]) -> Held:
    """Say where somebody's code is."""
    frame = inward[0]
    name = frame.f_code.co_filename.rpartition("/")[2]
    frames = ((f, f.f_lineno) for f in inward[:_FRAMES_MAX])
    stack = "".join(traceback.StackSummary.extract(iter(frames)).format())
    return Held(f"{name}:{frame.f_lineno}", frame.f_code.co_name, stack)


def is_debugged(inward: list[FrameType]) -> bool:
    """Tell whether a person has stopped it, to look at it."""
    modules = (str(frame.f_globals.get("__name__", "")) for frame in inward)
    return any(module.partition(".")[0] in _DEBUGGERS for module in modules)
