"""Repetitions, drawn once as a loop."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from .items import Activation, Block, Item, Message, Note, Section
from .phrases import drawn

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

_PERIOD_MAX = 64
_TIMES_MIN = 3


class _Repetition(NamedTuple):
    """A run of `period` items that comes `times` times."""

    period: int
    times: int

    @property
    def length(self) -> int:
        return self.period * self.times


def fold(items: Sequence[Item], *, values: bool) -> list[Item]:
    """Return the items, with runs that come three times or more made into loops, recursively.

    Runs are equal if they look the same without numbers.
    """
    shapes: dict[Hashable, int] = {}
    looks = [shapes.setdefault(_look(item, values=values), len(shapes)) for item in items]
    places: dict[int, list[int]] = {}
    for place, look in enumerate(looks):
        places.setdefault(look, []).append(place)
    folded: list[Item] = []
    place = 0
    while place < len(items):
        run = _longest_run(looks, place, places[looks[place]])
        if run is None:
            folded.append(items[place])
            place += 1
            continue
        body = tuple(fold(items[place : place + run.period], values=values))
        folded.append(Block("loop", (Section(f"{run.times} times", body),), run.times))
        place += run.length
    return folded


def _longest_run(looks: Sequence[int], start: int, places: list[int]) -> _Repetition | None:
    """Return the run that covers most items; of equals, the one with the shortest period."""
    best: _Repetition | None = None
    for index in range(bisect_right(places, start), len(places)):
        period = places[index] - start
        if period > _PERIOD_MAX:
            break
        run = _Repetition(period, _times(looks, start, period))
        if run.times >= _TIMES_MIN and (best is None or run.length > best.length):
            best = run
    return best


def _times(looks: Sequence[int], start: int, period: int) -> int:
    place = start
    while place + period < len(looks) and looks[place] == looks[place + period]:
        place += 1
    return (place - start) // period + 1


def _look(item: Item, *, values: bool) -> Hashable:
    """Return what an item looks like without numbers."""
    match item:
        case Message():
            text = drawn(item.phrase, numbered=False, values=values)
            return (item.source, item.target, item.is_reply, text)
        case Note():
            return (item.is_wide, drawn(item.phrase, numbered=False, values=values))
        case Activation():
            return item
        case Block():
            branches: Any = (tuple(_look(i, values=values) for i in branch.items) for branch in item.branches)
            return (item.kind, item.times, tuple(branches))
        case _:
            return id(item)  # a remark, or a gap: like no other
