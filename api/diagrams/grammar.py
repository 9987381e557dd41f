"""The meaning of a diagram that is read: expected messages and notes, in a certain order."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ...flows.errors import PersistasaurusError

if TYPE_CHECKING:
    from collections.abc import Iterable


class DiagramError(PersistasaurusError, ValueError):
    """A diagram cannot be read as a specification. The message names the line."""

    code = "diagram-error"


class ExpectedMessage(NamedTuple):
    """A message between two participants, by their names in the diagram."""

    line: int
    source: str
    target: str
    is_reply: bool
    text: str


class ExpectedNote(NamedTuple):
    line: int
    text: str


class Skip(NamedTuple):
    """So many messages of any kind."""

    line: int
    messages: int


class Choice(NamedTuple):
    branches: tuple[Sequence, ...]


class Repeat(NamedTuple):
    """A sequence, at least and at most so many times; None: any number of times."""

    body: Sequence
    least: int
    most: int | None


class Shuffle(NamedTuple):
    """Several sequences in any interleaving."""

    branches: tuple[Sequence, ...]


Element: TypeAlias = ExpectedMessage | ExpectedNote | Skip | Choice | Repeat | Shuffle


class Sequence:
    """Elements, one after the other. Compared by identity, since they are many."""

    def __init__(self, elements: Iterable[Element] = ()) -> None:
        self.elements = tuple(elements)
