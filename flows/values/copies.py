"""Copies of state, which their receiver may change freely.

Built-in collections are copied part by part, and objects as a whole: by their attributes, or by their own
`__deepcopy__`. An object that holds something without a value (a lock, a socket, a file, a coroutine) leads
outside and is no value either: it is shared as it is, with all its contents. So is an object that cannot be
copied for another reason, or that holds more than a value would.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, OrderedDict, defaultdict, deque
from copy import copy as shallow_copy
from copy import deepcopy
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from numbers import Number
from pathlib import PurePath
from re import Pattern
from struct import calcsize
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast
from uuid import UUID

import msgspec
from msgspec.structs import force_setattr

from .sameness import Comparison, Pair, belongs_to_engine, has_no_value, in_slots, slots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Way: TypeAlias = "Callable[[Copier, Any], Any]"
Shared: TypeAlias = dict[int, Any]
"""Objects known not to be values, by id. Keeping them keeps their ids unique."""

_ATOMS = frozenset(
    {
        *(type(None), type(...), bool, int, float, complex, Decimal, str, bytes, range, UUID),
        *(dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone),
    }
)
_IMMUTABLE = (
    *(Number, str, bytes, range, dt.date, dt.time, dt.timedelta, dt.tzinfo, UUID, PurePath, Enum, Pattern),
    *(type, FunctionType, ModuleType, CodeType),
)
"""Immutable, or not state. An object that holds one may still be a value."""
_MODULES_OF_NO_STATE = {"logging", "weakref", "_weakref", "contextvars", "_contextvars"}
_PARTS_MAX = 10_000
"""An object with more parts is taken for an application, not a value."""
_SHARED_MAX = 1_000
_POINTER = calcsize("P")


class Slots:
    """The attributes that an object keeps outside its `__dict__`."""

    __slots__ = ("names", "owner")
    __hash__ = None  # pyright: ignore[reportAssignmentType] - it changes

    def __init__(self, owner: Any, names: tuple[str, ...]) -> None:
        self.owner = owner
        self.names = names

    def copy(self) -> dict[str, Any]:
        return in_slots(self.owner, self.names)

    def __eq__(self, before: object) -> bool:
        return self.copy() == before


class Whole:
    """An opaque object, which defines its own copying."""

    __slots__ = ("owner",)
    __hash__ = None  # pyright: ignore[reportAssignmentType] - it changes

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def copy(self) -> Any:
        return deepcopy(self.owner)

    def __eq__(self, before: object) -> bool:
        return bool(self.owner == before)


class Made(NamedTuple):
    """A copy, the container of its parts, and a snapshot of that container."""

    copy: Any
    held: Any
    before: Any

    @classmethod
    def of(cls, copy: Any, held: Any) -> Made:
        return cls(copy, held, held.copy())

    @property
    def has_its_parts(self) -> bool:
        """Whether it still holds the very parts it was made with: nearly always true, and fast to check."""
        try:
            return bool(self.held == self.before)
        except Exception:  # noqa: BLE001 - the user's types may do anything when they are compared
            return False

    def change(self, path: str) -> Pair | None:
        """Return the difference between its value now and when it was made, or None."""
        before = self.as_it_was()
        change = Comparison().first_difference([Pair(path, self.copy, before)])
        if change is not None and isinstance(self.held, Whole):
            # If its copies always differ, no comparison can show a change.
            again = Comparison().first_difference([Pair(path, deepcopy(before), before)])
            return change if again is None else None
        return change

    def as_it_was(self) -> Any:
        """Return it as it was when it was made."""
        copy, held, before = self
        if held is copy or isinstance(held, Whole):
            return before
        kind = cast("type[Any]", type(copy))
        is_struct = issubclass(kind, msgspec.Struct)
        again: Any = shallow_copy(copy) if is_struct else object.__new__(kind)
        assign = force_setattr if is_struct else object.__setattr__
        slotted, kept = in_slots(copy, slots_of(kind)), getattr(copy, "__dict__", {})
        slotted, kept = (before, kept) if isinstance(held, Slots) else (slotted, before)
        for name, part in slotted.items():
            assign(again, name, part)
        if kept:
            again.__dict__.update(kept)
        return again


class _NoValueError(Exception):
    """An object holds something that has no value."""


def copied(value: Any) -> Any:
    """Copy a value, as far as it is one."""
    return value if type(value) in _ATOMS else Copier({}).part(value)


class Copier:
    """Makes one copy, which shares parts where the original does. For one thread.

    `made` collects the mutable copies, to be checked for changes later.
    """

    __slots__ = ("_is_inside", "_most", "_shared", "known", "made")

    def __init__(self, shared: Shared, made: list[Made] | None = None) -> None:
        self.known: dict[int, Any] = {}
        """The copies, by the ids of the originals."""
        self.made = made
        self._shared = shared
        self._is_inside = False
        self._most = 0

    def part(self, value: Any) -> Any:
        """Copy a value, or share it if it cannot be copied."""
        size = len(self.known)
        try:
            return self.copy(value)
        except Exception:  # noqa: BLE001 - such as one that is nested too deep
            self._forget(size)
            return value

    def copy(self, value: Any) -> Any:
        kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType] - no cast: it is a call
        if kind in _ATOMS:
            return value
        known = self.known.get(id(value))
        if known is not None:
            return known
        if self._is_inside and len(self.known) > self._most:
            raise _NoValueError
        return (_WAYS.get(kind) or _way_of(kind))(self, value)

    def copy_or_share(self, value: Any, way: _Way) -> Any:
        """Copy an object with all its contents; if that fails, share the outermost object as it is."""
        if self._is_inside:
            return way(self, value)
        if id(value) in self._shared:
            return value
        size = len(self.known)
        self._is_inside, self._most = True, size + _PARTS_MAX
        try:
            return way(self, value)
        except Exception:  # noqa: BLE001 - the user's types may do anything when they are copied
            self._forget(size)
            if len(self._shared) >= _SHARED_MAX:
                self._shared.clear()
            self._shared[id(value)] = value
            return value
        finally:
            self._is_inside = False

    def share(self, value: Any) -> Any:
        """Share a thing that has no value. An object that holds one has no value either."""
        if self._is_inside:
            raise _NoValueError
        return value

    def note(self, copy: Any, held: Any) -> None:
        """Note a copy, and the container of its parts: itself, or its attributes."""
        if self.made is not None:
            self.made.append(Made.of(copy, held))

    def _forget(self, size: int) -> None:
        """Forget the copies beyond the first `size`: they may be incomplete."""
        while len(self.known) > size:
            self.known.popitem()


# ----------------------------------------------------------------------------------------- collections
def are_atoms(values: Iterable[Any]) -> bool:
    """Return whether none of them is mutable or holds anything mutable."""
    return _ATOMS.issuperset(map(type, values))


def _list(copier: Copier, value: list[Any]) -> list[Any]:
    copy = copier.known[id(value)] = value.copy()
    if not are_atoms(value):
        copy[:] = map(copier.copy, value)
    copier.note(copy, copy)
    return copy


def _deque(copier: Copier, value: deque[Any]) -> deque[Any]:
    copy = copier.known[id(value)] = deque[Any](maxlen=value.maxlen)
    copy.extend(map(copier.copy, value))
    copier.note(copy, copy)
    return copy


def _dict(copier: Copier, value: dict[Any, Any]) -> dict[Any, Any]:
    copy = copier.known[id(value)] = value.copy()
    if not (are_atoms(value) and are_atoms(value.values())):
        copy.clear()
        for key, item in value.items():
            copy[copier.copy(key)] = copier.copy(item)
    copier.note(copy, copy)
    return copy


def _set(copier: Copier, value: set[Any]) -> set[Any]:
    copy = copier.known[id(value)] = value.copy()
    if not are_atoms(value):
        copy.clear()
        copy.update(map(copier.copy, value))
    copier.note(copy, copy)
    return copy


def _frozenset(copier: Copier, value: frozenset[Any]) -> frozenset[Any]:
    return value if are_atoms(value) else frozenset(map(copier.copy, value))


def _tuple(copier: Copier, value: tuple[Any, ...]) -> tuple[Any, ...]:
    if are_atoms(value):
        return value
    parts = [copier.copy(part) for part in value]
    known = copier.known.get(id(value))  # it may be part of itself, through a list
    if known is None:
        known = copier.known[id(value)] = cast("Any", tuple).__new__(type(value), parts)
    return known


def _bytearray(copier: Copier, value: bytearray) -> bytearray:
    copy = copier.known[id(value)] = value.copy()
    copier.note(copy, copy)
    return copy


# --------------------------------------------------------------------------------------------- objects
def _object(copier: Copier, value: Any) -> Any:
    kind = cast("type[Any]", type(value))
    copy = copier.known[id(value)] = object.__new__(kind)
    kept = getattr(value, "__dict__", None)
    if kept is not None:
        held = copy.__dict__
        held.update(kept if are_atoms(kept.values()) else {n: copier.copy(p) for n, p in kept.items()})
        copier.note(copy, held)
    slots = slots_of(kind)
    if slots:
        found = {name: copier.copy(part) for name, part in in_slots(value, slots).items()}
        for name, part in found.items():
            object.__setattr__(copy, name, part)
        copier.note(copy, Slots(copy, slots))
    return copy


def _struct(copier: Copier, value: msgspec.Struct) -> msgspec.Struct:
    copy = copier.known[id(value)] = shallow_copy(value)
    for name in value.__struct_fields__:
        part = getattr(value, name)
        if type(part) not in _ATOMS:
            force_setattr(copy, name, copier.copy(part))
    copier.note(copy, Slots(copy, value.__struct_fields__))
    return copy


def _as_it_says(copier: Copier, value: Any) -> Any:
    copy = deepcopy(value, copier.known)
    if copy is not value:
        copier.note(copy, Whole(copy))
    return copy


def _method(copier: Copier, value: Any) -> Any:
    """Bind a method to the copy of its instance."""
    owner = value.__self__
    if isinstance(value, MethodType):
        return MethodType(value.__func__, copier.copy(owner))
    return value if owner is None else getattr(copier.copy(owner), value.__name__)


def _as_it_is(_: Copier, value: Any) -> Any:
    return value


_WAYS: dict[type, _Way] = {
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    deque: _deque,
    bytearray: _bytearray,
    **dict.fromkeys((dict, defaultdict, OrderedDict, Counter), _dict),
    **dict.fromkeys((MethodType, BuiltinFunctionType, MethodWrapperType), _method),
}


@lru_cache(maxsize=1024)
def _way_of(kind: type[Any]) -> _Way:
    """Return how to copy objects of a class."""
    module = kind.__module__.partition(".")[0]
    bases = set[type](kind.__mro__)
    if issubclass(kind, _IMMUTABLE) or belongs_to_engine(kind) or module in _MODULES_OF_NO_STATE:
        return _as_it_is
    if has_no_value(kind):
        return Copier.share
    if tuple in bases and hasattr(kind, "_fields"):
        return _tuple
    if msgspec.Struct in bases:
        return partial(Copier.copy_or_share, way=_struct)
    is_plain = _is_all_attributes(kind) and not hasattr(kind, "__deepcopy__")
    return partial(Copier.copy_or_share, way=_object if is_plain else _as_it_says)


def _is_all_attributes(kind: type[Any]) -> bool:
    """Return whether a class is written in Python and its objects are only their attributes."""
    attributes = len(slots_of(kind)) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    is_small = not kind.__itemsize__ and kind.__basicsize__ <= object.__basicsize__ + _POINTER * attributes
    is_built_in = any(
        isinstance(vars(base).get("__new__"), BuiltinFunctionType) for base in kind.__mro__[:-1]
    )
    return is_small and not is_built_in
