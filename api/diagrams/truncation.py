"""Shortens very long diagrams: Mermaid's renderers refuse more than 50,000 characters."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, islice
from typing import TYPE_CHECKING, TypeAlias

from .items import Activation, Block, Item, Message, Note, Omission, Role
from .lexicon import tells_of_restart
from .phrases import drawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .items import Remark

_Leaf: TypeAlias = "tuple[Message | Note | Remark | Activation | Omission, int]"

CHARACTERS_MAX = 45_000
_HEAD = 0.6


def cut_out(items: Sequence[Item], sizes: Sequence[int]) -> list[Item]:
    """Return the first and the last items, with a note of what is omitted between them, if it is too much.

    `sizes`: how many characters each item takes.
    """
    if sum(sizes) <= CHARACTERS_MAX:
        return list(items)
    head = _fitting(sizes, CHARACTERS_MAX * _HEAD)
    tail = len(items) - _fitting(sizes[::-1], CHARACTERS_MAX * (1 - _HEAD))
    missing = [leaf for item in items[head:tail] for leaf in _leaves(item, 1)]
    after = [leaf for item in items[tail:] for leaf in _leaves(item, 1)]
    return [*items[:head], _gap(missing, after), *_activations(missing), *items[tail:]]


def _fitting(sizes: Sequence[int], limit: float) -> int:
    return sum(1 for size in accumulate(sizes) if size <= limit)


def _leaves(item: Item, times: int) -> Iterator[_Leaf]:
    """Yield everything in an item that is not a block, and how often it comes."""
    if not isinstance(item, Block):
        yield item, times
        return
    for branch in item.branches:
        for inner in branch.items:
            yield from _leaves(inner, times * item.times)


def _gap(missing: Sequence[_Leaf], after: Sequence[_Leaf]) -> Omission:
    first = next(_versions(missing), 0)
    last = max([first, *_versions(missing), *(version - 1 for version in islice(_versions(after), 1))])
    count = sum(times for leaf, times in missing if isinstance(leaf, Message) and not leaf.is_replay)
    notes = [leaf for leaf, _ in missing if isinstance(leaf, Note)]
    return Omission(count, first, last, any(tells_of_restart(drawn(note.phrase)) for note in notes))


def _versions(leaves: Sequence[_Leaf]) -> Iterator[int]:
    return (leaf.version for leaf, _ in leaves if isinstance(leaf, Message | Note))


def _activations(missing: Sequence[_Leaf]) -> Iterator[Activation]:
    """Yield what makes the participants as active as they are after the gap."""
    balance: Counter[Role] = Counter()
    for leaf, times in missing:
        if isinstance(leaf, Activation):
            balance[leaf.role] += times if leaf.is_on else -times
    for role, count in balance.items():
        for _ in range(abs(count)):
            yield Activation(role, count > 0)
