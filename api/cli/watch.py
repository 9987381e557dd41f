"""Shows what is recorded, in the order of the commits."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ...store import Unreadable
from .output.screen import StyledText

if TYPE_CHECKING:
    from ...store import GlobalRecord, StoreReader
    from .output.narration import Narrator
    from .output.screen import Screen

NOTABLE = frozenset(
    {
        "flow_started",
        "flow_completed",
        "flow_failed",
        "step_failed",
        "parked",
        "paused",
        "resumed",
        "repaired",
    }
)
"""The kinds of events that are shown when not every step is."""

_PAGE = 1_000
_FLOOD = 200


class LogWatch:
    """Reads a log from a position on, and shows what is new.

    `kinds`: show only these kinds of events; None: all. `sums_up`: where a page holds more than anyone could
    read, show only how many of each kind there are.
    """

    def __init__(
        self,
        reader: StoreReader,
        narrator: Narrator,
        *,
        after: int,
        kinds: frozenset[str] | None = None,
        sums_up: Screen | None = None,
    ) -> None:
        self._reader = reader
        self._narrator = narrator
        self._kinds = kinds
        self._sums_up = sums_up
        self.position = after

    def show_news(self) -> None:
        while page := self._reader.scan_all(after=self.position, limit=_PAGE):
            self._show([found for found in page if self._is_notable(found)])
            self.position = page[-1].position or self.position + 1

    def _is_notable(self, found: GlobalRecord | Unreadable) -> bool:
        return self._kinds is None or isinstance(found, Unreadable) or found.record.kind in self._kinds

    def _show(self, news: list[GlobalRecord | Unreadable]) -> None:
        if self._sums_up is not None and len(news) > _FLOOD:
            counts = Counter(
                "unreadable" if isinstance(found, Unreadable) else found.record.kind.replace("_", " ")
                for found in news
            )
            text = ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())
            self._sums_up.line(StyledText(f"    … {text}", "dim"))
            return
        for found in news:
            if isinstance(found, Unreadable):
                self._narrator.show_unreadable(found)
            else:
                self._narrator.show(found.stream, found.record, found.position)
