"""Commands: what an event-sourced actor is asked to do."""

from __future__ import annotations

import inspect
from functools import cached_property
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ..authoring.call import Call
from ..authoring.decoration import check_function, check_name
from ..authoring.step import takes_self
from ..errors import ActorDefinitionError, FlowDefinitionError
from ..values.codec import WIDEST_LIMITS, Parameters
from ..values.location import defined_at

if TYPE_CHECKING:
    from collections.abc import Callable

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
A_contra = TypeVar("A_contra", contravariant=True)
C_co = TypeVar("C_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class CommandCall(Call[A_contra, R_co], Generic[A_contra, R_co], frozen=True):
    """A command with its arguments, ready for `ask` and `tell`. It may be sent more than once."""

    command: CommandDefinition
    data: bytes

    def __repr__(self) -> str:
        return f"<call of {self.command!r}; send it to an actor: ref.ask(...)>"


class CommandType:
    """A command as seen from outside: `Account.withdraw`."""

    no_value = "a command is sent with ref.ask(...) and cannot be stored"

    def __init__(self, command: CommandDefinition) -> None:
        self.command = command

    def __call__(self, *args: Any, **kwargs: Any) -> CommandCall[Any, Any]:
        """Bind and encode the arguments.

        Raises:
            TypeError: they do not fit the signature.
            PayloadError: an argument is not what its annotation says.
        """
        parameters = self.command.parameters
        data, _ = parameters.codec.seal(parameters.bind(args, kwargs), WIDEST_LIMITS)
        return CommandCall(self.command, data)

    def __repr__(self) -> str:
        return repr(self.command)


class CommandDefinition:
    """The definition of a command, as `@command` makes it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            check_function("command", function)
            check_name(function.__name__, "command")
        except FlowDefinitionError as error:
            raise ActorDefinitionError(str(error)) from None
        self.function = function
        self.name = function.__name__
        self.what = f"command {'.'.join(function.__qualname__.split('.')[-2:])!r}"
        self.__doc__ = function.__doc__
        self._check()

    def _check(self) -> None:
        """Refuse a function that could not be handled in one go."""
        function, at = self.function, f"{self.what} at {defined_at(self.function)}"
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ActorDefinitionError(
                f"{at} is `async def`: an actor handles one message at a time, and its state must not change"
                " while a command waits. Write `def`, and leave what has to wait to a flow, whose steps ask"
                " the actor"
            )
        if inspect.isgeneratorfunction(function):
            raise ActorDefinitionError(f"{at} is a generator: a command returns one value, such as a list")
        if not takes_self(function):
            raise ActorDefinitionError(
                f"{at}: a command is a method of an actor's class, def {self.name}(self, ...)"
            )

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters without `self`."""
        return Parameters(self.function, self.what, skip_self=True)

    @cached_property
    def type(self) -> CommandType:
        return CommandType(self)

    def __get__(self, instance: Any, owner: type) -> Any:
        """Return, of a class, what is sent; of an instance, the method itself, for another one to call."""
        return self.type if instance is None else MethodType(self.function, instance)

    def __repr__(self) -> str:
        return f"<{self.what}>"


if TYPE_CHECKING:

    class CommandMethod(Generic[A_co, C_co]):
        """A command of a class, as type checkers see it: without `self`, so subclasses may override it."""

        @overload
        def __get__(
            self: CommandMethod[A, Callable[P, R]], instance: None, owner: type
        ) -> Callable[P, CommandCall[A, R]]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> C_co: ...
        def __get__(self, instance: Any, owner: Any) -> Any: ...


def command(function: Callable[Concatenate[A, P], R], /) -> CommandMethod[A, Callable[P, R]]:
    """Make a method of an event-sourced actor a command: it decides, records events, and replies.

    It runs on the thread that drives all actors, so it must not block. What it raises goes to the asker; it
    has recorded nothing then. Arguments and reply are stored as they are annotated.

    Raises:
        ActorDefinitionError: it is not a plain method.
    """
    made: Any = CommandDefinition(function)
    return made
