"""Flows: ordinary Python that survives the process it runs in."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from functools import cached_property, partial
from types import CodeType, CoroutineType, FunctionType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from ..errors import FlowDefinitionError, NotDurableError
from ..values.annotations import result_hint
from ..values.codec import WIDEST_LIMITS, Codec, Parameters, codec_of
from ..values.loan import refuse_assignment
from ..values.location import defined_at
from ..values.sameness import for_users_to_derive
from .decoration import check_async, check_function, check_name, check_options
from .impure import warn_of
from .query import Query, QueryType
from .request import is_in_flow
from .signal import Signal, SignalType
from .signal_names import UNKNOWN, signal_types
from .step import Step, takes_self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
C_co = TypeVar("C_co", covariant=True)
F = TypeVar("F", bound="Flow")


@for_users_to_derive
class Flow:
    """Base of flow classes. An instance is one flow while it runs; its `__init__` takes no arguments.

    What the flow's body keeps in `self` is rebuilt by each replay. Steps and queries see a copy of it, and
    must not change it, neither by assignment nor in place. They share objects that are not values (a lock,
    a client of an external service) with the flow.

    When a flow is passivated, or its process ends, its body is dropped where it waits: `finally` blocks run
    then, but cannot await anything. Put clean-up that must happen into steps, awaited in an `except`
    block.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        refuse_assignment(self, name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        refuse_assignment(self, name)
        object.__delattr__(self, name)


class FlowCall(msgspec.Struct, Generic[R_co], frozen=True):
    """A flow with its arguments, ready for `FlowSystem.start`."""

    definition: FlowDefinition[..., R_co]
    data: bytes

    def __repr__(self) -> str:
        # asyncio.run() shows it to whoever takes it for a coroutine.
        return (
            f"<call of {self.definition!r}, which runs in a FlowSystem: system.run(...) it, or .start(...)>"
        )

    # Type checkers report an await of it; this does so without one.
    if not TYPE_CHECKING:

        def __await__(self) -> None:
            name = self.definition.function.__name__
            if not is_in_flow():
                raise TypeError(
                    f"{self.definition!r} is not a coroutine: it runs in a FlowSystem. Write"
                    f" `await system.run_async(...{name}, ...)`, or `system.start(...)`"
                )
            raise NotDurableError(
                f"a flow awaited {self.definition!r}. A flow is started, not awaited: put what both share,"
                f" or what super().{name}() is to do, into a plain `async def` method without @flow, and"
                " await that; its steps are then this flow's. To run it as a flow of its own, start it"
                " from outside"
            )


class FlowDefinition(Generic[P, R_co]):
    """The definition of a flow, as `@flow` makes it.

    A method has one for each class that it is looked up on: `SignupFlow.sign_up`.
    """

    no_value = "a flow is started with system.start(...) and cannot be stored; store its name, as text"

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, R_co]],
        *,
        name: str | None = None,
        owner: type | None = None,
    ) -> None:
        self.function = function
        self.owner = owner
        self._chosen = name
        self._of: dict[type, FlowDefinition[..., R_co]] = {}
        self._is_prepared = False
        self.__doc__ = function.__doc__
        check_function("flow", function)
        check_async(function)
        self.is_method = takes_self(function)
        check_name(self.name, "flow")

    @property
    def name(self) -> str:
        """The name under which it is stored: the chosen one, or that of the class and method."""
        if self._chosen is not None:
            return self._chosen
        own = self.function.__name__
        return f"{self.owner.__name__}.{own}" if self.owner is not None else own

    @cached_property
    def parameters(self) -> Parameters:
        return Parameters(self.function, f"flow {self.name!r}", skip_self=self.is_method)

    @cached_property
    def result(self) -> Codec:
        hint = result_hint(self.function, f"flow {self.name!r}")
        return Codec(hint, f"the result of flow {self.name!r}")

    @cached_property
    def signals(self) -> dict[str, Step[..., Any]]:
        """The steps that its signals run as, by the signals' names."""
        return {unit.name: unit for unit, is_signal in self._units() if is_signal}

    @cached_property
    def _known_types(self) -> dict[str, list[Any]] | None:
        return signal_types(self)

    def takes_signal(self, name: str) -> bool:
        """Return whether the flow can ever wait for a signal of this name, as far as its code shows."""
        known = self._known_types
        if name in self.signals or known is None or name in known:
            return True
        # Search again before refusing it: what the code can reach may have changed.
        known = self._known_types = signal_types(self)
        return known is None or name in known

    def awaited_as(self, name: str) -> list[Codec] | None:
        """Return the types with which the code waits for a signal; None: the code does not show them."""
        types = (self._known_types or {}).get(name, [UNKNOWN])
        if any(of is UNKNOWN for of in types):
            return None
        try:
            return [codec_of(of, f"signal {name!r}") for of in types]
        except FlowDefinitionError:
            return None  # the wait itself raises it

    @property
    def signal_names(self) -> tuple[str, ...]:
        """The names of the signals that it is known to wait for."""
        return tuple(sorted({*self.signals, *(self._known_types or ())}))

    @cached_property
    def queries(self) -> dict[str, Query[..., Any]]:
        found = [cast("Query[..., Any]", part) for part in self._parts() if isinstance(part, Query)]
        return {query.name: query for query in found}

    def _parts(self) -> list[Any]:
        """Return the members of the class, without overridden ones."""
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
            FlowDefinitionError: a part of it cannot work.
        """
        if self.is_method:
            self._check_owner()
        self.parameters.prepare()
        _ = self.result
        self._check_parts()
        if not self._is_prepared:
            self._is_prepared = True
            warn_of(f"flow {self.name!r}", self.function, self.owner)
        seen: dict[str, Step[..., Any]] = {}
        for step, _ in self._units():
            step.prepare()
            other = seen.setdefault(step.name, step)
            if other is not step:
                raise FlowDefinitionError(
                    f"flow {self.name!r} has two steps named {step.name!r}, at {defined_at(other.function)}"
                    f" and at {defined_at(step.function)}: rename one of them with name=..."
                )

    def _check_parts(self) -> None:
        """Refuse an override or a wrapper that hides a step, signal, query or flow."""
        kept: dict[str, Any] = {}
        for base in reversed(self.owner.__mro__ if self.owner is not None else ()):
            for name, part in vars(base).items():
                what = f"{base.__name__}.{name}"
                wrapped: object = getattr(part, "__func__", None)
                if isinstance(wrapped, _PARTS):
                    raise FlowDefinitionError(
                        f"{what} is {wrapped!r} within a @staticmethod or @classmethod: drop that, and let"
                        " the method take `self`"
                    )
                getter: object = getattr(part, "fget", None)
                if isinstance(getter, _PARTS):
                    raise FlowDefinitionError(
                        f"{what} is {getter!r} within a @property: drop that, and call it, self.{name}()"
                    )
                if _lacks_self(part, base, name):
                    raise FlowDefinitionError(
                        f"{what} at {defined_at(part.function)} is {part!r}, whose first parameter is not"
                        f" `self`: write {name}(self, ...), or move the function out of the class"
                    )
                if kept.get(name) is not None and inspect.isfunction(part):
                    overridden = kept[name]
                    is_flow = isinstance(overridden, FlowDefinition)
                    decorator = "flow" if is_flow else type(overridden).__name__.lower()
                    raise FlowDefinitionError(
                        f"{what} at {defined_at(part)} overrides {overridden!r} with a plain method, which"
                        f" cannot be awaited in its place: put @{decorator} over it, too"
                    )
                kept[name] = part if isinstance(part, _PARTS) else None

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

    def body(self, instance: Any, values: msgspec.Struct) -> Coroutine[Any, Any, R_co]:
        """Return the flow's coroutine, not yet started."""
        return self.parameters.call(values, instance) if self.is_method else self.parameters.call(values)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> FlowCall[R_co]:
        """Bind and encode the arguments of a new flow.

        Raises:
            TypeError: they do not fit the signature.
            PayloadError: an argument cannot be stored.
        """
        data, _ = self.parameters.codec.seal(self.parameters.bind(args, kwargs), WIDEST_LIMITS)
        return FlowCall(self, data)

    def __get__(
        self: FlowDefinition[Concatenate[S, Q], R_co], instance: S | None, owner: type[S]
    ) -> FlowDefinition[Q, R_co]:
        """Return the definition of this flow for the class that it is looked up on."""
        known: Any = self._of.get(owner)
        if known is None:
            made: Any = FlowDefinition(self.function, name=self._chosen, owner=owner)
            known = self._of.setdefault(owner, made)  # two threads may get here at once
        return known

    def __repr__(self) -> str:
        return f"<flow {self.name!r}>"


if TYPE_CHECKING:

    class FlowMethod(FlowDefinition[..., R_co], Generic[C_co, R_co]):
        """A flow of a class, as type checkers see it: without `self`, so that subclasses may override it.

        A module-level flow whose first parameter may be anything looks the same, and is called as such.
        """

        def __get__(  # pyright: ignore[reportIncompatibleMethodOverride] - `self` is gone already
            self: FlowMethod[Callable[P, FlowCall[R]], R], instance: Any, owner: type[Any]
        ) -> FlowDefinition[P, R]: ...
        @overload
        def __call__(
            self: FlowMethod[Callable[P, FlowCall[R]], R], first: Any, /, *args: P.args, **kwargs: P.kwargs
        ) -> FlowCall[R]: ...
        @overload
        def __call__(self, **kwargs: Any) -> FlowCall[R_co]: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


MYPY = False
"""Only mypy takes this for true. It needs no help with overrides, and cannot resolve the overloads."""

if MYPY:

    class FlowDecorator(Protocol):  # pyright: ignore[reportRedeclaration]
        """What `@flow(...)` with options is."""

        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> FlowDefinition[P, R]: ...

    @overload
    def flow(function: Callable[P, Coroutine[Any, Any, R]], /) -> FlowDefinition[P, R]: ...
    @overload
    def flow(*, name: str | None = None) -> FlowDecorator: ...
    def flow(function: Any = None, /, **options: Any) -> Any:  # pyright: ignore[reportRedeclaration]
        """Make a function a flow."""

else:

    class FlowDecorator(Protocol):
        """What `@flow(...)` with options is."""

        @overload
        def __call__(
            self, function: Callable[Concatenate[F, P], Coroutine[Any, Any, R]], /
        ) -> FlowMethod[Callable[P, FlowCall[R]], R]: ...
        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> FlowDefinition[P, R]: ...
        def __call__(self, function: Any, /) -> Any: ...

    @overload
    def flow(
        function: Callable[Concatenate[F, P], Coroutine[Any, Any, R]], /
    ) -> FlowMethod[Callable[P, FlowCall[R]], R]: ...
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
            **options: `name`, under which it is stored (default: `Class.method`; give one before renaming
                it).

        Raises:
            FlowDefinitionError: it is not `async def`, or the name cannot be stored.
        """
        if function is not None:
            return FlowDefinition[..., Any](function)
        check_options("flow", options, ("name",))
        return partial(FlowDefinition, **options)


_PARTS = (FlowDefinition, Step, Signal, Query)


def _lacks_self(part: Any, owner: type, name: str) -> bool:
    """Tell a method without `self` from a module-level function that a class also has."""
    if not isinstance(part, (Step, FlowDefinition)) or part.is_method:
        return False
    return part.function.__qualname__ == f"{owner.__qualname__}.{name}"


class Registry:
    """The flows that a system can run, by the names under which they are stored."""

    def __init__(self, flows: Iterable[type[Flow] | FlowDefinition[..., Any]]) -> None:
        self._definitions: dict[str, FlowDefinition[..., Any]] = {}
        for entry in _listed(flows):
            self.add(entry)

    def add(self, entry: type[Flow] | FlowDefinition[..., Any]) -> None:
        """Add the flows of a class, or one definition. Adding one again does nothing.

        Raises:
            FlowDefinitionError: a definition cannot work, or another flow has its name.
        """
        for definition in definitions_of(entry):
            definition.prepare()
            other = self._definitions.setdefault(definition.name, definition)
            if other is not definition:
                raise FlowDefinitionError(
                    f"two flows are named {definition.name!r}, at {defined_at(other.function)} and at"
                    f" {defined_at(definition.function)}; rename one of them: @flow(name=...)"
                )

    def fingerprint(self) -> bytes:
        """Return 16 bytes that change with the code of a flow, or of a step of its class."""
        found = hashlib.blake2b(digest_size=16)
        for name, definition in sorted(self._definitions.items()):
            kinds = () if definition.owner is None else definition.owner.__mro__
            parts = [part for kind in kinds for _, part in sorted(vars(kind).items())]
            for part in (definition, *parts):
                function = part.function if isinstance(part, FlowDefinition | Step | Query) else part
                if isinstance(function, FunctionType):
                    found.update(name.encode(errors="replace") + _digest(function.__code__))
        return found.digest()

    def find(self, name: str) -> FlowDefinition[..., Any] | None:
        return self._definitions.get(name)

    def __contains__(self, definition: object) -> bool:
        return isinstance(definition, FlowDefinition) and self._definitions.get(definition.name) is definition

    def __iter__(self) -> Any:
        return iter(self._definitions.values())


def _digest(code: CodeType) -> bytes:
    """Return a digest of what code does: the same in each process and at any place in its file."""
    found = hashlib.blake2b(code.co_code, digest_size=16)
    found.update(repr(code.co_names).encode(errors="replace"))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.update(_digest(constant))
            continue
        # A set has another order in each process.
        is_set = isinstance(constant, frozenset)
        shown = sorted(map(repr, cast("frozenset[Any]", constant))) if is_set else constant
        found.update(repr(shown).encode(errors="replace"))
    return found.digest()


def definitions_of(entry: type[Flow] | FlowDefinition[..., Any]) -> list[FlowDefinition[..., Any]]:
    """Return the flows of a class, or the given definition.

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
            f"{entry!r} is not a flow: it is neither decorated with @flow nor a class with a method that is."
            f" {not_a_flow(entry)}"
        )
    return found


def _listed(flows: Any) -> list[Any]:
    """Return the given flows as a list.

    Raises:
        FlowDefinitionError: it is a single flow, or not a collection.
    """
    if isinstance(flows, (str, bytes)) or not isinstance(flows, Iterable):
        shown = flows.__name__ if inspect.isclass(flows) else repr(flows)
        raise FlowDefinitionError(f"flows={shown} is not a list of flows: write flows=[{shown}]")
    return list(cast("Iterable[Any]", flows))


def not_a_flow(entry: object) -> str:
    """Say what to give instead of something that is not a flow."""
    if isinstance(entry, Flow):
        return f"Give the class, {type(entry).__name__}, not an instance: each flow gets its own"
    if inspect.isclass(entry) and issubclass(entry, Flow):
        made = [name for name in dir(entry) if isinstance(getattr(entry, name, None), FlowDefinition)]
        if made:
            return f"Give the method: {entry.__name__}.{made[0]}"
        return "Put @flow over the `async def` method that is its body"
    meant = {
        (FlowCall, CoroutineType): "Give the flow without calling it",
        (Step, Signal, SignalType, Query, QueryType): "Give the flow that it belongs to, or that calls it",
        (FunctionType,): "Put @flow over the function",
        (str,): "Flows are given as they are defined; start_json starts them by name",
    }
    said = (instead for kinds, instead in meant.items() if isinstance(entry, kinds))
    return next(said, "Give classes that derive from Flow, or functions made by @flow")
