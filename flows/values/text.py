"""Text of any origin, made fit to be stored or shown: error messages, file names, command lines."""

from __future__ import annotations

from reprlib import Repr

_LENGTH = 8_000
_names = Repr()
_names.maxstring = _names.maxother = 200


def shown(given: object) -> str:
    """Return `repr` of a name or an id that somebody gave, for a message; of a long one, its two ends."""
    return _names.repr(given)


def shortened(text: str, limit: int) -> str:
    """Return a text, cut to `limit` characters for display."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def storable(text: str, limit: int = _LENGTH) -> str:
    """Return a text of bounded length that UTF-8 can encode, with lone surrogates escaped."""
    if len(text) > limit:
        text = text[: limit // 2] + "\n...\n" + text[-limit // 2 :]
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
