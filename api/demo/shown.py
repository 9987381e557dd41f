"""How demos show what is on record of a flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from ..cli.output.phrases import phrase_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...actors import FlowEvent

__all__ = ["table_of"]


def table_of(history: Iterable[FlowEvent], title: str) -> Table:
    """Lay a flow's history out."""
    table = Table("", "time (UTC)", "event", "step", "", title=title, title_justify="left")
    table.columns[0].justify = table.columns[3].justify = "right"
    for version, at, event in history:
        what, step, detail = phrase_of(event)
        table.add_row(str(version), f"{at:%H:%M:%S.%f}"[:-3], what, step, escape(detail))
    return table
