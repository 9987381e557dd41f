"""Copies: values are copied with all that they hold, and ways to something outside are shared as they are."""

from __future__ import annotations

import io
import itertools
import logging
import random
import re
import socket
import threading
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import Mock
from uuid import UUID

import msgspec
import pytest
from persistasaurus import step
from persistasaurus.flows.values.copies import Copier, copied
from persistasaurus.flows.values.sameness import Comparison, Pair

if TYPE_CHECKING:
    from collections.abc import Callable


class Colour(Enum):
    RED = 1


@dataclass
class Line:
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Frozen:
    items: list[int]


class Struct(msgspec.Struct):
    items: list[int]


class FrozenStruct(msgspec.Struct, frozen=True):
    items: list[int]

    def __post_init__(self) -> None:
        assert self.items == [1], "a copy is not made anew"


class Pairing(NamedTuple):
    name: str
    items: list[int]


class Plain:
    def __init__(self) -> None:
        self.items = [1]
        self.callback: Any = print

    def first(self) -> Any:
        return self.items[0]


class Slotted:
    __slots__ = ("items", "missing")

    def __init__(self) -> None:
        self.items = [1]


class SlottedAndMore(Slotted):
    def __init__(self) -> None:
        super().__init__()
        self.more = [2]


class Basket(list[Any]):
    """Derived from a collection."""


class Client:
    """A way to something outside: it has a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cache: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"cache": self.cache}


class App:
    """It has a client somewhere inside."""

    def __init__(self) -> None:
        self.parts = {"client": [Client()]}


@dataclass
class Session:
    client: Client
    token: str = ""


_SOCKET, _OTHER = socket.socketpair()
_SOCKET.close()
_OTHER.close()


class OneOnly:
    def __deepcopy__(self, memo: dict[int, Any]) -> OneOnly:
        return self


class Stubborn:
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise ValueError("it does not want to be copied")


VALUES: dict[str, Callable[[], Any]] = {
    "list": lambda: [1, [2], {"a": (3, [4])}],
    "dict": lambda: {"a": 1, (1, 2): [2], frozenset({1}): {3}},
    "set": lambda: {1, (2, 3)},
    "frozenset": lambda: frozenset({1, Frozen.__hash__}),
    "tuple": lambda: (1, [2]),
    "named tuple": lambda: Pairing("a", [1]),
    "deque": lambda: deque([1, [2]], maxlen=2),
    "default dict": lambda: defaultdict(list, {"a": [1]}),
    "ordered dict": lambda: OrderedDict(a=[1], b=2),
    "counter": lambda: Counter("abba"),
    "bytearray": lambda: bytearray(b"abc"),
    "user's dict": lambda: UserDict({"a": [1]}),
    "chain": lambda: ChainMap({"a": [1]}, {"b": 2}),
    "namespace": lambda: SimpleNamespace(items=[1]),
    "dataclass": lambda: Line([1]),
    "frozen dataclass": lambda: Frozen([1]),
    "struct": lambda: Struct([1]),
    "frozen struct": lambda: FrozenStruct([1]),
    "object": Plain,
    "slots": Slotted,
    "slots and more": SlottedAndMore,
    "derived": lambda: Basket([1, [2]]),
    "random": lambda: random.Random(1),
    "partial": lambda: partial(sorted, [2, 1]),
}
IMMUTABLE: dict[str, Any] = {
    "atoms": (None, 1, True, 2.5, "a", b"b", Decimal("1.5"), UUID(int=1), datetime.now(UTC), ...),
    "frozenset": frozenset({1, 2}),
    "fraction": Fraction(1, 2),
    "path": PurePosixPath("/tmp"),
    "enum": Colour.RED,
    "pattern": re.compile("a"),
    "class": Plain,
    "module": re,
    "function": deepcopy,
    "lambda": lambda: 1,
    "builtin": len,
    "logger": logging.getLogger("x"),
    "the engine's": step(lambda self, n: n),
}
NO_VALUES: dict[str, Callable[[], Any]] = {
    "lock": threading.Lock,
    "event": threading.Event,
    "socket": lambda: _SOCKET,
    "file": io.StringIO,
    "generator": lambda: (n for n in range(3)),
    "client": Client,
    "application": App,
    "session": lambda: Session(Client()),
    "mock": Mock,
    "one only": OneOnly,
    "stubborn": Stubborn,
    "view": lambda: MappingProxyType({"a": [1]}),
}


def is_same(one: Any, other: Any) -> bool:
    return Comparison().first_difference([Pair("", one, other)]) is None


def mutable_parts(value: Any) -> list[Any]:
    """Find the lists in something."""
    found: list[Any] = []
    seen: dict[int, Any] = {}
    ahead = [value]
    while ahead:
        one = ahead.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, list):
            found.append(one)
        if isinstance(one, dict):
            ahead += [*one, *one.values()]
        elif isinstance(one, list | tuple | deque | set):
            ahead += one
        ahead += [
            getattr(one, name)
            for name in ("items", "more", "data", "maps")
            if not callable(getattr(one, name, len))
        ]
    return found


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_copied_with_all_that_it_holds(name: str) -> None:
    value = VALUES[name]()

    copy = copied(value)

    assert copy is not value or name == "frozenset"
    assert type(copy) is type(value)
    assert is_same(copy, value)
    assert not {id(part) for part in mutable_parts(copy)} & {id(part) for part in mutable_parts(value)}


def test_a_collection_keeps_what_it_knows_beside_its_parts() -> None:
    many, limited = copied((defaultdict(list, a=[1]), deque([1], maxlen=3)))

    many["b"].append(2)
    assert many == {"a": [1], "b": [2]}
    assert limited.maxlen == 3


@pytest.mark.parametrize("name", IMMUTABLE)
def test_what_nobody_can_change_is_shared(name: str) -> None:
    assert copied(IMMUTABLE[name]) is IMMUTABLE[name]
    assert copied([IMMUTABLE[name]])[0] is IMMUTABLE[name]


@pytest.mark.parametrize("name", NO_VALUES)
def test_what_has_no_value_is_shared_and_what_it_is_in_is_not(name: str) -> None:
    value = NO_VALUES[name]()
    around = {"it": (value, [1]), "again": [value]}

    copy = copied(around)

    assert copied(value) is value
    assert copy["it"][0] is copy["again"][0] is value
    assert copy["it"][1] is not around["it"][1]


def test_what_is_there_twice_is_so_in_the_copy() -> None:
    one = [1]
    plain = Plain()
    plain.items = one

    copy = copied([one, one, {"a": one}, plain, (one,)])

    assert all(other is copy[0] for other in (copy[1], copy[2]["a"], copy[3].items, copy[4][0]))


def test_circles_are_copied_as_circles() -> None:
    circle: list[Any] = [1]
    circle.append({"me": circle})
    through: list[Any] = []
    tied = (through,)
    through.append(tied)

    copy, (other,) = copied(circle), copied(tied)

    assert copy is not circle
    assert copy[1]["me"] is copy
    assert other[0][0] is other


def test_keys_that_are_objects_are_those_of_the_copy() -> None:
    node = Plain()
    nodes, names = copied(([node], {node: "a"}))

    assert names[nodes[0]] == "a"


def test_methods_are_bound_to_the_copy() -> None:
    basket: list[int] = []
    items, add = copied((basket, basket.append))
    add(1)

    assert (basket, items) == ([], [1])
    plain = Plain()
    plain.callback = (plain.__repr__, plain.first)
    again = copied(plain)
    assert all(method.__self__ is again for method in again.callback)


def test_what_could_be_copied_in_part_only_is_not_half_done_elsewhere() -> None:
    shared = [[1], threading.Lock()]
    holder = SimpleNamespace(parts=shared)
    plain = Plain()
    plain.items = shared

    found_plain, found = copied([plain, shared])

    assert found_plain is plain
    assert found is not shared
    assert found[0] == [1]
    assert found[0] is not shared[0]
    assert copied(holder) is holder


def test_an_object_that_holds_more_than_a_value_would_is_shared() -> None:
    plain = Plain()
    plain.items = [[n] for n in range(20_000)]

    assert copied(plain) is plain
    assert copied([[n] for n in range(20_000)])[5] == [5]


def test_what_is_nested_deeper_than_can_be_copied_is_shared() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert copied(deep) is deep
    while deep:  # taken apart here: not all of Python can do so at once
        deep = deep.pop()


def test_it_is_remembered_what_is_no_value_and_not_for_ever() -> None:
    shared: dict[int, Any] = {}
    clients = [Client() for _ in range(1_500)]

    assert Copier(shared).part(clients) == clients
    assert len(shared) <= 1_000
    last = clients[-1]
    last.__dict__.clear()
    assert Copier(shared).part(last) is last


def test_iterators_go_on_for_each_by_itself() -> None:
    numbers = itertools.count(1)

    copy = copied(numbers)

    assert [next(copy), next(copy), next(numbers)] == [1, 2, 1]
