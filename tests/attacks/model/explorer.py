"""Looks at every state that a model can get into, the nearest first.

A model names its guards. Without one of them it must go wrong, and the shortest way to that is told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Guard(NamedTuple):
    """Something that the engine does so that a thing cannot happen, and the code that does it."""

    what: str
    code: Callable[..., Any]
    words: str
    """What is found in that code as long as it does it."""


class Model(ABC):
    guards: ClassVar[dict[str, Guard]]

    def __init__(self, without: str = "") -> None:
        self._has = dict.fromkeys(self.guards, True)
        if without:
            _ = self.guards[without]
            self._has[without] = False

    @abstractmethod
    def initial(self) -> Any:
        """Return the state at the beginning; states can be hashed."""

    @abstractmethod
    def moves(self, state: Any) -> Iterable[tuple[str, Any]]:
        """Return what can happen next, and the states it leads to."""

    @abstractmethod
    def wrong(self, state: Any) -> str | None:
        """Return what is wrong with a state."""

    @abstractmethod
    def is_done(self, state: Any) -> bool:
        """Tell whether what should come about has; from everywhere there must be a way to such a state."""


class Finding(NamedTuple):
    what: str
    trail: tuple[str, ...]

    def __str__(self) -> str:
        return "\n  ".join((self.what, *self.trail))


class Explored(NamedTuple):
    states: int
    finding: Finding | None


def explore(model: Model, *, at_most: int = 200_000) -> Explored:
    """Look at all of it, or up to the first thing that is wrong."""
    start = model.initial()
    came: dict[Any, tuple[Any, str] | None] = {start: None}
    before: dict[Any, list[Any]] = {}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        wrong = model.wrong(state)
        if wrong is not None:
            return Explored(len(came), Finding(wrong, tuple(_trail(came, state))))
        for name, following in model.moves(state):
            before.setdefault(following, []).append(state)
            if following not in came:
                came[following] = state, name
                queue.append(following)
        assert len(came) <= at_most, "the model has become too large to be looked at as a whole"
    return Explored(len(came), _stranded(model, came, before))


def _stranded(model: Model, came: dict[Any, Any], before: dict[Any, list[Any]]) -> Finding | None:
    """Find the nearest state from which there is no way to the end."""
    hopeful = {state for state in came if model.is_done(state)}
    queue = deque(hopeful)
    while queue:
        for state in before.get(queue.popleft(), ()):
            if state not in hopeful:
                hopeful.add(state)
                queue.append(state)
    for state in came:  # in the order in which they were found
        if state not in hopeful:
            return Finding("it never ends", tuple(_trail(came, state)))
    return None


def _trail(came: dict[Any, tuple[Any, str] | None], state: Any) -> Iterator[str]:
    names: list[str] = []
    step = came[state]
    while step is not None:
        state, name = step
        names.append(name)
        step = came[state]
    return reversed(names)
