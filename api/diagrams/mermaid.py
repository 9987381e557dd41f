"""Mermaid's language: writes items in it, and escapes untrusted text."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from .items import Activation, Block, Item, Message, Note, Omission, Remark, Role
from .phrases import drawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SPECIAL = re.compile(r"[;#<>&%{}$`\\]|^:|^(?:no)?wrap(?=:)", re.IGNORECASE)
_ENTITY = re.compile(r"#(?:(\d{1,7})|([A-Za-z]\w{0,30}));")
_NAMED = {"amp": "&", "apos": "'", "colon": ":", "gt": ">", "lt": "<", "num": "#", "quot": '"', "semi": ";"}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,59}")
_INDENT = "    "
_KEYWORDS = re.compile(
    r"acc\w+|activate|actor|alt|and|as|autonumber|box|break|create|critical|deactivate|destroy|details|else|end"
    r"|left|links?|loop|note|opt|option|over|par|par_over|participant|properties|rect|right|sequencediagram"
    r"|title|(?:no)?wrap",
    re.IGNORECASE,
)


def escaped(text: str) -> str:
    """Return text in which characters that Mermaid or HTML would interpret are written as numbers."""
    return _SPECIAL.sub(lambda match: "".join(f"#{ord(c)};" for c in match.group()), text)


def unescaped(text: str) -> str:
    return _ENTITY.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    number, name = match.groups()
    if number is None:
        return _NAMED.get(name, match.group())
    return chr(int(number)) if int(number) <= sys.maxunicode else match.group()


def is_plain(name: str) -> bool:
    """Whether a name can stand in a diagram unescaped, and is no other participant's."""
    return (
        _PLAIN.fullmatch(name) is not None
        and _KEYWORDS.fullmatch(name) is None
        and name not in {role.value for role in Role}
    )


class MermaidWriter:
    def __init__(self, roles: Sequence[Role], flow: str | None, *, values: bool) -> None:
        self._flow = flow if flow is not None and is_plain(flow) else Role.FLOW.value
        self._roles = roles
        self._alias = "" if flow is None or self._flow == flow else f" as {escaped(flow)}"
        self._values = values

    def head(self) -> Iterator[str]:
        """Write what precedes all items."""
        yield "sequenceDiagram"
        for role in self._roles:
            yield f"{_INDENT}participant {self._id(role)}{self._alias if role is Role.FLOW else ''}"

    def lines(self, items: Sequence[Item], depth: int = 1, *, numbered: bool = True) -> Iterator[str]:
        """Write items. Those in a loop have no numbers, since they differ each time."""
        for item in items:
            if isinstance(item, Block):
                yield from self._block(item, depth, numbered=numbered)
            else:
                yield _INDENT * depth + self._line(item, numbered=numbered)

    def _block(self, block: Block, depth: int, *, numbered: bool) -> Iterator[str]:
        opening = block.kind
        for branch in block.branches:
            label = f" {escaped(branch.label)}" if branch.label else ""
            yield f"{_INDENT * depth}{opening}{label}"
            yield from self.lines(branch.items, depth + 1, numbered=numbered and block.kind != "loop")
            opening = "and" if block.kind == "par" else "else"
        yield f"{_INDENT * depth}end"

    def _line(self, item: Message | Note | Remark | Activation | Omission, *, numbered: bool) -> str:
        match item:
            case Message():
                arrow = "-->>" if item.is_reply else "->>"
                text = escaped(drawn(item.phrase, numbered=numbered, values=self._values))
                return f"{self._id(item.source)}{arrow}{self._id(item.target)}: {text}"
            case Note():
                over = self._everybody if item.is_wide else self._id(Role.FLOW)
                return (
                    f"Note over {over}: {escaped(drawn(item.phrase, numbered=numbered, values=self._values))}"
                )
            case Remark():
                return f"Note over {self._id(Role.FLOW)}: {escaped(item.text)}"
            case Activation():
                return f"{'activate' if item.is_on else 'deactivate'} {self._id(item.role)}"
            case Omission():
                return f"Note over {self._everybody}: {escaped(item.text)}"

    @property
    def _everybody(self) -> str:
        return f"{self._id(self._roles[0])},{self._id(self._roles[-1])}"

    def _id(self, role: Role) -> str:
        return self._flow if role is Role.FLOW else role.value
