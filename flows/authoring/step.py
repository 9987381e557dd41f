"""Steps: the parts of a flow that touch the world."""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from datetime import timedelta
from functools import cached_property, partial
from types import CoroutineType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

import msgspec

from ..errors import FlowDefinitionError, FlowStateError, NotInFlowError, PayloadError
from ..values.annotations import result_hint
from ..values.codec import Codec, Parameters, PayloadLimits
from ..values.loan import Loan
from ..values.location import defined_at
from ..values.remote_state import Find, RemoteState, is_found, place_of
from .decoration import check_function, check_name, check_options, check_reconcile
from .request import Request, driver
from .retry import Retry, duration_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .request import Driver, Waiter

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

OnCrash: TypeAlias = Literal["retry", "park"]

_OPTIONS = ("name", "delay", "retry", "timeout", "isolated", "on_crash", "reconcile")
_LONGEST = timedelta(days=36_525)


class Done(msgspec.Struct, frozen=True):
    """The step's result: a `reconcile` function returns it when the effect has happened."""

    result: Any = None


class StepContext(msgspec.Struct, frozen=True):
    """The flow and step that are running.

    `idempotency_key` is the same for every attempt at this step of this flow, and for no other:
    pass it to services that recognise repeated requests by a key.
    """

    flow_id: str
    step: int
    name: str
    attempt: int

    @property
    def idempotency_key(self) -> str:
        """The flow's id and the step's number."""
        return f"{self.flow_id}/{self.step}"


class StepJob(msgspec.Struct, frozen=True, array_like=True):
    """An attempt at an isolated step, on its way to another process."""

    args: bytes
    state: RemoteState | None
    context: StepContext
    limits: PayloadLimits


_encode_job = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(StepJob).decode
_context: ContextVar[StepContext | None] = ContextVar("persistasaurus_step", default=None)
enter = _context.set
leave = _context.reset


def is_in_step() -> bool:
    return _context.get() is not None


def current_step() -> StepContext:
    """Return the context of the step that is running.

    Raises:
        NotInFlowError: no step is running here.
    """
    context = _context.get()
    if context is None:
        raise NotInFlowError("current_step() works inside a running step only")
    return context


class StepCall(Request[R_co]):
    """A call of a step, to be awaited in the flow. Nothing happens before."""

    __slots__ = ("_data", "_step")

    def __init__(self, step: Step[..., R_co], data: bytes) -> None:
        self.is_begun = False
        self._step = step
        self._data = data

    def begin(self, driver: Driver, waiter: Waiter) -> None:
        driver.begin_step(self._step, self._data, waiter)

    def __repr__(self) -> str:
        return f"<call of step {self._step.name!r}; await it>"


class Step(Generic[P, R_co]):
    """The definition of a step, as `@step` makes it. Calling it in a flow makes a `StepCall`."""

    no_value = "call it, and await the call"
    kind: ClassVar[str] = "step"
    """What its errors call it."""

    def __init__(  # noqa: PLR0913 - one for each option of the decorator
        self,
        function: Callable[P, Any],
        *,
        name: str | None = None,
        delay: timedelta | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        isolated: bool = False,
        on_crash: OnCrash = "retry",
        reconcile: Callable[..., Done | None] | None = None,
    ) -> None:
        check_function("step", function)
        self.function: Callable[P, Any] = function
        self.name = name if name is not None else function.__name__
        self.delay = delay
        self.retry = retry
        self.timeout = timeout
        self.isolated = isolated
        self.on_crash: OnCrash = on_crash
        self.reconcile = reconcile
        self.owner: type | None = None
        self._attribute = function.__name__
        self.is_method = takes_self(function)
        self.is_async = inspect.iscoroutinefunction(function)
        self.parameters = Parameters(function, f"{self.kind} {self.name!r}", skip_self=self.is_method)
        self.__doc__ = function.__doc__
        # As functools.wraps does: type checkers see a function, and inspect.unwrap() returns it.
        self.__wrapped__ = function
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self._is_prepared = False
        self._check()

    def _check(self) -> None:
        check_name(self.name, self.kind)
        what = f"{self.kind} {self.name!r} at {defined_at(self.function)}"
        if inspect.isgeneratorfunction(self.function) or inspect.isasyncgenfunction(self.function):
            raise FlowDefinitionError(
                f"{what} is a generator; a step returns one value: a list, instead of `yield`"
            )
        if not isinstance(self.isolated, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
            raise FlowDefinitionError(f"{what}: isolated must be True or False, not {self.isolated!r}")
        if self.isolated and self.is_async:
            raise FlowDefinitionError(f"{what}: isolated steps run in a process of their own; use def")
        if self.on_crash not in ("retry", "park"):
            raise FlowDefinitionError(f"{what}: on_crash must be 'retry' or 'park', not {self.on_crash!r}")
        if self.retry is not None and not isinstance(self.retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance] - the user's
            raise FlowDefinitionError(
                f"{what}: retry must be a policy, not {self.retry!r}: {_policy(self.retry)}"
            )
        if self.delay is not None:
            duration_of(what, "delay", self.delay)
        if (
            self.timeout is not None
            and not timedelta() < duration_of(what, "timeout", self.timeout) <= _LONGEST
        ):
            raise FlowDefinitionError(
                f"{what}: timeout={self.timeout!r} is not a usable timeout: give more than 0 and at most 100"
                " years; leave it out for a step without a time limit"
            )
        if self.reconcile is not None:
            check_reconcile(what, tuple(inspect.signature(self.function).parameters.values()), self.reconcile)
        if not self.is_method:
            self._look_early()

    def _look_early(self) -> None:
        """Check the annotations now: without a class, nothing else does before the first call."""
        try:
            self.parameters.prepare()
            _ = self.result
        except FlowDefinitionError as error:
            if not isinstance(error.__cause__, NameError):
                raise
            # A name defined further down is known by the first call.

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = owner
        self._attribute = name

    @property
    def place(self) -> tuple[str, str]:
        """The module that defines it, and its name there."""
        if self.owner is None:
            return self.function.__module__, self.function.__qualname__
        module, name = place_of(self.owner)
        return module, f"{name}.{self._attribute}"

    @cached_property
    def result(self) -> Codec:
        hint = result_hint(self.function, f"{self.kind} {self.name!r}")
        return Codec(hint, f"the result of {self.kind} {self.name!r}")

    def prepare(self) -> None:
        """Resolve the annotations now, before there is an effect whose result cannot be stored.

        Raises:
            FlowDefinitionError: an annotation is unknown or cannot be stored; or the step is isolated, and
                another process could not import it.
        """
        self.parameters.prepare()
        _ = self.result
        if self.isolated and not is_found(self.place, self):
            module, name = self.place
            raise FlowDefinitionError(
                f"step {self.name!r} is isolated, but another process cannot import {name!r} from {module!r}:"
                " define the step, and its class, at the top level of a module or script"
            )
        self._is_prepared = True

    def is_final(self, error: BaseException) -> bool:
        """Return whether the step must not be retried after this error.

        Either its policy says so, or a retry would not help: the step changed the flow's state, or it
        succeeded and only its result cannot be stored.
        """
        if isinstance(error, FlowStateError):
            return True
        if isinstance(error, PayloadError) and error.what == self.result.what:
            return True
        return self.retry is not None and not self.retry.covers(error)

    def bind_to(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> StepCall[R_co]:
        """Bind and encode the arguments of a call on a flow; see `BoundStep`."""
        current = driver(self) if _context.get() is None else self._refuse()
        if current.instance is not instance:
            raise NotInFlowError(
                f"step {self.name!r} was called on {type(instance).__name__!r}, which is not the flow that is"
                " running; a flow calls its own steps, and module-level ones"
            )
        parameters = self.parameters
        return StepCall(self, current.seal(parameters.codec, parameters.bind(args, kwargs)))

    def _refuse(self) -> NoReturn:
        raise NotInFlowError(
            f"step {self.name!r} was called from a step. Steps are called by flows; a step calls plain"
            " functions: call the other's `.function`, or move the call into the flow"
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> StepCall[R_co]:
        """Bind and encode the arguments of a call of a module-level step.

        Raises:
            NotInFlowError: no flow is running here.
            TypeError: the arguments do not fit the signature.
            PayloadError: an argument cannot be stored.
        """
        if self.is_method:
            raise NotInFlowError(f"step {self.name!r} is called on a flow: await self.{self.name}(...)")
        current = driver(self) if _context.get() is None else self._refuse()
        if not self._is_prepared:
            self.prepare()
        parameters = self.parameters
        return StepCall(self, current.seal(parameters.codec, parameters.bind(args, kwargs)))

    @overload
    def __get__(self, instance: None, owner: type) -> Step[P, R_co]: ...
    @overload
    def __get__(self: Step[Concatenate[S, Q], R_co], instance: S, owner: type[S]) -> BoundStep[Q, R_co]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else BoundStep(self, instance)

    def run(self, loan: Loan | None, values: msgspec.Struct, limits: PayloadLimits) -> tuple[bytes, Any]:
        """Run a `def` step, and encode its result. Exceptions of its code reach the caller.

        Raises:
            FlowStateError: the step changed the flow's state.
        """
        result = self.call_other(self.function, loan, values)
        if type(result) is CoroutineType:
            coroutine = cast("CoroutineType[Any, Any, Any]", result)
            coroutine.close()
            raise FlowDefinitionError(
                f"step {self.name!r} at {defined_at(self.function)} is `def`, and returned a coroutine,"
                f" {coroutine.__qualname__}(), of which nothing has run: make it `async def`, and await that"
                " there. If a decorator has made it `def`, make its wrapper `async def`"
            )
        return self.result.seal(result, limits)

    async def run_async(
        self, loan: Loan | None, values: msgspec.Struct, limits: PayloadLimits
    ) -> tuple[bytes, Any]:
        """Run an `async def` step, and encode its result; raises as `run` does."""
        if loan is None:
            result = await self.parameters.call(values)
        else:
            with loan as view:
                result = await self.parameters.call(values, view)
        return self.result.seal(result, limits)

    def call_other(self, function: Callable[..., Any], loan: Loan | None, values: msgspec.Struct) -> Any:
        """Call a function with the same parameters, with the flow's state; raises as `run` does."""
        if loan is None:
            return self.parameters.call_other(function, values)
        with loan as view:
            return self.parameters.call_other(function, values, view)

    def job(self, data: bytes, loan: Loan | None, context: StepContext, limits: PayloadLimits) -> bytes:
        """Encode an attempt for `call_encoded`. Raises nothing."""
        state = None if loan is None else RemoteState.of(loan.view)
        return _encode_job(StepJob(data, state, context, limits))

    def call_encoded(self, payload: bytes, find: Find) -> bytes:
        """Make an attempt that another process has encoded; return its encoded result."""
        job = _decode_job(payload)
        loan = None if job.state is None else Loan(job.state.bring_back(find, self.name), self.name, {})
        token = enter(job.context)
        try:
            return self.run(loan, self.parameters.decode(job.args), job.limits)[0]
        finally:
            leave(token)

    def __repr__(self) -> str:
        return f"<step {self.name!r}>"


class BoundStep(Generic[P, R_co]):
    """A step of one flow, as `self.step` in its body."""

    __slots__ = ("_instance", "_step")

    no_value = "call it, and await the call"

    def __init__(self, step: Step[..., R_co], instance: Any) -> None:
        self._step = step
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> StepCall[R_co]:
        """Make the call, to be awaited.

        Raises:
            NotInFlowError: the flow is not the one that is running.
            PayloadError: an argument cannot be stored; nothing was written.
        """
        return self._step.bind_to(self._instance, args, kwargs)

    # Type checkers report an await of it; this does so without one.
    if not TYPE_CHECKING:

        def __await__(self) -> None:
            raise TypeError(f"{self!r} was awaited without being called: await self.{self._step.name}(...)")

    def __repr__(self) -> str:
        return f"<step {self._step.name!r} of {type(self._instance).__name__}; call and await it>"


class StepDecorator(Protocol):
    """What `@step(...)` with options is."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, StepCall[R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, StepCall[R]]: ...


# Type checkers see a step as a function that returns a call, so in a class it is a method, which subclasses
# may override. The type of an object would not allow that, because `self` would be part of it.
@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, StepCall[R]]: ...
@overload
def step(function: Callable[P, R], /) -> Callable[P, StepCall[R]]: ...
@overload
def step(
    *,
    name: str | None = None,
    delay: timedelta | None = None,
    retry: Retry | None = None,
    timeout: timedelta | None = None,
    isolated: bool = False,
    on_crash: OnCrash = "retry",
    reconcile: Callable[..., Done | None] | None = None,
) -> StepDecorator: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Make a function or method a step: a unit of work that is recorded and not repeated.

    A step runs at least once and is recorded once. `def` steps run on threads, `async def` steps on
    one asyncio loop; neither may change the flow's state.

    Args:
        function: the function, when the decorator is used without options.
        **options: as in `Step`:
            `name`, under which it is stored (default: the function's, so give one before renaming it);
            `delay`, durable, before the first attempt;
            `retry`, a `Retry` policy (default: none, the first failure is final);
            `timeout` of one attempt (a thread cannot be killed: its late result is discarded);
            `isolated=True`, to run in a process that can be killed;
            `on_crash`, what to do if the process died during the step, or did not wait for it: `"retry"` it
            (at least once) or `"park"` the flow (at most once);
            `reconcile`, a function of the same arguments that finds out instead, and returns
            `Done(result)` if the effect has happened and None if the step is to run again.

    Raises:
        FlowDefinitionError: an option is invalid.
    """
    if function is not None:
        return Step[..., Any](function)
    check_options("step", options, _OPTIONS)
    return partial(Step[..., Any], **options)


def takes_self(function: Callable[..., Any]) -> bool:
    """Return whether a function is a method, by the name of its first parameter."""
    return next(iter(inspect.signature(function).parameters), None) == "self"


def _policy(given: object) -> str:
    if type(given) is int and given >= 1:
        return f"write retry=Retry(max_attempts={given})"
    if given is False:
        return "leave it out"
    return "write retry=Retry(...)" if isinstance(given, dict) else "write retry=Retry()"
