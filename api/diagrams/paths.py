"""All paths through a diagram at once: the places where one could be after the moves so far.

A place is a frame: an index into a sequence, or an element that is under way, and the frame that follows.
Equal frames are one object, so what can come next is computed once for each. No path is tried on its own:
the time grows with the length of the run and the number of places, not with the number of paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .grammar import (
    Choice,
    DiagramError,
    Element,
    ExpectedMessage,
    ExpectedNote,
    Repeat,
    Sequence,
    Shuffle,
    Skip,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACES_MAX = 20_000
_EMPTY = Sequence()

Leaf: TypeAlias = ExpectedMessage | ExpectedNote | Skip


class _Frame:
    """A place in a diagram. Compared by identity; `opened` is computed when it is needed."""

    __slots__ = ("key", "opened")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.opened: _Opened | None = None


class _Opened(NamedTuple):
    """The leaves at a place, and the places that are reached from it without a message."""

    leaves: list[tuple[Leaf, Position]]
    also: list[Position]


class _At(NamedTuple):
    sequence: Sequence
    place: int
    then: Position


class _Parallel(NamedTuple):
    """The places in the branches of a `par`."""

    branches: tuple[_Frame, ...]


class _UnderWay(NamedTuple):
    """What is left of an element."""

    element: Skip | Repeat | _Parallel
    then: Position


_Key: TypeAlias = _At | _UnderWay


class Ahead(NamedTuple):
    """What may come next, and where that leads; and whether the diagram may end here."""

    leaves: list[tuple[Leaf, Position]]
    may_end: bool


Position: TypeAlias = "_Frame | None"
"""None is the end."""


class Paths:
    def __init__(self, sequence: Sequence) -> None:
        self._frames: dict[_Key, _Frame] = {}
        self.start: Position = self._at(sequence, None)

    def step(self, places: set[Position], fits: Callable[[Leaf], bool]) -> set[Position]:
        """Return the places after a move that fits only some of the leaves.

        Raises:
            DiagramError: there are too many places.
        """
        return {then for leaf, then in self.ahead(places).leaves if fits(leaf)}

    def ahead(self, places: set[Position]) -> Ahead:
        """Follow everything that needs no message: each place once, and without recursion.

        Raises:
            DiagramError: there are too many places; that takes a `par` of many long branches.
        """
        leaves: list[tuple[Leaf, Position]] = []
        seen = set(places)
        todo = list(places)
        while todo:
            place = todo.pop()
            if place is None:
                continue
            opened = self._opened(place)
            leaves += opened.leaves
            todo += [also for also in opened.also if also not in seen]
            seen.update(opened.also)
            if len(seen) > _PLACES_MAX:
                raise DiagramError("its loops or its `par` can be gone through in too many ways")
        return Ahead(leaves, None in seen)

    def _opened(self, frame: _Frame) -> _Opened:
        if frame.opened is None:
            frame.opened = opened = _Opened([], [])
            match frame.key:
                case _At(sequence, index, then) if index == len(sequence.elements):
                    opened.also.append(then)
                case _At(sequence, index, then):
                    self._open(sequence.elements[index], self._at(sequence, then, index + 1), opened)
                case _UnderWay(element, then):
                    self._open(element, then, opened)
        return frame.opened

    def _open(self, element: Element | _Parallel, then: Position, opened: _Opened) -> None:
        match element:
            case ExpectedMessage() | ExpectedNote():
                opened.leaves.append((element, then))
            case Skip(line, messages):
                if messages == 0:
                    opened.also.append(then)
                else:
                    opened.leaves.append((element, self._frame(_UnderWay(Skip(line, messages - 1), then))))
            case Choice(branches):
                opened.also.extend(self._at(branch, then) for branch in branches)
            case Repeat(body, least, most):
                if least == 0:
                    opened.also.append(then)
                if most != 0:
                    left = Repeat(body, max(least - 1, 0), None if most is None else most - 1)
                    opened.also.append(self._at(body, self._frame(_UnderWay(left, then))))
            case Shuffle(branches):
                places = _Parallel(tuple(self._at(branch, None) for branch in branches))
                opened.also.append(self._frame(_UnderWay(places, then)))
            case _Parallel(places):
                self._advance_one(places, then, opened)

    def _advance_one(self, places: tuple[_Frame, ...], then: Position, opened: _Opened) -> None:
        """Open a `par`: one of its branches moves on, or all of them have ended."""
        aheads = [self.ahead({place}) for place in places]
        if all(ahead.may_end for ahead in aheads):
            opened.also.append(then)
        for index, ahead in enumerate(aheads):
            for leaf, place in ahead.leaves:
                after = self._at(_EMPTY, None) if place is None else place
                rest = _Parallel((*places[:index], after, *places[index + 1 :]))
                opened.leaves.append((leaf, self._frame(_UnderWay(rest, then))))

    def _at(self, sequence: Sequence, then: Position, index: int = 0) -> _Frame:
        return self._frame(_At(sequence, index, then))

    def _frame(self, key: _Key) -> _Frame:
        """Return the one frame of this key."""
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = _Frame(key)
        return frame
