"""The parts of a diagram, from top to bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .phrases import Phrase
    from .roles import Role


class Message(NamedTuple):
    """An arrow. `version` is the event that it belongs to; `is_replay`: it has left no event."""

    version: int
    source: Role
    target: Role
    is_reply: bool
    phrase: Phrase
    is_replay: bool = False


class Note(NamedTuple):
    """What the flow actor does that is not a message; `is_wide`: it concerns all participants."""

    version: int
    phrase: Phrase
    is_wide: bool = False


class Remark(NamedTuple):
    """A note that a comparison ignores."""

    version: int
    text: str


class Activation(NamedTuple):
    """A participant begins or stops working."""

    role: Role
    is_on: bool


class Section(NamedTuple):
    """One part of a block, with its label."""

    label: str
    items: tuple[Item, ...]


class Block(NamedTuple):
    """`alt`, `opt`, `loop` or `par`. A loop has a number of `times`."""

    kind: str
    branches: tuple[Section, ...]
    times: int = 1


class Omission(NamedTuple):
    """So many messages are not drawn; they belong to the events `first` to `last`."""

    messages: int
    first: int
    last: int
    has_restarts: bool

    @property
    def text(self) -> str:
        among = ", restarts among them," if self.has_restarts else ""
        return f"{self.messages} messages{among} are not drawn (events {self.first} to {self.last})"


Item: TypeAlias = Message | Note | Remark | Activation | Block | Omission
Move: TypeAlias = Message | Note
"""What a comparison looks at."""
