"""Whether a recorded execution is a path through a diagram; and if not, where it leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .grammar import Expected, ExpectedNote, Skip
from .items import Block, Item, Message, Move, Note
from .parser import Specification, parse
from .paths import Leaf, Paths, Place
from .phrases import drawn, says
from .roles import Role
from .telling import tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .history import History

_EXPECTED_MAX = 5
_CONTEXT = 2


def mismatch(diagram: str, history: History, *, partial: bool = False) -> str | None:
    """Return how an execution differs from a diagram; None when it is a path through it.

    `partial`: it need not have come to the diagram's end.

    Raises:
        DiagramError: the diagram cannot be read as a specification.
    """
    specification = parse(diagram)
    told = tell(history, set(specification.roles.values()), with_restarts=specification.tells_of_restarts)
    if None not in (told.flow, specification.flow) and told.flow != specification.flow:
        return f"The diagram is about {specification.flow}, and the run is one of {told.flow}."
    return _Comparison(specification, list(_moves(told.items))).difference(partial=partial)


def _moves(items: Sequence[Item]) -> Iterator[Move]:
    """Yield what has been recorded: neither remarks, nor what a replay does."""
    for item in items:
        if isinstance(item, Block):
            for branch in item.branches:
                yield from _moves(branch.items)
        elif isinstance(item, Note) or (isinstance(item, Message) and not item.is_replay):
            yield item


class _Stop(NamedTuple):
    """Where a run could not go on: the places in the diagram, and the number of the move."""

    places: set[Place]
    at: int


class _Whereabouts(NamedTuple):
    """Where in the diagram the run may be; `likely` is where it took the notes along."""

    places: set[Place]
    likely: set[Place]

    @classmethod
    def at(cls, places: set[Place]) -> _Whereabouts:
        return cls(places, places)

    def or_at(self, place: Place) -> _Whereabouts:
        return _Whereabouts(self.places | {place}, self.likely | {place})


class _Comparison:
    def __init__(self, specification: Specification, moves: list[Move]) -> None:
        self._specification = specification
        self._moves = moves
        self._paths = Paths(specification.elements)

    def difference(self, *, partial: bool) -> str | None:
        opening = self._specification.opening
        here = _Whereabouts.at(set() if opening else {self._paths.start})
        stop: _Stop | None = None
        for number, move in enumerate(self._moves):
            if opening is not None and self._fits(opening, move):
                here = here.or_at(self._paths.start)
            before, here = here, self._follow(here, move)
            if before.places and not here.places:
                stop = _Stop(before.likely, number)
                if opening is None:
                    break
        if here.places:
            is_through = partial or self._paths.ahead(here.places).may_end
            return None if is_through else self._unfinished(here.likely)
        return self._never_began() if stop is None else self._left(stop)

    def _follow(self, here: _Whereabouts, move: Move) -> _Whereabouts:
        following = self._paths.step(here.places, lambda leaf: self._fits(leaf, move))
        if not isinstance(move, Note):
            return _Whereabouts.at(following)
        # A note that has been recorded need not be in the diagram.
        return _Whereabouts(following | here.places, following or here.likely)

    # ------------------------------------------------------------------------------------- one by one
    def _fits(self, leaf: Leaf, move: Move) -> bool:
        match leaf, move:
            case Skip(), Message():
                return True
            case ExpectedNote(), Note():
                return says(move.phrase, leaf.text)
            case Expected(), Message():
                roles = self._specification.roles
                ends = (roles[leaf.source], roles[leaf.target], leaf.is_reply)
                return ends == (move.source, move.target, move.is_reply) and says(move.phrase, leaf.text)
            case _:
                return False

    # --------------------------------------------------------------------------------------- in words
    def _never_began(self) -> str:
        opening = self._specification.opening
        if opening is None:
            return "Nothing is recorded."
        return (
            "The diagram begins with a note, and the run has never been there:\n"
            f"{self._excerpt([opening.line])}"
        )

    def _unfinished(self, places: set[Place]) -> str:
        return f"The run ends, or has come no further yet, and the diagram goes on:\n{self._expected(places)}"

    def _left(self, stop: _Stop) -> str:
        move = self._moves[stop.at]
        recorded = f"recorded, with event {move.version}:\n    {self._said(move)}"
        before = [self._said(m) for m in self._moves[max(stop.at - _CONTEXT, 0) : stop.at]]
        after = "".join(f"\n    after {said}" for said in reversed(before))
        if self._paths.ahead(stop.places).may_end:
            return f"The diagram is at its end, and the run goes on; {recorded}{after}"
        return f"The diagram expects:\n{self._expected(stop.places)}\n{recorded}{after}"

    def _expected(self, places: set[Place]) -> str:
        lines = {leaf.line for leaf, _ in self._paths.ahead(places).leaves}
        return self._excerpt(sorted(lines)[:_EXPECTED_MAX])

    def _excerpt(self, marked: list[int]) -> str:
        """Return lines of the diagram, with a mark at those that are meant."""
        lines = self._specification.lines
        near = {line + by for line in marked for by in range(-_CONTEXT, _CONTEXT + 1)}
        shown = [number for number in sorted(near) if 1 <= number <= len(lines)]
        return "\n".join(f"{'>' if n in marked else ' '} {n:>4} | {lines[n - 1].rstrip()}" for n in shown)

    def _said(self, move: Move) -> str:
        if isinstance(move, Note):
            return f"Note over {self._name(Role.FLOW)}: {drawn(move.phrase)}"
        arrow = "-->>" if move.is_reply else "->>"
        return f"{self._name(move.source)}{arrow}{self._name(move.target)}: {drawn(move.phrase)}"

    def _name(self, role: Role) -> str:
        names = (name for name, its_role in self._specification.roles.items() if its_role is role)
        return next(names, role.value)
