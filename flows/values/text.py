"""Text that comes from anywhere and is to be stored, or shown: error messages, file names, command lines."""

from __future__ import annotations

_LENGTH = 8_000


def shortened(text: str, limit: int) -> str:
    """Return a text, of which the end is left out when it is too long to be shown."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def storable(text: str, limit: int = _LENGTH) -> str:
    """Return text of bounded length that has a form in UTF-8; lone surrogates are written out."""
    if len(text) > limit:
        text = text[: limit // 2] + "\n...\n" + text[-limit // 2 :]
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text
