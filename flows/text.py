"""Text that comes from anywhere and is to be stored: error messages, file names, command lines."""

from __future__ import annotations

import traceback

from . import events

_LENGTH = 8_000


def storable(text: str, limit: int = _LENGTH) -> str:
    """Return text of bounded length that has a form in UTF-8; lone surrogates are written out."""
    if len(text) > limit:
        text = text[: limit // 2] + "\n...\n" + text[-limit // 2 :]
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def failure_of(error: BaseException) -> events.Failure:
    """Turn an exception into text, with a traceback of bounded length."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__
        message = "<an exception whose __str__ raises>"
    return events.Failure(storable(type(error).__name__), storable(message), _traceback(error))


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - it calls into the exception, and into every one it was raised from
        return "<a traceback that cannot be shown>"
    return storable("".join(lines))
