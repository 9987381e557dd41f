"""The state in which each actor of a class begins."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ActorDefinitionError, FlowDefinitionError, PayloadError
from ..values.annotations import refuse_unstorable
from ..values.codec import WIDEST_LIMITS, Codec
from ..values.value_diff import plain

if TYPE_CHECKING:
    from collections.abc import Callable


class InitialState:
    """Makes the state that an actor begins with: `AccountState()`, the same each time."""

    def __init__(self, kind: Any, actor: str) -> None:
        what = f"the state of {actor}"
        _check_kind(kind, what)
        self.new: Callable[[], Any] = kind
        try:
            refuse_unstorable(kind, what)
            self.codec = Codec(kind, what)
        except FlowDefinitionError as error:
            raise ActorDefinitionError(str(error)) from None
        try:
            begun = [self.codec.seal(kind(), WIDEST_LIMITS)[0] for _ in range(2)]
        except TypeError as error:
            raise ActorDefinitionError(
                f"{what} begins as {kind.__name__}(), so each of its fields needs a default: {plain(error)}"
            ) from None
        except PayloadError as error:
            raise ActorDefinitionError(
                f"{what} begins as {kind.__name__}(), in which the value at {error.path} is not what its"
                f" annotation says: {error.reason}"
            ) from None
        if begun[0] != begun[1]:
            raise ActorDefinitionError(
                f"{what} begins in another way each time {kind.__name__}() is called, and so would each"
                " recovery: put what differs (a time, an id, chance) into an event"
            )


def _check_kind(kind: Any, what: str) -> None:
    """Refuse what is not a class of which `apply` can change the objects."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        is_frozen = kind.__struct_config__.frozen
    elif isinstance(kind, type) and is_dataclass(kind):
        is_frozen = bool(getattr(kind, "__dataclass_params__").frozen)  # noqa: B009 - unknown to type checkers
    else:
        raise ActorDefinitionError(f"{what} must be a msgspec.Struct or a dataclass, and {kind!r} is neither")
    if is_frozen:
        raise ActorDefinitionError(f"{what}, {kind.__name__}, is frozen: apply() could not change it")
