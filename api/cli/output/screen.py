"""The screen: for people on a terminal, as plain text in a pipe, or as JSON, one document a line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .printable import json_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "
_STATUSES = {
    "running": "cyan",
    "waiting": "yellow",
    "paused": "magenta",
    "parked": "bold red",
    "failed": "red",
    "completed": "green",
}


class _Terminal(Console):
    """A console that leaves a broken pipe to the command."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class StyledText(NamedTuple):
    """A piece of text with its style, which only a terminal shows."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column of a table. `gives_way`: it is cut when the terminal is too narrow for all."""

    title: str
    is_number: bool = False
    gives_way: bool = False


def output_console() -> Console:
    """Make a console on the current standard output, even if that is redirected later."""
    return _Terminal(file=sys.stdout, highlight=False, soft_wrap=True)


def error_console() -> Console:
    return _Terminal(file=sys.stderr, highlight=False, soft_wrap=True)


def styled(status: str, reason: str = "") -> StyledText:
    """Show a flow's status in its colour, with the reason if there is one."""
    return StyledText(f"{status} ({reason})" if reason else status, _STATUSES.get(status, ""))


class Screen:
    """The standard output. Whatever is shown is made safe for a terminal here, and is never markup."""

    def __init__(self) -> None:
        # Kept, since a command may have what others print redirected.
        self._out = sys.stdout
        self._console = output_console()

    @property
    def is_terminal(self) -> bool:
        return self._console.is_terminal

    @property
    def width(self) -> int | None:
        """The width of the terminal in columns; None: it is not a terminal."""
        return self._console.width if self.is_terminal else None

    def json(self, document: object) -> None:
        self._out.write(json_line(document) + "\n")

    def line(self, *pieces: str | StyledText) -> None:
        """Write a line, which is not broken however long it is."""
        self._console.print(_text(*pieces), markup=False)

    def raw(self, text: str) -> None:
        """Write trusted text as it is, line breaks included."""
        self._out.write(text if text.endswith("\n") else f"{text}\n")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str | StyledText]]) -> None:
        """Lay rows out within the width of the terminal; in a pipe, as wide as they are."""
        if self.is_terminal:
            self._console.print(_laid_out(columns, rows), soft_wrap=False)
            return
        lines = _lines(columns, rows)
        widths = _widths(lines)
        for line in lines:
            padded = (_padded(*cell) for cell in zip(line, widths, columns, strict=True))
            self._out.write(_GAP.join(padded).rstrip() + "\n")

    def flush(self) -> None:
        self._out.flush()


def width_of(columns: Sequence[Column], rows: Sequence[Sequence[str | StyledText]]) -> int:
    """Return the width of a table that is not cut anywhere."""
    widths = _widths(_lines(columns, rows))
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _lines(columns: Sequence[Column], rows: Sequence[Sequence[str | StyledText]]) -> list[list[str]]:
    return [
        [column.title.upper() for column in columns],
        *([_text(cell).plain for cell in row] for row in rows),
    ]


def _widths(lines: list[list[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _text(*pieces: str | StyledText) -> Text:
    text = Text(no_wrap=True)
    for piece in pieces:
        cell = piece if isinstance(piece, StyledText) else StyledText(piece)
        text.append(printable(cell.text), style=cell.style or None)
    return text


def _laid_out(columns: Sequence[Column], rows: Sequence[Sequence[str | StyledText]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        # Only what may wrap gives way; its text does not wrap, so it is cut instead.
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=not column.gives_way,
            overflow="ellipsis" if column.gives_way else "fold",
        )
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    return table


def _padded(text: str, width: int, column: Column) -> str:
    space = " " * (width - cell_len(text))
    return space + text if column.is_number else text + space
