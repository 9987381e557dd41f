"""Signals: what a flow waits for from outside."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

import msgspec

from ..errors import FlowDefinitionError
from ..values.codec import WIDEST_LIMITS
from ..values.location import defined_at
from .decoration import check_function, check_options
from .request import Request
from .step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..values.codec import Codec
    from .request import Driver, Waiter

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C_co = TypeVar("C_co", covariant=True)
S = TypeVar("S")
T_co = TypeVar("T_co", covariant=True)


class SignalWait(Request[T_co]):
    """A wait for one signal. It returns the signal's payload, or the result of the signal's step."""

    __slots__ = ("_codec", "_step", "name")

    def __init__(self, name: str, step: Step[..., Any] | None, codec: Codec | None) -> None:
        super().__init__()
        self.name = name
        self._step = step
        self._codec = codec

    def begin(self, driver: Driver, waiter: Waiter) -> None:
        driver.begin_wait(self.name, self._step, self._codec, waiter)

    def __repr__(self) -> str:
        return f"<wait for signal {self.name!r}; await it>"


class SignalCall(msgspec.Struct, Generic[R_co], frozen=True):
    """A signal with its payload, ready to be sent with `handle.signal`."""

    name: str
    data: bytes


class SignalType(Generic[P, R_co]):
    """A flow's signal, as seen from outside: `SignupFlow.confirm_email_address`."""

    def __init__(self, step: Step[..., R_co]) -> None:
        self.step = step

    @property
    def name(self) -> str:
        return self.step.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> SignalCall[R_co]:
        """Bind and check the payload.

        Raises:
            TypeError: it does not fit the signature.
            PayloadError: a value in it does not fit its annotation.
        """
        parameters = self.step.parameters
        data, _ = parameters.codec.seal(parameters.bind(args, kwargs), WIDEST_LIMITS)
        return SignalCall(self.name, data)

    def __repr__(self) -> str:
        return f"<signal {self.name!r}>"


class SignalStep(Step[P, R_co]):
    """The step that a signal's payload runs as."""

    kind = "signal"


class BoundSignal(Generic[R_co]):
    """A signal of a flow, as `self.signal` in its body."""

    __slots__ = ("_step",)

    no_value = "call it, and await the call"

    def __init__(self, step: Step[..., R_co]) -> None:
        self._step = step

    def __call__(self, *args: Any, **kwargs: Any) -> SignalWait[R_co]:
        step = self._step
        if args or kwargs:
            raise TypeError(
                f"signal {step.name!r} is awaited without arguments: await {self._written}. What it returns"
                " is made of what is sent with handle.signal(...)"
            )
        return SignalWait(step.name, step, None)

    @property
    def _written(self) -> str:
        return f"self.{self._step.function.__name__}()"

    # Type checkers report an await of it; this does so without one.
    if not TYPE_CHECKING:

        def __await__(self) -> None:
            raise TypeError(f"{self!r} was awaited without being called: write `await {self._written}`")

    def __repr__(self) -> str:
        return f"<signal {self._step.name!r} of a flow; call it, and await that>"


class Signal(Generic[P, R_co]):
    """The definition of a signal, as `@signal` makes it: a wait, then a step with the signal's values."""

    def __init__(self, function: Callable[P, Any], **options: Any) -> None:
        check_function("signal", function)
        self.step: Step[..., R_co] = SignalStep[..., R_co](function, **options)
        if not self.step.is_method:
            raise FlowDefinitionError(
                f"signal {self.step.name!r} at {defined_at(function)}: a signal is a method of a flow's"
                f" class, def {function.__name__}(self, ...); outside of classes, flows await"
                " wait_for(name, type)"
            )
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.step.__set_name__(owner, name)

    @cached_property
    def type(self) -> SignalType[..., R_co]:
        return SignalType(self.step)

    @overload
    def __get__(
        self: Signal[Concatenate[S, Q], R_co], instance: None, owner: type[S]
    ) -> SignalType[Q, R_co]: ...
    @overload
    def __get__(
        self: Signal[Concatenate[S, Q], R_co], instance: S, owner: type[S]
    ) -> Callable[[], SignalWait[R_co]]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        if instance is None:
            return self.type
        return BoundSignal(self.step)


if TYPE_CHECKING:

    class SignalOfFlow(Generic[C_co, R_co]):
        """A signal as `self.signal` in a flow. mypy looks here for whether an override fits."""

        def __call__(self) -> SignalWait[R_co]: ...

    class SignalMethod(Generic[C_co, R_co]):
        """A signal of a class, as type checkers see it: without `self`, so it can be overridden."""

        @overload
        def __get__(
            self: SignalMethod[Callable[P, SignalCall[R]], R], instance: None, owner: type
        ) -> SignalType[P, R]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> SignalOfFlow[C_co, R_co]: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class SignalDecorator(Protocol):
    """What `@signal(...)` with options is."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
    ) -> SignalMethod[Callable[P, SignalCall[R]], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[S, P], R], /
    ) -> SignalMethod[Callable[P, SignalCall[R]], R]: ...


@overload
def signal(
    function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
) -> SignalMethod[Callable[P, SignalCall[R]], R]: ...
@overload
def signal(function: Callable[Concatenate[S, P], R], /) -> SignalMethod[Callable[P, SignalCall[R]], R]: ...
@overload
def signal(*, name: str | None = None) -> SignalDecorator: ...
def signal(function: Any = None, /, **options: Any) -> Any:
    """Make a method a signal: the flow awaits it without arguments, and it runs as a step with the payload.

    Signals are durable before they are acknowledged, kept in order when they come early, and
    consumed once. The sender's call checks the payload against the annotations.

    Raises:
        FlowDefinitionError: an option is invalid.
    """
    if function is not None:
        return Signal[..., Any](function)
    check_options("signal", options, ("name",))
    return partial(Signal[..., Any], **options)
