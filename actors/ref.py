"""References to event-sourced actors. A reference is a class and an id; it costs nothing to keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, TypeVarTuple, cast, overload

from ..flows.authoring.query import QueryCall, QueryType
from ..flows.entities.actor import EventSourcedActor
from ..flows.entities.command import CommandCall, CommandType
from ..flows.values.codec import check
from ..flows.values.settings import check_timeout
from .entities.messages import HandleCall
from .replies import got, got_async, refuse_on_step_loop
from .runtime.futures import Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from ..flows.authoring.call import Call
    from ..flows.entities.definition import ActorDefinition, Handler
    from .entities.directory import EntityDirectory
    from .flows.client import EngineClient

__all__ = ["Ref"]

A = TypeVar("A", bound=EventSourcedActor[Any, Any])
P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Ref(Generic[A]):
    """An actor, as seen from outside. Every method may be called from any thread.

    It outlives crashes, passivation and restarts: the actor is started by the next message. Messages of one
    sender to one actor are handled in the order in which they were sent.

    A message is given as `ref.ask(Account.withdraw, 30, timeout=2)`. Arguments by keyword and options
    together go as a call: `ref.ask(Account.withdraw(amount=30), timeout=2)`.
    """

    __slots__ = ("_client", "_definition", "_directory", "id")

    no_value = "a reference belongs to its system and cannot be stored; store the actor's id, as text"

    def __init__(
        self, definition: ActorDefinition, actor_id: str, directory: EntityDirectory, client: EngineClient
    ) -> None:
        self.id = actor_id
        self._definition = definition
        self._directory = directory
        self._client = client

    # ----------------------------------------------------------------------------------------- asking
    @overload
    def ask(
        self, call: Callable[[Unpack[Ts]], Call[A, R]], /, *args: *Ts, timeout: float | None = None
    ) -> R: ...
    @overload
    def ask(self, call: Call[A, R], /, *, timeout: float | None = None) -> R: ...
    @overload
    def ask(self, call: Callable[P, Call[A, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def ask(self, call: Any, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Send a command or a query, and wait for the reply, up to `timeout` s; None waits without limit.

        When this returns, all that the reply depends on is durable. What was asked twice may be done twice.

        Raises:
            Refused: the actor has refused the command; nothing was recorded.
            Exception: whatever the handler raises; nothing was recorded.
            PayloadError: an argument, or the reply, is not what its annotation says; nothing was recorded.
            MailboxFull: too many messages wait for the actor; this one was not accepted.
            StoreUnavailable: the store could not confirm; what the command has recorded may be durable.
            ActorTypeMismatch: the id belongs to a flow, or to an actor of another class.
            ActorFailed: the actor cannot be recovered from its events.
            DeadlockError: the caller is a handler that this actor waits for, or an `async def` step.
            TimeoutError: there was no reply in time; the command may still be handled.
        """
        check_timeout("ask", timeout)
        refuse_on_step_loop("await ask_async()")
        with self._directory.waiting_for(self.id):
            return got(self._sent(call, args, kwargs), timeout, self._unanswered())

    @overload
    async def ask_async(
        self,
        call: Callable[[Unpack[Ts]], Call[A, R]],
        /,
        *args: *Ts,
        timeout: float | None = None,  # noqa: ASYNC109 - the same as ask's
    ) -> R: ...
    @overload
    async def ask_async(
        self,
        call: Call[A, R],
        /,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the same as ask's
    ) -> R: ...
    @overload
    async def ask_async(self, call: Callable[P, Call[A, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def ask_async(
        self,
        call: Any,
        /,
        *args: Any,
        timeout: float | None = None,  # noqa: ASYNC109 - the same as ask's
        **kwargs: Any,
    ) -> Any:
        """Send a command or a query, and await the reply; raises like `ask`."""
        check_timeout("ask_async", timeout)
        return await got_async(self._sent(call, args, kwargs), timeout, self._unanswered())

    @overload
    def tell(self, call: Callable[P, CommandCall[A, Any]], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    @overload
    def tell(self, call: CommandCall[A, Any], /) -> None: ...
    def tell(self, call: Any, /, *args: Any, **kwargs: Any) -> None:
        """Send a command, and wait for nothing: it is handled at most once.

        What it raises is logged, and so is a command that is lost because its actor cannot be recovered, or
        the store cannot confirm. One that waits when the process dies is gone.

        Raises:
            PayloadError, MailboxFull, ActorTypeMismatch: as `ask`; it was not accepted.
        """
        handler, values = self._bound(call, args, kwargs)
        if not handler.is_command:
            raise TypeError(f"tell({handler!r}): a query is of no use without its answer; ask it")
        self._send(HandleCall(handler, values, None))

    def _sent(self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reply[Any]:
        reply: Reply[Any] = Reply()
        self._send(HandleCall(*self._bound(call, args, kwargs), reply))
        return reply

    def _send(self, call: HandleCall) -> None:
        self._client.check_open()
        self._directory.send(self._definition, self.id, call)

    def _bound(self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Handler, Any]:
        """Return what runs a call, and the arguments as it will see them."""
        limits = self._directory.limits
        if isinstance(call, CommandCall) and not args and not kwargs:
            handler = self._definition.handler(cast("CommandCall[Any, Any]", call).command)
            check(call.data, handler.what, limits)
            return handler, handler.parameters.codec.decode(call.data)
        if isinstance(call, QueryCall) and not args and not kwargs:
            asked = cast("QueryCall[Any, Any]", call)
            handler, args, kwargs = self._definition.handler(asked.query), asked.args, asked.kwargs
        elif isinstance(call, CommandType):
            handler = self._definition.handler(call.command)
        elif isinstance(call, QueryType):
            handler = self._definition.handler(cast("QueryType[..., Any]", call).query)
        else:
            raise TypeError(self._no_call(call))
        return handler, handler.parameters.codec.seal(handler.parameters.bind(args, kwargs), limits)[1]

    def _no_call(self, call: Any) -> str:
        kind = self._definition.kind.__name__
        if isinstance(call, (CommandCall, QueryCall)):
            return f"{call!r} has its arguments already: give none beside it, but options such as timeout="
        return f"{call!r} is neither a command nor a query: give one as its class has it, {kind}.withdraw"

    def _unanswered(self) -> str:
        return f"{self!r} has not replied"

    # ---------------------------------------------------------------------------------------- looking
    @property
    def type(self) -> str:
        """The name under which actors of its class are stored."""
        return self._definition.name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        ref = cast("Ref[Any]", other)
        return (self.id, self._definition, self._directory) == (ref.id, ref._definition, ref._directory)

    def __hash__(self) -> int:
        return hash((self.id, self._definition.name))

    def __repr__(self) -> str:
        return f"<Ref {self._definition.name} {self.id!r}>"

    if not TYPE_CHECKING:  # Type checkers report unknown names themselves.

        def proxy(self) -> None:
            """Refuse Pykka's way around the mailbox."""
            raise TypeError(
                f"{self!r} has no proxy, which would read and change its state between a decision and its"
                f" commit: ask a command or a query, ref.ask({self._definition.kind.__name__}.withdraw, 30)"
            )

        def __getattr__(self, name: str) -> None:
            kind = self._definition.kind
            is_handler = isinstance(getattr(kind, name, None), (CommandType, QueryType))
            instead = f": write ref.ask({kind.__name__}.{name}, ...)" if is_handler else ""
            raise AttributeError(f"{self!r} has no {name!r}{instead}")
