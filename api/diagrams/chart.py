"""Sequence diagrams for the terminal: lifelines as columns, one or two rows for each message."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from .items import Activation, Block, Item, Message, Note, Omission, Remark, Role
from .phrases import cut, drawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH_MIN = 40
_ASCII = str.maketrans("│─╌▶◀├┤┌└…", "|-.><||++~")


class Chart:
    """Draws items. Each lifeline has a column; text may cover those to its right."""

    def __init__(self, roles: Sequence[Role], flow: str | None, *, values: bool, width: int) -> None:
        self._width = max(width, WIDTH_MIN)
        self._values = values
        names = [flow or role.value if role is Role.FLOW else role.value for role in roles]
        spread = min((self._width - 2) // len(roles), 24)
        self._names = [shortened(name, spread - 1) for name in names]
        first = wide(self._names[0]) // 2
        self._columns = {role: first + spread * index for index, role in enumerate(roles)}

    def text(self, items: Sequence[Item], *, ascii: bool) -> str:  # noqa: A002 - what it is
        rows = [self._header(), *self._rows(items, 0, numbered=True), self._header()]
        text = "".join(f"{row.rstrip()}\n" for row in rows)
        return text.translate(_ASCII) if ascii else text

    def _header(self) -> str:
        row = Row(self._width)
        for column, name in zip(self._columns.values(), self._names, strict=True):
            row.put(max(column - wide(name) // 2, 0), name)
        return str(row)

    def _rows(self, items: Sequence[Item], depth: int, *, numbered: bool) -> Iterator[str]:
        for item in items:
            match item:
                case Message():
                    yield from self._message(item, self._said(item, numbered=numbered))
                case Note():
                    yield self._note(self._said(item, numbered=numbered), is_wide=item.is_wide)
                case Remark():
                    yield self._note(item.text, is_wide=False)
                case Omission():
                    yield self._note(item.text, is_wide=True)
                case Block():
                    yield from self._block(item, depth, numbered=numbered)
                case Activation():
                    pass

    def _said(self, item: Message | Note, *, numbered: bool) -> str:
        return drawn(item.phrase, numbered=numbered, values=self._values)

    def _message(self, item: Message, text: str) -> Iterator[str]:
        source, target = self._columns[item.source], self._columns[item.target]
        left, right = sorted((source, target))
        room = right - left - 5
        label = f" {text} " if wide(text) <= room else ""
        if not label:
            above = self._lifelines()
            above.put(min(left + 2, max(self._width - wide(text), 0)), shortened(text, self._width))
            yield str(above)
        shaft = _shaft(label, right - left - 2, "╌" if item.is_reply else "─")
        row = self._lifelines()
        if source < target:
            row.put(left, f"├{shaft}▶")
        else:
            row.put(left + 1, f"◀{shaft}┤")
        yield str(row)

    def _note(self, text: str, *, is_wide: bool) -> str:
        row = self._lifelines()
        note = shortened(f"[ {text} ]", self._width)
        columns = list(self._columns.values())
        middle = (columns[0] + columns[-1]) // 2 if is_wide else self._columns[Role.FLOW]
        row.put(max(min(middle - wide(note) // 2, self._width - wide(note)), 0), note)
        return str(row)

    def _block(self, block: Block, depth: int, *, numbered: bool) -> Iterator[str]:
        opening, corner = block.kind, "┌"
        for branch in block.branches:
            yield self._frame(corner, f"{opening} {branch.label}", depth)
            yield from self._rows(branch.items, depth + 1, numbered=numbered and block.kind != "loop")
            opening, corner = ("and" if block.kind == "par" else "else"), "├"
        yield self._frame("└", "", depth)

    def _frame(self, corner: str, label: str, depth: int) -> str:
        row = self._lifelines()
        indent = min(2 * depth, 8)
        text = f"{corner}─ {shortened(label, self._width - indent - 6)} " if label else corner
        end = max(self._columns.values()) + 1
        row.put(indent, text + "─" * max(end - indent - wide(text), 1))
        return str(row)

    def _lifelines(self) -> Row:
        row = Row(self._width)
        for column in self._columns.values():
            row.put(column, "│")
        return row


class Row:
    """A row of the chart, in columns of the terminal. Later text covers earlier text."""

    def __init__(self, width: int) -> None:
        self._cells = [" "] * width

    def put(self, column: int, text: str) -> None:
        """Put text at a column, and cut off what does not fit."""
        for character in text:
            size = wide(character)
            if not size:
                if 0 < column <= len(self._cells):
                    self._cells[column - 1] += character
                continue
            if column + size > len(self._cells):
                return
            self._uncover(column)
            self._cells[column] = character
            if size > 1:
                self._uncover(column + 1)
                self._cells[column + 1] = ""
            column += size

    def _uncover(self, column: int) -> None:
        """Blank the other half of a wide character."""
        if not self._cells[column] and column:
            self._cells[column - 1] = " "
        if column + 1 < len(self._cells) and not self._cells[column + 1]:
            self._cells[column + 1] = " "

    def __str__(self) -> str:
        return "".join(self._cells)


def _shaft(label: str, length: int, line: str) -> str:
    before = (length - wide(label)) // 2
    return line * before + label + line * (length - before - wide(label))


def wide(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(_columns(character) for character in text)


def shortened(text: str, width: int) -> str:
    """Return text of at most `width` columns."""
    if wide(text) <= width:
        return text
    while text and wide(text) > width - 1:
        text = text[:-1]
    return cut(text, len(text)) + "…"


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("F", "W") else 1
