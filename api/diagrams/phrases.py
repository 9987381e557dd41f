"""The texts of messages and notes: phrases whose details may be shown or omitted."""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from functools import lru_cache
from itertools import product
from typing import NamedTuple, TypeAlias

NAME_MAX = 60
_TEXT_MAX = 160
_WILD = re.compile(r"\.\.\.|…")


class Kind(Enum):
    """How a part of a phrase is treated."""

    WORD = "word"
    """It is always there."""
    NUMBER = "number"
    """It is drawn, except where a loop stands for several of them; a specification may leave it out."""
    DETAIL = "detail"
    """It is drawn without values, unless they are asked for; a specification may leave it out."""
    HIDDEN = "hidden"
    """It is not drawn; a specification may say it."""


class Part(NamedTuple):
    """A piece of a phrase. `full` is the text of a detail when values are shown."""

    kind: Kind
    text: str
    full: str = ""

    def drawn(self, *, numbered: bool, values: bool) -> str:
        if self.kind is Kind.DETAIL:
            return self.full if values else self.text
        if self.kind is Kind.HIDDEN or (self.kind is Kind.NUMBER and not numbered):
            return ""
        return self.text

    def forms(self) -> set[str]:
        """Return everything that a specification may say in its place."""
        if self.kind is Kind.WORD:
            return {self.text}
        return {self.text, self.full, ""} if self.kind is Kind.DETAIL else {self.text, ""}


Phrase: TypeAlias = tuple[Part, ...]


def word(text: str) -> Part:
    return Part(Kind.WORD, text)


def number(text: str) -> Part:
    return Part(Kind.NUMBER, text)


def detail(text: str, full: str) -> Part:
    return Part(Kind.DETAIL, text, full)


def hidden(text: str) -> Part:
    return Part(Kind.HIDDEN, text)


def drawn(phrase: Phrase, *, numbered: bool = True, values: bool = False) -> str:
    return cut("".join(part.drawn(numbered=numbered, values=values) for part in phrase), _TEXT_MAX)


def says(phrase: Phrase, text: str) -> bool:
    """Whether a diagram's text says what a phrase says; `...` in it stands for anything."""
    forms = _forms(phrase)
    if text in forms:
        return True
    pieces = _WILD.split(text)
    if len(pieces) == 1:
        return False
    pattern = re.compile(".*".join(re.escape(piece) for piece in pieces))
    return any(pattern.fullmatch(form) for form in forms)


@lru_cache(maxsize=64)
def _forms(phrase: Phrase) -> frozenset[str]:
    parts = product(*(part.forms() for part in phrase))
    return frozenset(cut("".join(part), _TEXT_MAX) for part in parts)


def clean(text: str, limit: int = _TEXT_MAX) -> str:
    """Return untrusted text as one line of bounded length that cannot control a terminal."""
    text = " ".join(text[: limit * 8].split())
    return cut("".join(c if _is_harmless(c) else _spelled(c) for c in text), limit)


def cut(text: str, limit: int) -> str:
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _is_harmless(character: str) -> bool:
    """Whether a character is not a control, does not change the direction of text, and is valid in XML."""
    if unicodedata.category(character) in _HARMFUL:
        return character in _JOINERS
    return ord(character) & 0xFFFE != 0xFFFE  # noqa: PLR2004 - the last two of each plane are no characters


_HARMFUL = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"


def _spelled(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) > 255 else f"\\x{ord(character):02x}"  # noqa: PLR2004 - one byte
