"""The record of an exception."""

from __future__ import annotations

import traceback

from .. import events
from ..values.ancestry import ancestry_of
from ..values.location import NOWHERE, text_of
from ..values.origin import origin_of
from ..values.text import storable


def failure_of(error: BaseException, advice: str = "") -> events.Failure:
    """Turn an exception into text, with a traceback of bounded length; `advice` follows its message."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__
        message = "<an exception whose __str__ raises>"
    return events.Failure(
        storable(type(error).__name__),
        storable(message + advice),
        _traceback(error),
        line_of(error),
        ancestry_of(type(error)),
    )


def line_of(error: BaseException) -> str:
    """Return the line of the user's code that an error comes from, as it is stored; "" if there is none."""
    place = origin_of(error)
    if place is NOWHERE and error.__cause__ is not None:
        place = origin_of(error.__cause__)  # Python turns a StopIteration into a RuntimeError
    return "" if place is NOWHERE else text_of(place)


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - it calls into the exception, and into every one it was raised from
        return "<a traceback that cannot be shown>"
    return storable("".join(lines))
