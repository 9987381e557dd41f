"""What somebody may have meant who has misspelt a name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a sentence that names what is spelt almost like that; empty: nothing is."""
    close = get_close_matches(given, list(known), 1)
    return f" Did you mean {close[0]!r}?" if close else ""
