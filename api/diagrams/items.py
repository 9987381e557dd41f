"""The participants and the parts of a diagram."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from .phrases import Phrase


Level: TypeAlias = Literal["api", "actors", "store"]


class Role(Enum):
    """A participant. The flow actor appears under the name of its flow."""

    CLIENT = "Client"
    SUPERVISOR = "Supervisor"
    FLOW = "Flow"
    JOURNAL = "Journal"
    STORE = "Store"
    STEP = "Step"


LEVELS: dict[Level, tuple[Role, ...]] = {
    "api": (Role.CLIENT, Role.FLOW, Role.STEP),
    "actors": (Role.CLIENT, Role.SUPERVISOR, Role.FLOW, Role.JOURNAL, Role.STEP),
    "store": tuple(Role),
}


def roles_of(level: str) -> tuple[Role, ...]:
    """Return the participants of a level, from left to right. Raises ValueError: there is no such level."""
    for name, roles in LEVELS.items():
        if name == level:
            return roles
    raise ValueError(f"there is no level {level!r}: a diagram is drawn at one of {', '.join(LEVELS)}")


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
