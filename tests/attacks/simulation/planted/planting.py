"""Planting: changes of the engine that are in force for a while, each a bug that somebody might write."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


slips: list[str] = []
"""Errors of the planted code itself, such as a call of what the engine does not have: they prove nothing."""


class Bug(NamedTuple):
    """A bug that can be switched on. What it does wrong is said in a sentence."""

    name: str
    sentence: str
    change: Callable[[pytest.MonkeyPatch], None]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have it in the engine, for as long as this lasts."""
        with pytest.MonkeyPatch.context() as patch:
            slips.clear()
            self.change(patch)
            yield


BUGS: dict[str, Bug] = {}
_FOLDER = str(Path(__file__).parent)


def bug(change: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """Register a bug: a function that changes the engine, and says in its first line what is wrong then."""
    name = change.__name__
    assert name not in BUGS, name
    BUGS[name] = Bug(name, (change.__doc__ or "").strip(), change)
    return change


def wrap(patch: pytest.MonkeyPatch, owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by another, which gets the replaced one first."""
    before = getattr(owner, name)

    def instead(*args: Any, **kwargs: Any) -> Any:
        try:
            return around(before, *args, **kwargs)
        except (AttributeError, NameError, TypeError) as error:
            *_, (frame, _) = walk_tb(error.__traceback__)
            if frame.f_code.co_filename.startswith(_FOLDER):
                slips.append(repr(error))
            raise

    patch.setattr(owner, name, instead)
