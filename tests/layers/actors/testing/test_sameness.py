"""Whether two values are the same, by what they hold."""

from __future__ import annotations

import enum
import io
import random
import threading
import uuid
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import count
from pathlib import PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus.flows.values.sameness import Comparison, Pair

if TYPE_CHECKING:
    from collections.abc import Callable

NAN = "nan"
made = count()
Point = namedtuple("Point", "x y")  # noqa: PYI024 - as users make them


class Plain:
    """An object that is compared by which one it is."""

    def __init__(self, **kept: Any) -> None:
        vars(self).update(kept)

    @cached_property
    def late(self) -> object:
        return 1


class Slotted:
    __slots__ = ("__dict__", "first", "never")

    def __init__(self, first: Any, **kept: Any) -> None:
        self.first = first
        vars(self).update(kept)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Line:
    item: Any
    note: Any = field(default=None, compare=False)


class Order(msgspec.Struct):
    lines: list[Any]


class Array:
    """Compares as arrays do: by no bool."""

    def __init__(self, *values: int) -> None:
        self.values = values

    def __eq__(self, other: object) -> Any:
        return [a == b for a, b in zip(self.values, other.values, strict=True)]  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]


class Entity:
    """Is the same when it has the same number."""

    def __init__(self, number: int, seen: int) -> None:
        self.number = number
        self.seen = seen

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entity) and self.number == other.number

    def __hash__(self) -> int:
        return self.number


class Unclear(Entity):
    def __eq__(self, other: object) -> Any:
        return 0

    __hash__ = None  # type: ignore[assignment]


class Touchy:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        raise OSError("not today")

    def __hash__(self) -> int:
        return 1


class Basket(list[Any]):
    owner: Any = None


def difference(live: Any, rebuilt: Any) -> Pair | None:
    return Comparison().first_difference([Pair("x", live, rebuilt)])


def local_class(value: Any) -> Any:
    @dataclass
    class Local:
        kept: Any

    return Local(value)


def local_marker() -> Any:
    @dataclass
    class Marker: ...

    return Marker()


def circle() -> Any:
    ring: list[Any] = [1]
    ring.append({"ring": ring})
    return ring


def round_object(end: int) -> Any:
    here, there = Line(1), Line(end)
    here.note, there.note = there, here
    here.item, there.item = there, here if end else 0
    return here


def chain(length: int) -> Any:
    link: Any = None
    for _ in range(length):
        link = [link]
    return link


def evaluated() -> Any:
    plain = Plain(a=1)
    assert plain.late
    return plain


def nan() -> float:
    return float(NAN)


SAME: dict[str, Callable[[], Any]] = {
    "numbers": lambda: [None, True, 10**30, 1.5, 2j, Decimal("1.50"), Fraction(1, 3)],
    "no number": lambda: [
        nan(),
        {nan()},
        {"k": nan()},
        Decimal(NAN),
        complex(nan(), 1),
        Line(nan()),
        Order([nan()]),
    ],
    "keys that are no number": lambda: {nan(): [nan()]},
    "a number that signals": lambda: Decimal("sNaN"),
    "texts": lambda: ["a" * 2, bytes([1, 2]), bytearray(b"ab"), range(int("3"))],
    "time": lambda: [
        datetime(2026, 1, 2, tzinfo=UTC),
        date(2026, 1, 2),
        timedelta(1),
        timezone(timedelta(hours=1)),
    ],
    "ids and paths": lambda: [uuid.UUID(int=1), PurePosixPath("/a/b")],
    "enumerations": lambda: [Colour.RED, enum.Enum("Made", "ONE TWO").ONE],  # type: ignore[attr-defined]
    "containers": lambda: [(1, [2]), deque([[1], 2], 5), Counter("aab"), OrderedDict(a=[1]), Point(1, [2])],
    "defaults": lambda: defaultdict(lambda: 0, a=1),
    "views": lambda: [
        MappingProxyType({"a": [1]}),
        {Plain(a=1): 1}.keys(),
        {1: [2]}.items(),
        {1: 2}.values(),
    ],
    "sets of objects": lambda: {Plain(n=n) for n in range(20)},
    "frozen sets of sets": lambda: frozenset({frozenset({Plain(a=1)}), frozenset({2})}),
    "keys that are objects": lambda: {Plain(n=n): [n] for n in range(20)},
    "objects": lambda: [Plain(a=[1]), Slotted(1, b=2), SimpleNamespace(a=Plain()), Basket([1])],
    "objects in what compares itself": lambda: [Line(Plain(a=1)), Order([Plain(a=1)]), deque([Plain()])],
    "what is told not to matter": lambda: [Line(Plain(a=1), next(made)), Line(1, next(made))],
    "what says that it is the same": lambda: Entity(1, next(made)),
    "what does not say clearly": lambda: Unclear(1, next(made)),
    "errors": lambda: [ValueError("a", [1]), ExceptionGroup("g", [KeyError("k")])],
    "arrays": lambda: Array(1, 2),
    "what cannot be compared": lambda: Touchy(object()),
    "classes of each time": lambda: [local_class(1), local_marker()],
    "functions": lambda: [lambda: 1, [].append, "a".__len__, object, local_class, threading],
    "what runs": lambda: [
        iter([1]),
        (n for n in [1]),
        weakref.ref(Plain),
        threading.Lock(),
        io.BytesIO(b"a"),
    ],
    "threads": lambda: Plain(thread=threading.Thread(), current=threading.local()),
    "sentinels": object,
    "circles": lambda: [circle(), round_object(1)],
    "a long chain": lambda: chain(10_000),
    "chance from a seed": lambda: random.Random(7),
    "chance of the system": random.SystemRandom,
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_made_twice_in_the_same_way_is_the_same(name: str) -> None:
    live, rebuilt = SAME[name](), SAME[name]()

    assert live is not rebuilt
    assert difference(live, rebuilt) is None


def test_what_is_only_worked_out_late_or_has_no_value_may_be_there_on_one_side() -> None:
    assert difference(Plain(a=1), evaluated()) is None
    assert difference(Plain(lock=None), Plain(lock=threading.Lock())) is None
    assert difference([len], [len, len]) is None


DIFFERENT: dict[str, tuple[Any, Any, str]] = {
    "numbers": (1, 2, "x"),
    "no number": (nan(), 1.0, "x"),
    "truth": (True, False, "x"),
    "nothing": (None, 0, "x"),
    "texts": ("a", "b", "x"),
    "kinds": ([1], (1,), "x"),
    "bytes": (b"a", b"b", "x"),
    "time": (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), "x"),
    "ids": (uuid.UUID(int=1), uuid.UUID(int=2), "x"),
    "paths": (PurePosixPath("a"), PurePosixPath("b"), "x"),
    "enumerations": (Colour.RED, Colour.BLUE, "x"),
    "places": ([1, [2, 3]], [1, [2, 4]], "x[1][1]"),
    "lengths": ([1], [1, 2], "x[1]"),
    "tuples": ((1, 2), (1, 3), "x[1]"),
    "named tuples": (Point(1, 2), Point(1, 3), "x.y"),
    "ends of queues": (deque([1]), deque(), "x[0]"),
    "values": ({"a": {"b": 1}}, {"a": {"b": 2}}, "x['a']['b']"),
    "keys": ({"a": 1}, {"b": 1}, "x['a']"),
    "more keys": ({}, {"b": 1}, "x['b']"),
    "counts": (Counter("aab"), Counter("abb"), "x['a']"),
    "keys that are objects": ({Plain(a=1): 1}, {Plain(a=1): 2}, "x (an item)[1]"),
    "views": (MappingProxyType({"a": 1}), MappingProxyType({"a": 2}), "x['a']"),
    "members": ({1, 2}, {1, 3}, "x (a member)"),
    "more members": ({1, 2}, {1}, "x (a member)"),
    "many members": (set(range(200)), set(range(200, 400)), "x (a member)"),
    "members that are objects": ({Plain(a=1), Plain(a=2)}, {Plain(a=3), Plain(a=1)}, "x (a member).a"),
    "a member less": ({Plain(a=1)}, set(), "x (a member)"),
    "objects": (Plain(a=1, b=[1]), Plain(a=1, b=[2]), "x.b[0]"),
    "attributes": (Plain(a=1), Plain(), "x.a"),
    "slots": (Slotted(1), Slotted(2), "x.first"),
    "what was worked out on both sides": (Plain(late=1), Plain(late=2), "x.late"),
    "what says that it is not": (Entity(1, 1), Entity(2, 1), "x.number"),
    "classes": (Plain(a=1), SimpleNamespace(a=1), "x"),
    "classes of each time": (local_class(1), local_class(2), "x.kept"),
    "dataclasses": (Line([1]), Line([2]), "x.item[0]"),
    "structs": (Order([Line(1)]), Order([Line(2)]), "x.lines[0].item"),
    "subclasses": (Basket([1]), Basket([2]), "x[0]"),
    "errors": (ValueError("a"), ValueError("b"), "x.args[0]"),
    "kinds of errors": (ValueError("a"), TypeError("a"), "x"),
    "what cannot be compared": (Touchy(1), Touchy(2), "x.value"),
    "what compares itself": (UTC, timezone(timedelta(1) / 2), "x"),
    "circles": (round_object(1), round_object(0), "x.item.item"),
    "chance": (random.Random(1), random.Random(2), "x.getstate()[1][1]"),
    "what came late": (circle(), [1, {"ring": [1, 2]}], "x[1]['ring'][1]"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_not_the_same_is_found_as_deep_inside_as_can_be_told(name: str) -> None:
    live, rebuilt, path = DIFFERENT[name]

    found = difference(live, rebuilt)

    assert found is not None
    assert found.path == path
    assert difference(rebuilt, live) is not None


def test_the_first_difference_is_found_in_the_order_in_which_things_were_kept() -> None:
    found = difference({"b": 1, "a": [1], "c": 1}, {"a": [2], "b": 1, "c": 2})

    assert found == Pair("x['a'][0]", 1, 2)


def test_what_an_object_of_a_container_class_keeps_besides_is_compared() -> None:
    live, rebuilt = Basket([1]), Basket([1])
    live.owner, rebuilt.owner = "ada", "bob"

    found = difference(live, rebuilt)

    assert found == Pair("x.owner", "ada", "bob")


def test_a_great_many_objects_without_order_are_passed_over() -> None:
    live, rebuilt = ({Plain(n=n) for n in range(first, first + 101)} for first in (0, 1))

    assert difference(live, rebuilt) is None


def test_a_failed_attempt_to_match_hides_no_difference() -> None:
    one, two = Plain(a=1), Plain(a=2)
    live, rebuilt = [{one, two}, one], [{two_again := Plain(a=2), Plain(a=1)}, two_again]

    found = difference(live, rebuilt)

    assert found == Pair("x[1].a", 1, 2)
