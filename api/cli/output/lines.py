"""What others print, a line at a time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Lines"]


class Lines(io.TextIOBase):
    """A place to print to that hands on whole lines, whoever prints them.

    Steps print into it, so that no step fails because nobody reads this process's output any more.
    """

    def __init__(self, take: Callable[[str], Any]) -> None:
        super().__init__()
        self._take = take
        self._begun = ""

    def writable(self) -> bool:
        """Say that it can be printed to."""
        return True

    def write(self, text: str, /) -> int:
        """Take text; a line is handed on with its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)
