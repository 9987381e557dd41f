"""Loans: a flow's state, lent to a step or a query, which may read it but not change it.

The loan is a copy, so a change cannot reach the flow: a replay would not repeat it. The change is also
refused, because its author meant it to have an effect.
"""

from __future__ import annotations

from operator import is_
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from ..errors import FlowStateError
from .copies import Copier, Made, Slots, are_atoms
from .sameness import in_slots, slots_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from .copies import Shared

_FROZEN = "_frozen_for"


class Loan:
    """Lends a snapshot of a state, once: `with loan as view: ...`, later and on any thread."""

    __slots__ = ("_before", "_made", "_names", "_role", "view")

    def __init__(self, instance: Any, role: str, shared: Shared) -> None:
        kind: Any = type(instance)  # pyright: ignore[reportUnknownVariableType] - no cast: it is a call
        slots, kept = slots_of(kind), instance.__dict__
        self._role = role
        self._made: Sequence[Made] = ()
        self._names: list[str] | None = None
        self.view = view = object.__new__(kind)
        if slots or not are_atoms(kept.values()):
            self._copy(instance, slots, shared)
        else:
            view.__dict__.update(kept)
        self._before = view.__dict__.copy()

    def _copy(self, instance: Any, slots: tuple[str, ...], shared: Shared) -> None:
        """Copy an instance attribute by attribute, and note which copies belong to which attribute."""
        view, held = self.view, self.view.__dict__
        made = self._made = list[Made]()
        names = self._names = list[str]()
        copier = Copier(shared, made)
        copier.known[id(instance)] = view
        for name, part in in_slots(instance, slots).items():
            object.__setattr__(view, name, copier.part(part))
            names += [name] * (len(made) - len(names))
        for name, part in instance.__dict__.items():
            held[name] = copier.part(part)
            names += [name] * (len(made) - len(names))
        if slots:
            made.append(Made.of(view, Slots(view, slots)))

    def __enter__(self) -> Any:
        """Return a copy of the state that refuses assignments."""
        self.view.__dict__[_FROZEN] = self._role
        return self.view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Check the copy for changes.

        Raises:
            FlowStateError: it was changed. Its cause is the `Exception` raised meanwhile, if any.
        """
        held = self.view.__dict__
        del held[_FROZEN]
        if error is not None and not isinstance(error, Exception):
            return
        before = self._before
        if not self._made and held.keys() == before.keys() and all(map(is_, held.values(), before.values())):
            return  # as nearly always
        itself = Made(self.view, held, self._before)
        for number, made in enumerate((*self._made, itself)):
            if not made.has_its_parts:
                self._look(number, made, error)

    def _look(self, number: int, made: Made, error: Exception | None) -> None:
        """Refuse a change. Different parts may still make the same value."""
        names = (self._names or [])[number:]
        name = f"self.{names[0]}" if names else "self"
        # The attribute itself was made last, after its parts.
        path = type(made.copy).__name__ if names[:1] == names[1:2] != [] else name
        change = made.change(path)
        if change is not None:
            raise FlowStateError(
                f"{self._role!r} changed {name} in place: {change.path} was {short(change.rebuilt)}, and is"
                f" {short(change.live)}. It runs outside the flow, which does not see the change, and a"
                " replay would not repeat it. Return the value, and let the flow keep it"
            ) from error


def refuse_assignment(instance: Any, name: str) -> None:
    """Raise `FlowStateError` if the instance is lent."""
    role = instance.__dict__.get(_FROZEN)
    if role is not None:
        raise FlowStateError(
            f"{role!r} assigned to self.{name}: it runs outside the flow, and a replay would not repeat the"
            " assignment. Return the value, and let the flow keep it"
        )
