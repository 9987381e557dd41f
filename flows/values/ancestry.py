"""The kind of error of a recorded failure: the names of its exception's classes."""

from __future__ import annotations

import builtins
import inspect
from typing import TYPE_CHECKING, Any, cast

from .text import storable

if TYPE_CHECKING:
    from ..events import Failure

_MOST = 32
_LENGTH = 200
_SCRIPT = "__main__"


def ancestry_of(kind: type[BaseException]) -> tuple[str, ...]:
    """Return the names of an exception's classes, innermost first; empty for a built-in class.

    Names are qualified by the module, except for built-in classes.
    """
    if kind.__module__ == builtins.__name__:
        return ()
    known = (BaseException, object)
    return tuple(storable(_name(base), _LENGTH) for base in kind.__mro__[:_MOST] if base not in known)


def is_recorded_as(failure: Failure, kind: Any) -> bool:
    """Return whether a recorded failure was of a class or a subclass of it.

    Raises:
        TypeError: it is not an exception class.
    """
    if isinstance(kind, tuple):
        return any(is_recorded_as(failure, one) for one in cast("tuple[Any, ...]", kind))
    if not (inspect.isclass(kind) and issubclass(kind, BaseException)):
        raise TypeError(
            f"is_a({kind!r}): give an exception class, as in is_a(ConnectionError), or a tuple of them"
        )
    if kind is BaseException:
        return True
    if failure.ancestry:
        return any(_is_same(name, _name(kind)) for name in failure.ancestry)
    recorded: Any = getattr(builtins, failure.type, None)
    if inspect.isclass(recorded):
        return issubclass(recorded, kind)
    # An older version recorded only the name of its own class.
    return kind is Exception or kind.__name__ == failure.type


def _name(kind: type) -> str:
    module = _SCRIPT if kind.__module__ == "__mp_main__" else kind.__module__
    return kind.__qualname__ if module == builtins.__name__ else f"{module}:{kind.__qualname__}"


def _is_same(recorded: str, name: str) -> bool:
    if recorded == name:
        return True
    # A script has another module name when another program imports it.
    (module, _, qualified), (other, _, wanted) = recorded.partition(":"), name.partition(":")
    return _SCRIPT in (module, other) and bool(wanted) and qualified == wanted
