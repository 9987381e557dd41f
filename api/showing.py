"""How demos show things: colours on a terminal, plain text everywhere else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .words import phrase_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..actors import FlowEvent

__all__ = ["console", "table_of"]


def console() -> Console:
    """Make a console on what is the standard output now, whatever it will be redirected to."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def table_of(history: Iterable[FlowEvent], title: str) -> Table:
    """Lay a flow's history out."""
    table = Table("", "time (UTC)", "event", "step", "", title=title, title_justify="left")
    table.columns[0].justify = table.columns[3].justify = "right"
    for version, at, event in history:
        what, step, detail = phrase_of(event)
        table.add_row(str(version), f"{at:%H:%M:%S.%f}"[:-3], what, step, escape(detail))
    return table
