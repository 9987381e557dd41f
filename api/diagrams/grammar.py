"""What a diagram says when it is read: messages and notes that are expected, in a certain order."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ...flows.errors import PersistasaurusError

__all__ = [
    "Choice",
    "DiagramError",
    "Element",
    "ExpectedMessage",
    "ExpectedNote",
    "Repeat",
    "Shuffle",
    "Skip",
]


class DiagramError(PersistasaurusError, ValueError):
    """A diagram cannot be read as a specification. The message names the line."""

    code = "diagram-error"


class ExpectedMessage(NamedTuple):
    """A message between two participants, by the names that the diagram gives them."""

    line: int
    source: str
    target: str
    is_reply: bool
    text: str


class ExpectedNote(NamedTuple):
    """A note about what the flow actor does."""

    line: int
    text: str


class Skip(NamedTuple):
    """So many messages, whichever."""

    line: int
    messages: int


class Choice(NamedTuple):
    """One of several sequences."""

    branches: tuple[Sequence, ...]


class Repeat(NamedTuple):
    """A sequence, at least and at most so many times; None: any number of times."""

    body: Sequence
    least: int
    most: int | None


class Shuffle(NamedTuple):
    """Several sequences at once, interleaved in any way."""

    branches: tuple[Sequence, ...]


Element: TypeAlias = ExpectedMessage | ExpectedNote | Skip | Choice | Repeat | Shuffle
Sequence: TypeAlias = tuple[Element, ...]
