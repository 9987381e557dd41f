"""Makes untrusted text safe for a terminal: control characters are written out.

Ids, payloads and errors come from outside. An escape sequence in one of them could change what the screen
shows, or what is typed there.
"""

from __future__ import annotations

import msgspec

# With it emoji are joined to one; it steers nothing.
_HARMLESS = frozenset("\u200d")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str) -> str:
    """Return the text in one line, with everything that is not a visible character written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else _SHORT.get(c) or ascii(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Return the text with its line breaks, and everything else that is not visible written out."""
    return "\n".join(printable(line.replace("\t", "    ")) for line in text.split("\n"))


def one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.split("\n") if line.strip())


def cut(text: str, length: int) -> str:
    """Return the text in one line, of at most `length` characters."""
    shown = printable(text[: length + 1])
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def json_line(document: object) -> str:
    """Write a document as one line of JSON that is safe for a terminal."""
    text = msgspec.json.encode(document).decode()
    # Outside of its strings JSON is printable ASCII, so whatever is not stands where it may be written so.
    return text if text.isprintable() else "".join(c if c.isprintable() else _json_written(c) for c in text)


def _json_written(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
