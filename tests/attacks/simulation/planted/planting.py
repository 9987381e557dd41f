"""Planting: changes of the engine that are in force for a while, each a bug that somebody might write."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Bug(NamedTuple):
    """A bug that can be switched on. What it does wrong is said in a sentence."""

    name: str
    sentence: str
    change: Callable[[pytest.MonkeyPatch], None]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have it in the engine, for as long as this lasts."""
        with pytest.MonkeyPatch.context() as patch:
            self.change(patch)
            yield


BUGS: dict[str, Bug] = {}


def bug(change: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """Register a bug: a function that changes the engine, and says in its first line what is wrong then."""
    name = change.__name__
    assert name not in BUGS, name
    BUGS[name] = Bug(name, (change.__doc__ or "").strip(), change)
    return change


def wrap(patch: pytest.MonkeyPatch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by another, which gets the replaced one first."""
    before = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **kwargs: around(before, *args, **kwargs))
