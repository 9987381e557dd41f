"""The participants of a diagram, and which of them each level shows."""

from __future__ import annotations

from enum import Enum
from typing import Literal, TypeAlias

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
