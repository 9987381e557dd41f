"""The base class of event-sourced actors, as users write them."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from ..errors import ActorDefinitionError, ActorStateError
from ..values.location import Location
from .definition import ActorDefinition

S = TypeVar("S")
E = TypeVar("E")


class StateOwner(Protocol):
    """What stands behind an instance of a user's class."""

    @property
    def state(self) -> Any: ...

    def record(self, event: Any, /) -> None: ...


class EventSourcedActor(Generic[S, E]):
    """Base of actors whose state is what their recorded events make of it.

        class Account(EventSourcedActor[AccountState, Deposited | Withdrawn], name="account"): ...

    `S` is the class of the state, a msgspec struct or a dataclass whose fields all have defaults; `E` is one
    tagged msgspec struct, or a union of them. `name` is stored with each actor, and no name of a class is.
    `FlowSystem.actor` gives references; the system makes the instances, of which each live actor has one. An
    instance keeps nothing but its state.

    Raises:
        ActorDefinitionError: when the class is defined, if it cannot work.
    """

    __slots__ = ("_id", "_owner")

    passivate_after: ClassVar[timedelta | None] = timedelta(minutes=5)
    """How long an actor stays in memory without a message; None: until the system is closed."""
    mailbox: ClassVar[int] = 10_000
    """How many messages may wait for one actor, including those whose commit is under way."""

    _definition: ClassVar[ActorDefinition]
    _id: str
    _owner: StateOwner

    def __init__(self) -> None:
        name = type(self).__name__
        raise TypeError(f"{name}() makes no actor: write system.actor({name}, id), which returns a reference")

    def __init_subclass__(cls, *, name: Any = None, **options: Any) -> None:
        super().__init_subclass__()
        frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - nothing else knows the line
        location = Location(frame.f_code.co_filename, frame.f_lineno)
        cls._definition = ActorDefinition(cls, EventSourcedActor, name, options, location)

    @property
    def id(self) -> str:
        """The actor's id."""
        return self._id

    @property
    def state(self) -> S:
        """The state, as all events so far have made it. Only `apply` changes it."""
        return self._owner.state

    def record(self, event: E) -> None:
        """Record an event: it is encoded, decoded and applied at once, and durable before any reply leaves.

        To be called in a command. All that a command records is written in one piece, or none of it.

        Raises:
            TypeError: it is not an event of this class.
            PayloadError: it cannot be stored, or would not come back equal; the message has the path.
            RuntimeError: no command of this actor is being handled.
        """
        self._owner.record(event)

    def apply(self, state: S, event: E) -> None:
        """Change the state by an event: now, and again at each recovery. The only place that changes it.

        It must depend on nothing but its arguments, and do nothing else.
        """
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        raise ActorStateError(
            f"self.{name} of {type(self).__name__} {self._id!r} was assigned to: an actor keeps what its"
            f" events make of its state, and nothing else. Make {name!r} a field of the state, record an"
            " event, and change the field in apply()"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id!r}>"

    if not TYPE_CHECKING:  # pragma: no branch - hidden, since a command may be called so

        @classmethod
        def start(cls, *_: Any, **__: Any) -> None:
            """Refuse what starts Pykka's own actors."""
            raise TypeError(
                f"{cls.__name__} is started by its first message: system.actor({cls.__name__}, id)"
            )


def definition_of(kind: Any) -> ActorDefinition:
    """Return the definition of an actor's class.

    Raises:
        ActorDefinitionError: it is not one.
    """
    if isinstance(kind, type) and issubclass(kind, EventSourcedActor) and kind is not EventSourcedActor:
        return kind._definition  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - it has no public name, which users could need
    raise ActorDefinitionError(f"{kind!r} is not a class that derives from EventSourcedActor")


def new_actor(definition: ActorDefinition, actor_id: str, owner: StateOwner) -> Any:
    """Make the instance of a user's class for one incarnation."""
    actor: Any = object.__new__(definition.kind)
    object.__setattr__(actor, "_id", actor_id)
    object.__setattr__(actor, "_owner", owner)
    return actor
