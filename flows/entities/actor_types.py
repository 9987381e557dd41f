"""The classes of actors that one system runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ActorDefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .definition import ActorDefinition


class ActorTypes:
    """Classes of actors, by the names under which their actors are stored."""

    def __init__(self, definitions: Iterable[ActorDefinition]) -> None:
        self._definitions: dict[str, ActorDefinition] = {}
        for definition in definitions:
            self.add(definition)

    def add(self, definition: ActorDefinition) -> None:
        """Add a class. Adding one again does nothing.

        Raises:
            ActorDefinitionError: a handler of it cannot work, or another class has its name.
        """
        definition.prepare()
        other = self._definitions.setdefault(definition.name, definition)
        if other is not definition:
            raise ActorDefinitionError(
                f"two classes of actors are named {definition.name!r}: {other.kind.__name__} at"
                f" {other.location}, and {definition.kind.__name__} at {definition.location}; rename one of"
                " them, with name=..."
            )

    def check(self, definition: ActorDefinition) -> None:
        """Refuse a class that is not one of this system's.

        Raises:
            ActorDefinitionError: saying what to do.
        """
        known = self._definitions.get(definition.name)
        if known is definition:
            return
        kind = definition.kind.__name__
        if known is None:
            raise ActorDefinitionError(f"{kind} is not registered: FlowSystem(..., actors=[{kind}])")
        raise ActorDefinitionError(
            f"{kind} at {definition.location} is not the class that this system was opened with, which was"
            f" defined at {known.location}. If it was defined anew since (a notebook's cell was run again, a"
            " module reloaded), close the system, and open it with the new class"
        )
