"""Output that is passed on in whole lines."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Lines(io.TextIOBase):
    """A text stream that passes on whole lines.

    Steps print into it, so that no step fails when the reader of this process's output has gone.
    """

    def __init__(self, take: Callable[[str], Any]) -> None:
        super().__init__()
        self._take = take
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)
