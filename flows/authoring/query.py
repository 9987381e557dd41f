"""Queries: what a flow or an actor reports about itself, whether it is at work, waits, or has ended."""

from __future__ import annotations

import inspect
from functools import cached_property
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ..errors import FlowDefinitionError
from ..values.codec import WIDEST_LIMITS, Codec, Parameters
from ..values.copies import copied
from ..values.location import defined_at
from .call import Call
from .decoration import check_function, check_name
from .step import takes_self

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from ..values.loan import Loan

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
C_co = TypeVar("C_co", covariant=True)
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)


class QueryCall(Call[S_contra, R_co], Generic[S_contra, R_co], frozen=True):
    """A query with its arguments, ready for `handle.query` of a flow, or `ask` of an actor."""

    query: Query[..., R_co]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class QueryType(Generic[P, R_co]):
    """A query, as seen from outside: `SignupFlow.sent`, `Account.balance`."""

    def __init__(self, query: Query[..., R_co]) -> None:
        self.query = query

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> QueryCall[Any, R_co]:
        """Bind arguments, which are not stored and may be anything. Values are copied."""
        return QueryCall(self.query, copied(args), copied(kwargs))


class Query(Generic[P, R_co]):
    """The definition of a query, as `@query` makes it."""

    def __init__(self, function: Callable[P, R_co]) -> None:
        check_function("query", function)
        self.function = function
        self.name = function.__name__
        self.owner: type | None = None
        self.__doc__ = function.__doc__
        check_name(self.name, "query")
        if inspect.iscoroutinefunction(function) or not takes_self(function):
            raise FlowDefinitionError(
                f"query {self.name!r} at {defined_at(function)}: a query is a plain method,"
                f" def {self.name}(self, ...); it reads what is kept on self, and awaits nothing"
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise FlowDefinitionError(
                f"query {self.name!r} at {defined_at(function)} is a generator; a query returns one value: a"
                " list, instead of `yield`"
            )

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = owner

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters without `self`, for arguments that come as JSON."""
        return Parameters(self.function, f"query {self.name!r}", skip_self=True)

    def fits(self, instance: Any) -> bool:
        """Return whether it is a query of this flow, and the flow has state at all."""
        return instance is not None and (self.owner is None or isinstance(instance, self.owner))

    def __repr__(self) -> str:
        return f"<query {self.name!r}>"

    @overload
    def __get__(
        self: Query[Concatenate[S, Q], R_co], instance: None, owner: type[S]
    ) -> QueryType[Q, R_co]: ...
    @overload
    def __get__(self: Query[Concatenate[S, Q], R_co], instance: S, owner: type[S]) -> Callable[Q, R_co]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        return QueryType[..., Any](self) if instance is None else MethodType(self.function, instance)

    def ask(self, loan: Loan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer from the state of a flow. The answer is a copy.

        Raises:
            FlowStateError: the query changed the flow's state.
        """
        function: Callable[..., Any] = self.function
        with loan as view:
            return function(view, *copied(args), **copied(kwargs))


if TYPE_CHECKING:

    class QueryMethod(Generic[S_co, C_co]):
        """A query of a class, as type checkers see it: without `self`, so that subclasses may override it."""

        @overload
        def __get__(
            self: QueryMethod[S, Callable[P, R]], instance: None, owner: type
        ) -> Callable[P, QueryCall[S, R]]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> C_co: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


class JsonQuery:
    """A query whose arguments came as JSON, and whose answer is JSON."""

    def __init__(self, query: Query[..., Any], values: msgspec.Struct) -> None:
        self._query = query
        self._values = values
        self.name = query.name
        self.fits = query.fits

    def ask(self, loan: Loan, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> bytes:
        """Answer from the state of a flow.

        Raises:
            FlowStateError: the query changed the flow's state.
            PayloadError: the answer has no JSON form.
        """
        parameters = self._query.parameters
        with loan as view:
            answer = parameters.call(copied(self._values), view)
        return Codec(Any, f"the answer of {parameters.what}").encode(answer, WIDEST_LIMITS)

    def __repr__(self) -> str:
        return repr(self._query)


def query(function: Callable[Concatenate[S, P], R], /) -> QueryMethod[S, Callable[P, R]]:
    """Make a method of a flow or an actor a query: it reads the state, and changes nothing.

    It runs between two steps of a flow, or two commands of an actor, on a thread that drives them all, so it
    must not block.

    Raises:
        FlowDefinitionError: it is not a plain method.
    """
    made: Any = Query(function)
    return made
