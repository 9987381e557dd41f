"""The definition of an event-sourced actor's class: what it says, checked when the class is made."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ForwardRef, TypeVar, cast, get_args, get_origin

from ..authoring.decoration import check_name
from ..authoring.query import Query
from ..errors import ActorDefinitionError, FlowDefinitionError
from ..values.annotations import result_hint
from ..values.codec import Codec
from ..values.location import defined_at
from ..values.settings import check_count, check_type
from .command import CommandDefinition
from .event_codec import EventCodec
from .initial_state import InitialState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..values.codec import Parameters
    from ..values.location import Location

_OPTIONS = ("timeout", "id", "key")
"""What stands beside the arguments of a command where it is sent."""
_SETTINGS = ("passivate_after", "mailbox")
_TAKEN = ("apply", "id", "record", "state", *_SETTINGS)
_EXAMPLE = 'class Account(EventSourcedActor[AccountState, Deposited | Withdrawn], name="account"): ...'


class Handler:
    """A command or query of one class, as its actors run it."""

    __slots__ = ("function", "is_command", "name", "parameters", "result", "what")

    def __init__(self, part: CommandDefinition | Query[..., Any], actor: str) -> None:
        self.name = part.name
        self.is_command = isinstance(part, CommandDefinition)
        self.what = f"{'command' if self.is_command else 'query'} '{actor}.{part.name}'"
        self.function: Callable[..., Any] = part.function
        self.parameters: Parameters = part.parameters
        self.parameters.prepare()
        self.result = Codec(result_hint(part.function, self.what), f"the reply of {self.what}")

    def __repr__(self) -> str:
        return f"<{self.what}>"


class ActorDefinition:
    """What an actor's class says: its stored name, settings, state, events and handlers."""

    def __init__(
        self, kind: type[Any], base: type[Any], name: Any, options: dict[str, Any], location: Location
    ) -> None:
        self.kind = kind
        self.location = location
        self._base = base
        self._handlers: dict[Any, Handler] | None = None
        try:
            self.name = self._checked_name(name, options)
            self._check_members()
            self._check_settings()
            state, events = self._types()
            self.events = EventCodec(events, kind.__name__)
            self.state = InitialState(state, kind.__name__)
            self._check_apply()
        except (TypeError, ValueError) as error:
            raise ActorDefinitionError(f"class {kind.__name__} at {location}: {error}") from error

    @property
    def passivate_after_s(self) -> float | None:
        after: timedelta | None = self.kind.passivate_after
        return None if after is None else after.total_seconds()

    @property
    def mailbox(self) -> int:
        return self.kind.mailbox

    # -------------------------------------------------------------------------------------- handlers
    def prepare(self) -> None:
        """Resolve the annotations of all handlers, which may name what was defined after the class.

        Raises:
            ActorDefinitionError: an annotation is unknown, or cannot be stored.
        """
        if self._handlers is not None:
            return
        known: dict[str, Handler] = {}
        handlers: dict[Any, Handler] = {}
        try:
            for name, part in self._effective().items():
                known[name] = Handler(part, self.kind.__name__)
        except FlowDefinitionError as error:
            raise ActorDefinitionError(f"class {self.kind.__name__} at {self.location}: {error}") from None
        for base in self.kind.__mro__:
            for name, part in vars(base).items():
                if isinstance(part, (CommandDefinition, Query)):
                    handlers[part] = known[name]
        self._handlers = handlers

    def handler(self, part: Any) -> Handler:
        """Return what runs a command or query of the class, or of a base: an override, if there is one.

        Raises:
            TypeError: it belongs to another class.
        """
        self.prepare()
        found = (self._handlers or {}).get(part)
        if found is None:
            takes = ", ".join(sorted({handler.name for handler in (self._handlers or {}).values()}))
            raise TypeError(f"{part!r} is not of {self.kind.__name__}, which takes {takes or 'nothing'}")
        return found

    def _effective(self) -> dict[str, CommandDefinition | Query[..., Any]]:
        """Return the handlers by name, without overridden ones."""
        parts: dict[str, Any] = {}
        for base in reversed(self.kind.__mro__):
            parts.update(vars(base))
        return {name: part for name, part in parts.items() if isinstance(part, (CommandDefinition, Query))}

    # ---------------------------------------------------------------------------------------- checks
    def _checked_name(self, name: Any, options: dict[str, Any]) -> str:
        if options:
            odd = next(iter(options))
            is_setting = odd in _SETTINGS
            instead = (
                f"write {odd} = {options[odd]!r} in the class" if is_setting else f"such as in {_EXAMPLE}"
            )
            raise ActorDefinitionError(f"it takes no {odd}=: {instead}")
        if name is None:
            raise ActorDefinitionError(
                "it needs a name, under which its actors are stored, even if the class is renamed:"
                f" {_EXAMPLE}"
            )
        check_name(name, "class of actors")
        return name

    def _types(self) -> tuple[Any, Any]:
        """Return the types of state and events, from the nearest base that names them."""
        for kind in self.kind.__mro__:
            for base in vars(kind).get("__orig_bases__", ()):
                if get_origin(base) is self._base:
                    state, events = get_args(base)
                    if any(isinstance(part, (TypeVar, ForwardRef, str)) for part in (state, events)):
                        raise ActorDefinitionError(
                            f"EventSourcedActor[{state}, {events}] must name classes that are defined before"
                            f" it: {_EXAMPLE}"
                        )
                    return state, events
        raise ActorDefinitionError(f"it must say its state and its events: {_EXAMPLE}")

    def _check_settings(self) -> None:
        what = self.kind.__name__
        check_count(what, "mailbox", self.kind.mailbox)
        after = self.kind.passivate_after
        if after is not None:
            check_type(what, "passivate_after", after, timedelta)
            if after <= timedelta(0):
                raise ValueError(
                    f"{what}(passivate_after={after!r}): give more than nothing, or None for never"
                )
        for name, value in self._own():
            if not callable(value) and not hasattr(value, "__get__") and name not in _SETTINGS:
                self._check_not_misspelt(name)

    def _check_not_misspelt(self, name: str) -> None:
        from difflib import get_close_matches  # noqa: PLC0415 - only classes with constants pay for the import

        near = get_close_matches(name, _SETTINGS, 1, cutoff=0.75)
        if near:
            raise ActorDefinitionError(f"it has no setting {name!r}; did you mean {near[0]!r}?")

    def _own(self) -> Iterator[tuple[str, Any]]:
        """Yield the members that users have written, those of base classes first."""
        for base in reversed(self.kind.__mro__):
            if not issubclass(self._base, base):
                yield from ((name, part) for name, part in vars(base).items() if not name.startswith("__"))

    def _check_members(self) -> None:
        """Refuse handlers that could not be run, and what takes the place of something else."""
        for maker in ("__init__", "__new__"):
            if getattr(self.kind, maker) is not getattr(self._base, maker):
                raise ActorDefinitionError(
                    f"it has {maker}(): an actor begins with its state alone, and keeps nothing else. Give"
                    " the fields of the state defaults, and let events change them"
                )
        kept: dict[str, Any] = {}
        for name, part in self._own():
            before = kept.get(name)
            if isinstance(part, (CommandDefinition, Query)):
                self._check_handler(name, cast("CommandDefinition | Query[..., Any]", part))
                if before is not None and isinstance(before, CommandDefinition) is not isinstance(
                    part, CommandDefinition
                ):
                    raise ActorDefinitionError(f"{part!r} overrides {before!r}: keep it what it was")
            elif before is not None:
                decorator = "command" if isinstance(before, CommandDefinition) else "query"
                at = defined_at(part) if inspect.isfunction(part) else self.location
                raise ActorDefinitionError(
                    f"{name} at {at} overrides {before!r}, and is none itself: put @{decorator} over it, too"
                )
            if isinstance(part, (CommandDefinition, Query)):
                kept[name] = part

    def _check_handler(self, name: str, part: CommandDefinition | Query[..., Any]) -> None:
        at = f"{part!r} at {defined_at(part.function)}"
        if name in _TAKEN:
            raise ActorDefinitionError(
                f"{at}: {name!r} means something else in each actor; choose another name"
            )
        if name != part.name:
            raise ActorDefinitionError(f"{at} is called {name!r} in the class: give it one name")
        for option in inspect.signature(part.function).parameters:
            if option in _OPTIONS:
                raise ActorDefinitionError(
                    f"{at} has a parameter {option!r}, which is an option of ask() and tell(): rename it"
                )

    def _check_apply(self) -> None:
        apply = self.kind.apply
        example = "def apply(self, state, event): ..."
        if apply is self._base.apply:
            raise ActorDefinitionError(f"it has no apply(), which changes the state by an event: {example}")
        at = f"apply at {defined_at(apply)}"
        if not inspect.isfunction(apply) or isinstance(
            inspect.getattr_static(self.kind, "apply"), staticmethod
        ):
            raise ActorDefinitionError(f"{at} must be a plain method: {example}")
        if inspect.iscoroutinefunction(apply) or inspect.isgeneratorfunction(apply):
            raise ActorDefinitionError(f"{at} must be a plain method, without `async` and `yield`: {example}")
        try:
            inspect.signature(apply).bind(None, None, None)
        except TypeError:
            raise ActorDefinitionError(f"{at} must take the state and an event: {example}") from None
