"""Flows: ordinary Python that survives the process it runs in."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from .errors import FlowDefinitionError
from .payload import WIDEST_LIMITS, Codec, Parameters, hints_of
from .query import Query
from .signal import Signal
from .step import Step, check_name, refuse_assignment, takes_self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class Flow:
    """Base of flow classes. An instance is one flow while it runs; its `__init__` takes no arguments.

    What the flow's body assigns to `self` is rebuilt by each replay. Steps and queries see it, and
    may not assign to it. When a flow is put to rest, or its process ends, its body is dropped where it
    waits: `finally` blocks run then, and can await nothing any more. Clean-up that must happen belongs
    into steps that are awaited in an `except` block.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign, in the flow's own code only."""
        refuse_assignment(self, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        """Delete, in the flow's own code only."""
        refuse_assignment(self, name)
        object.__delattr__(self, name)


class FlowCall(msgspec.Struct, Generic[R], frozen=True):
    """A flow with its arguments, ready for `FlowSystem.start`."""

    definition: FlowDefinition[..., R]
    data: bytes


class FlowDefinition(Generic[P, R]):
    """The definition of a flow, as `@flow` makes it.

    For a method there is one for each class that it is looked up on: `SignupFlow.sign_up`.
    """

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R]],
        *,
        name: str | None = None,
        owner: type | None = None,
    ) -> None:
        self.function = function
        self.owner = owner
        self._chosen = name
        self._of: dict[type, FlowDefinition[..., R]] = {}
        self.__doc__ = function.__doc__
        if not inspect.iscoroutinefunction(function):
            what = getattr(function, "__qualname__", repr(function))
            raise FlowDefinitionError(
                f"flow {what} must be `async def`, without `yield`: its body awaits what is durable"
            )
        self.is_method = takes_self(function)
        check_name(self.name, "flow")

    @property
    def name(self) -> str:
        """The name under which it is stored: the chosen one, or the class's and the method's."""
        if self._chosen is not None:
            return self._chosen
        own = self.function.__name__
        return f"{self.owner.__name__}.{own}" if self.owner is not None else own

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters, `self` left out."""
        return Parameters(self.function, f"flow {self.name!r}", skip_self=self.is_method)

    @cached_property
    def result(self) -> Codec:
        """The codec of what the flow returns."""
        hints = hints_of(self.function, f"flow {self.name!r}")
        return Codec(hints.get("return", Any), f"the result of flow {self.name!r}")

    @cached_property
    def signals(self) -> dict[str, Step[..., Any]]:
        """The steps that its signals run as, by the signals' names."""
        return {unit.name: unit for unit, is_signal in self._units() if is_signal}

    @cached_property
    def queries(self) -> dict[str, Query[..., Any]]:
        """The queries that it answers, by name."""
        found = [cast("Query[..., Any]", part) for part in self._parts() if isinstance(part, Query)]
        return {query.name: query for query in found}

    def _parts(self) -> list[Any]:
        """Return what the class consists of, what it overrides left out."""
        parts: dict[str, Any] = {}
        for base in reversed(self.owner.__mro__ if self.owner is not None else ()):
            parts.update(vars(base))
        return list(parts.values())

    def _units(self) -> Iterator[tuple[Step[..., Any], bool]]:
        """Yield the steps of the class, and whether each is a signal's."""
        for part in self._parts():
            if isinstance(part, Signal):
                yield cast("Signal[..., Any]", part).step, True
            elif isinstance(part, Step):
                yield cast("Step[..., Any]", part), False

    def prepare(self) -> None:
        """Check the whole definition, with all its steps and signals.

        Raises:
            FlowDefinitionError: something in it cannot work.
        """
        if self.is_method:
            self._check_owner()
        self.parameters.prepare()
        _ = self.result
        seen: dict[str, Step[..., Any]] = {}
        for step, _ in self._units():
            step.prepare()
            if seen.setdefault(step.name, step) is not step:
                raise FlowDefinitionError(f"flow {self.name!r} has two steps named {step.name!r}")

    def _check_owner(self) -> None:
        if self.owner is None or not issubclass(self.owner, Flow):
            raise FlowDefinitionError(f"flow {self.name!r} takes self, so its class must derive from Flow")
        try:
            inspect.signature(self.owner).bind()
        except TypeError as error:
            raise FlowDefinitionError(
                f"flow {self.name!r}: {self.owner.__name__}() must work without arguments, since a recovery"
                f" makes the instance anew ({error}); a flow's arguments are those of its @flow method"
            ) from None
        except ValueError:
            pass  # a signature that cannot be read is no reason to refuse it

    def new(self) -> Any:
        """Make the instance that one flow will run on."""
        return self.owner() if self.is_method and self.owner is not None else None

    def body(self, instance: Any, values: msgspec.Struct) -> Coroutine[Any, Any, R]:
        """Return the flow's coroutine, not yet started."""
        return self.parameters.call(values, instance) if self.is_method else self.parameters.call(values)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> FlowCall[R]:
        """Bind and seal the arguments of a new flow.

        Raises:
            TypeError: they do not fit the signature.
            PayloadError: one of them cannot be stored.
        """
        data, _ = self.parameters.codec.seal(self.parameters.bind(args, kwargs), WIDEST_LIMITS)
        return FlowCall(self, data)

    def __get__(
        self: FlowDefinition[Concatenate[S, Q], R], instance: S | None, owner: type[S]
    ) -> FlowDefinition[Q, R]:
        """Return the definition of this flow for the class that it is looked up on."""
        known: Any = self._of.get(owner)
        if known is None:
            made: Any = FlowDefinition(self.function, name=self._chosen, owner=owner)
            known = self._of.setdefault(owner, made)  # two threads may get here at once
        return known

    def __repr__(self) -> str:
        return f"<flow {self.name!r}>"


class FlowDecorator(Protocol):
    """What `@flow(...)` with options is."""

    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> FlowDefinition[P, R]:
        """Make a function a flow."""
        ...


@overload
def flow(function: Callable[P, Coroutine[Any, Any, R]], /) -> FlowDefinition[P, R]: ...
@overload
def flow(*, name: str | None = None) -> FlowDecorator: ...
def flow(function: Any = None, /, **options: Any) -> Any:
    """Make an `async def` method or function a durable flow.

    Its body is driven by the engine and not by asyncio: it awaits steps, signals and the durable
    vocabulary, and nothing else.

    Args:
        function: the function, when the decorator is used without options.
        **options: `name`, under which it is stored (default: `Class.method`; give one before renaming it).

    Raises:
        FlowDefinitionError: it is not `async def`, or the name cannot be stored.
    """
    if function is not None:
        return FlowDefinition[..., Any](function)

    def decorate(function: Callable[..., Coroutine[Any, Any, Any]]) -> FlowDefinition[..., Any]:
        return FlowDefinition(function, **options)

    return decorate


class Registry:
    """The flows that a system can run, by the names under which they are stored."""

    def __init__(self, flows: tuple[type[Flow] | FlowDefinition[..., Any], ...]) -> None:
        self._definitions: dict[str, FlowDefinition[..., Any]] = {}
        for entry in flows:
            self.add(entry)

    def add(self, entry: type[Flow] | FlowDefinition[..., Any]) -> None:
        """Take in the flows of a class, or one definition; again does nothing.

        Raises:
            FlowDefinitionError: a definition cannot work, or another flow has its name.
        """
        for definition in definitions_of(entry):
            self._add(definition)

    def _add(self, definition: FlowDefinition[..., Any]) -> None:
        definition.prepare()
        other = self._definitions.setdefault(definition.name, definition)
        if other is not definition:
            raise FlowDefinitionError(
                f"two flows are named {definition.name!r}; give one of them another: @flow(name=...)"
            )

    def find(self, name: str) -> FlowDefinition[..., Any] | None:
        """Return the definition that is stored under a name."""
        return self._definitions.get(name)

    def __contains__(self, definition: object) -> bool:
        return isinstance(definition, FlowDefinition) and self._definitions.get(definition.name) is definition

    def __iter__(self) -> Any:
        return iter(self._definitions.values())


def definitions_of(entry: type[Flow] | FlowDefinition[..., Any]) -> list[FlowDefinition[..., Any]]:
    """Return the flows of a class, or the one definition that was given.

    Raises:
        FlowDefinitionError: there are none.
    """
    if isinstance(entry, FlowDefinition):
        return [entry]
    found: list[FlowDefinition[..., Any]] = []
    if inspect.isclass(entry):  # pyright: ignore[reportUnnecessaryIsInstance, reportUnnecessaryComparison] - the caller may err
        names = [name for base in reversed(entry.__mro__) for name in vars(base)]
        parts: list[Any] = [getattr(entry, name, None) for name in dict.fromkeys(names)]
        found = [part for part in parts if isinstance(part, FlowDefinition)]
    if not found:
        raise FlowDefinitionError(
            f"{entry!r} is no flow: it is neither made by @flow nor a class with a method that is"
        )
    return found
