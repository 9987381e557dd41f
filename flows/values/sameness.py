"""Whether two values are the same, by their contents and not by identity.

Things without a value of their own (functions, coroutines, locks, files, the engine's objects) are the same
as anything: in doubt there is no difference.
"""

from __future__ import annotations

import datetime as dt
from collections import ChainMap, deque
from collections.abc import ItemsView, KeysView
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cached_property, lru_cache
from itertools import zip_longest
from numbers import Number
from pathlib import PurePath
from reprlib import repr as short
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

_PLAIN = (str, bytes, bytearray, range, dt.date, dt.time, dt.timedelta, UUID, PurePath)
_MEANS = (
    *(type, FunctionType, BuiltinFunctionType, MethodType, MethodWrapperType, ModuleType),
    *(CoroutineType, GeneratorType, AsyncGeneratorType, CodeType, FrameType, TracebackType),
)
_MODULES_OF_MEANS = {
    *("_asyncio", "_contextvars", "_io", "_queue", "_socket", "_thread", "_weakref", "asyncio", "concurrent"),
    *("contextvars", "io", "logging", "multiprocessing", "queue", "select", "selectors", "socket", "sqlite3"),
    *("ssl", "subprocess", "tempfile", "threading", "unittest", "weakref"),
}
"""Modules whose objects belong to this process, and are not values."""
_ENGINE = f"{__name__.rpartition('.flows.')[0]}."
_TRIALS = 100
_Seen: TypeAlias = "ChainMap[tuple[int, int], tuple[Any, Any]]"


class Pair(NamedTuple):
    """Two values that should be the same, and where they are kept."""

    path: str
    live: Any
    rebuilt: Any


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


_ABSENT = _Absent()
_VALUES = (BaseException, msgspec.Struct, _Absent)
_bases_for_users: list[type[Any]] = []


def for_users_to_derive(base: type[T]) -> type[T]:
    """Declare a class of the engine whose subclasses belong to users, and hold values of theirs."""
    _bases_for_users.append(base)
    return base


class Comparison:
    """Compares values. It compares each pair once, so that cycles end."""

    def __init__(self, seen: _Seen | None = None) -> None:
        self._seen: _Seen = ChainMap() if seen is None else seen

    def first_difference(self, pairs: Iterable[Pair]) -> Pair | None:
        """Return the first pair that differs, as deep inside as possible."""
        ahead = list(pairs)[::-1]
        while ahead:
            pair = ahead.pop()
            inside = self._look(pair)
            if inside is None:
                return pair
            ahead += inside[::-1]
        return None

    def _look(self, pair: Pair) -> list[Pair] | None:
        """Return the pairs to compare in place of this one, or None if it differs."""
        try:
            return self._inside(*pair)
        except Exception:  # noqa: BLE001 - the user's types may do anything when they are looked at
            return []

    def _inside(self, path: str, live: Any, rebuilt: Any) -> list[Pair] | None:
        if live is rebuilt or has_no_value(_type(live)) or has_no_value(_type(rebuilt)):
            return []
        are_same = _are_same_alone(live, rebuilt)
        if are_same is not None:
            return [] if are_same else None
        known = (id(live), id(rebuilt))
        if known in self._seen:
            return []
        self._seen[known] = (live, rebuilt)  # kept, so that their ids stay their own
        return self._within(path, live, rebuilt)

    def _within(self, path: str, live: Any, rebuilt: Any) -> list[Pair] | None:
        if isinstance(live, list | tuple | deque):
            inside = _by_place(path, live, rebuilt)
        elif isinstance(live, dict | MappingProxyType):
            inside = self._by_key(path, {**live}, {**rebuilt})
        elif isinstance(live, set | frozenset | KeysView | ItemsView):
            inside = self._members(path, live, rebuilt)
        else:
            return _objects(path, live, rebuilt)
        return inside + attributes(path, live, rebuilt)

    def _by_key(self, path: str, live: dict[Any, Any], rebuilt: dict[Any, Any]) -> list[Pair]:
        """Pair items with the same key, then those whose keys have the same contents."""
        keys = {key: None for key in live if key in rebuilt or _is_plain(key)}
        keys |= {key: None for key in rebuilt if key not in live and _is_plain(key)}
        known = [
            Pair(f"{path}[{short(key)}]", live.get(key, _ABSENT), rebuilt.get(key, _ABSENT)) for key in keys
        ]
        others = [[item for item in side.items() if item[0] not in keys] for side in (live, rebuilt)]
        return known + self._matched(f"{path} (an item)", *others)

    def _members(self, path: str, live: Any, rebuilt: Any) -> list[Pair]:
        others = [[m for m in a if m not in b] for a, b in ((live, rebuilt), (rebuilt, live))]
        plain = [[member for member in side if _is_plain(member)] for side in others]
        others = [[member for member in side if not _is_plain(member)] for side in others]
        path = f"{path} (a member)"
        first = [Pair(path, *pair) for pair in zip_longest(*plain, fillvalue=_ABSENT)][:1]
        return first + self._matched(path, *others)

    def _matched(self, path: str, live: list[Any], rebuilt: list[Any]) -> list[Pair]:
        """Pair unordered items. Those that are the same are matched first, so that the rest differs."""
        if max(len(live), len(rebuilt)) > _TRIALS:
            return []  # each would be held against each
        alone: list[Any] = []
        left = list(rebuilt)
        for one in live:
            place = next((place for place, other in enumerate(left) if self._would_match(one, other)), None)
            if place is None:
                alone.append(one)
            else:
                del left[place]
        return [Pair(path, *pair) for pair in zip_longest(alone, left, fillvalue=_ABSENT)]

    def _would_match(self, live: Any, rebuilt: Any) -> bool:
        trial = Comparison(self._seen.new_child())
        return trial.first_difference([Pair("", live, rebuilt)]) is None


def attributes(path: str, live: Any, rebuilt: Any, only: frozenset[str] | None = None) -> list[Pair]:
    """Pair the attributes of two objects by name."""
    here, there = _kept(live), _kept(rebuilt)
    late = _worked_out_late(_type(live)) - (here.keys() & there.keys())
    return [
        pair._replace(path=f"{path}.{pair.path}")
        for pair in by_name(here, there)
        if pair.path not in late and (only is None or pair.path in only)
    ]


def by_name(live: dict[str, Any], rebuilt: dict[str, Any]) -> list[Pair]:
    """Pair values by name."""
    return [Pair(name, live.get(name, _ABSENT), rebuilt.get(name, _ABSENT)) for name in {**live, **rebuilt}]


def _kept(value: Any) -> dict[str, Any]:
    kept = in_slots(value, slots_of(_type(value)))
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict):
        kept |= own
    if _type(value).__module__ == "random":
        kept["getstate()"] = value.getstate()
    if isinstance(value, BaseException):
        kept["args"] = value.args
    return kept


@lru_cache(maxsize=1024)
def slots_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the attributes of a class that are not kept in `__dict__`."""
    parts = [(name, part) for base in reversed(kind.__mro__) for name, part in vars(base).items()]
    return tuple(name for name, part in parts if isinstance(part, MemberDescriptorType))


def in_slots(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named attributes that an object has."""
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


@lru_cache(maxsize=1024)
def _worked_out_late(kind: type[Any]) -> frozenset[str]:
    """Return the cached properties, which are not state."""
    parts = [(name, part) for base in kind.__mro__ for name, part in vars(base).items()]
    return frozenset(name for name, part in parts if isinstance(part, cached_property))


def _objects(path: str, live: Any, rebuilt: Any) -> list[Pair] | None:
    """Pair the contents of two objects, unless they say themselves that they are equal.

    If they say that they differ, they may only have compared their contents by identity.
    """
    if _type(live).__eq__ is object.__eq__:
        return attributes(path, live, rebuilt)
    verdict = _verdict(live, rebuilt)
    if verdict:
        return []
    only = frozenset(f.name for f in fields(live) if f.compare) if is_dataclass(live) else None
    inside = attributes(path, live, rebuilt, only)
    return None if verdict is False and not inside else inside


def _verdict(live: Any, rebuilt: Any) -> bool | None:
    """Return the result of their own comparison; one that is not a bool, as of arrays, counts as True.

    None: it raises, or their classes only share a name.
    """
    if _type(live) is not _type(rebuilt):
        return None
    try:
        verdict: Any = live == rebuilt
    except Exception:  # noqa: BLE001 - it is the user's, and may go in a circle
        return None
    return verdict is not False


def _by_place(path: str, live: Any, rebuilt: Any) -> list[Pair]:
    names: tuple[str, ...] = getattr(live, "_fields", ())
    return [
        Pair(f"{path}.{names[place]}" if place < len(names) else f"{path}[{place}]", *pair)
        for place, pair in enumerate(zip_longest(live, rebuilt, fillvalue=_ABSENT))
    ]


def _type(value: Any) -> type[Any]:
    return cast("type[Any]", type(value))


@lru_cache(maxsize=1024)
def has_no_value(kind: type[Any]) -> bool:
    """Return whether objects of a class are not values but means of this process."""
    if issubclass(kind, _VALUES):
        return False
    modules = [str(base.__module__).partition(".")[0] for base in kind.__mro__]
    return issubclass(kind, _MEANS) or belongs_to_engine(kind) or not _MODULES_OF_MEANS.isdisjoint(modules)


@lru_cache(maxsize=1024)
def belongs_to_engine(kind: type[Any]) -> bool:
    """Return whether a class is the engine's, or derives from one that users may not derive from."""
    is_ours = any(str(base.__module__).startswith(_ENGINE) for base in kind.__mro__)
    return is_ours and not issubclass(kind, (*_VALUES, *_bases_for_users))


def _are_same_alone(live: Any, rebuilt: Any) -> bool | None:
    """Compare values without contents; None: they have contents to compare."""
    if isinstance(live, Number) and isinstance(rebuilt, Number):
        return bool(live == rebuilt or (live != live and rebuilt != rebuilt))  # noqa: PLR0124 - as only nan is
    if not _are_of_one_type(live, rebuilt):
        return False
    if isinstance(live, _PLAIN):
        return live == rebuilt
    return live.name == rebuilt.name if isinstance(live, Enum) else None


def _are_of_one_type(live: Any, rebuilt: Any) -> bool:
    """Compare types. A type that a flow's body defines is a new one each time, with the same name."""
    here, there = _type(live), _type(rebuilt)
    return here is there or (here.__module__, here.__qualname__) == (there.__module__, there.__qualname__)


def _is_plain(value: Any) -> bool:
    """Return whether a value differs from everything that does not equal it."""
    return value is None or isinstance(value, (*_PLAIN, int))
