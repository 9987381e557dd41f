"""All paths through a diagram at once: where in it one could be, after what has been seen so far.

A place is a frame: an index into a sequence, and the frame that follows it. Equal frames are one
object, so what can come next is found out once for each. No path is ever tried on its own: the time
grows with the length of the run and the number of places, and never with the number of paths.
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
    from collections.abc import Callable, Hashable

_PLACES_MAX = 20_000

Leaf: TypeAlias = ExpectedMessage | ExpectedNote | Skip


class _Frame:
    """A place in a diagram. Compared by identity; `opened` is found out when it is needed."""

    __slots__ = ("key", "opened")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.opened: _Opened | None = None


class _Opened(NamedTuple):
    """What is right here, and which places one is at as well."""

    leaves: list[tuple[Leaf, Position]]
    also: list[Position]


class _At(NamedTuple):
    sequence: Sequence
    place: int
    then: _Frame | None


class _Looping(NamedTuple):
    body: Sequence
    least: int
    most: int | None
    then: _Frame | None


class _Skipping(NamedTuple):
    leaf: Skip
    left: int
    then: _Frame | None


class _Shuffling(NamedTuple):
    branches: tuple[_Frame, ...]
    then: _Frame | None


_Key: TypeAlias = _At | _Looping | _Skipping | _Shuffling


class Ahead(NamedTuple):
    """What may come next, and where one is then; and whether it may end here."""

    leaves: list[tuple[Leaf, Position]]
    may_end: bool


Position: TypeAlias = "_Frame | None"
"""None is the end."""


class Paths:
    """The paths through a diagram."""

    def __init__(self, elements: Sequence) -> None:
        self._frames: dict[Hashable, _Frame] = {}
        self.start: Position = self._at(elements, 0, None)

    def step(self, places: set[Position], fits: Callable[[Leaf], bool]) -> set[Position]:
        """Return where one may be after something that fits only some of what may come next.

        Raises:
            DiagramError: there are too many places.
        """
        return {then for leaf, then in self.ahead(places).leaves if fits(leaf)}

    def ahead(self, places: set[Position]) -> Ahead:
        """Follow everything that can be passed without a message: each place once, and without recursion.

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
            self._open(frame, opened)
        return frame.opened

    def _open(self, frame: _Frame, opened: _Opened) -> None:
        match frame.key:
            case _At(sequence, index, then) if index == len(sequence):
                opened.also.append(then)
            case _At(sequence, index, then):
                self._element(sequence[index], self._at(sequence, index + 1, then), opened)
            case _Looping(body, least, most, then):
                if least == 0:
                    opened.also.append(then)
                if most != 0:
                    left = None if most is None else most - 1
                    again = self._frame(_Looping(body, max(least - 1, 0), left, then), body)
                    opened.also.append(self._at(body, 0, again))
            case _Skipping(leaf, left, then):
                opened.leaves.append((leaf, self._skip(leaf, left - 1, then)))
            case _Shuffling(branches, then):
                self._shuffle(branches, then, opened)
            case _:
                raise AssertionError(frame.key)

    def _element(self, element: Element, then: Position, opened: _Opened) -> None:
        match element:
            case Skip():
                opened.also.append(self._skip(element, element.messages, then))
            case Choice():
                opened.also.extend(self._at(branch, 0, then) for branch in element.branches)
            case Repeat():
                looping = _Looping(element.body, element.least, element.most, then)
                opened.also.append(self._frame(looping, element.body))
            case Shuffle():
                branches = tuple(self._at(branch, 0, None) for branch in element.branches)
                opened.also.append(self._frame(_Shuffling(branches, then)))
            case _:
                opened.leaves.append((element, then))

    def _shuffle(self, branches: tuple[_Frame, ...], then: Position, opened: _Opened) -> None:
        aheads = [self.ahead({branch}) for branch in branches]
        if all(ahead.may_end for ahead in aheads):
            opened.also.append(then)
        for index, ahead in enumerate(aheads):
            for leaf, place in ahead.leaves:
                after = self._at((), 0, None) if place is None else place
                rest = (*branches[:index], after, *branches[index + 1 :])
                opened.leaves.append((leaf, self._frame(_Shuffling(rest, then))))

    # ------------------------------------------------------------------------------------------ frames
    def _at(self, sequence: Sequence, index: int, then: Position) -> _Frame:
        return self._frame(_At(sequence, index, then), sequence)

    def _skip(self, leaf: Skip, left: int, then: Position) -> Position:
        return self._frame(_Skipping(leaf, left, then)) if left else then

    def _frame(self, key: _Key, sequence: Sequence | None = None) -> _Frame:
        """Return the one frame of this kind; sequences are told apart by identity, since they are long."""
        short: Hashable = key if sequence is None else (type(key), id(sequence), *key[1:])
        frame = self._frames.get(short)
        if frame is None:
            frame = self._frames[short] = _Frame(key)
        return frame
