"""Drives one event-sourced actor by hand: a command, the events that it records, and its state.

kit = ActorTestKit(Account, "ada")
ran = kit.run(Account.deposit, 100)
assert (ran.events, ran.reply, ran.state) == ([Deposited(100)], 100, AccountState(100))
kit.restart()                               # recovered from its events, it is the same
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from ...flows.entities.actor import EventSourcedActor, definition_of
from ...flows.values.copies import copied
from ...flows.values.sameness import Comparison, Pair
from .simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ...flows.authoring.call import Call
    from ..entities.entity_actor import EntityActor
    from ..ref import Ref

__all__ = ["ActorTestKit", "Ran"]

A = TypeVar("A", bound=EventSourcedActor[Any, Any])
P = ParamSpec("P")
R = TypeVar("R")


class Ran(NamedTuple):
    """The outcome of a command or query: the recorded events, the reply, and the state after it."""

    events: list[Any]
    reply: Any
    state: Any


class ActorTestKit(Generic[A]):
    """Runs one actor in a simulated process, on a store in memory.

    After each command and query it compares the state with what the events make of it.
    """

    def __init__(self, kind: type[A], actor_id: str = "actor") -> None:
        self.kind = kind
        self.actor_id = actor_id
        self._definition = definition_of(kind)
        self._simulation = Simulation([], actors=[kind], debug=True)

    @property
    def state(self) -> Any:
        """A copy of the actor's state."""
        return copied(self._entity().state)

    @property
    def events(self) -> list[Any]:
        """All recorded events."""
        store = self._simulation.system.store
        if store.header(self.actor_id) is None:
            return []
        return [self._definition.events.decode(record.data) for record in store.read(self.actor_id)]

    @overload
    def run(self, call: Call[A, Any], /) -> Ran: ...
    @overload
    def run(self, call: Callable[P, Call[A, Any]], /, *args: P.args, **kwargs: P.kwargs) -> Ran: ...
    def run(self, call: Any, /, *args: Any, **kwargs: Any) -> Ran:
        """Send a command or a query, and wait until its events are durable.

        Raises:
            ActorStateError: it has changed the state without an event.
            Exception: whatever it raises; nothing was recorded then.
        """
        before = len(self.events)
        reply = self._ref().ask(call, *args, **kwargs)
        self._simulation.run_until_idle()
        return Ran(self.events[before:], reply, self.state)

    def restart(self) -> Any:
        """Kill the process, recover the actor from its events, and return its state, which is the same.

        Raises:
            AssertionError: it differs, so `apply` depends on more than the state and the event.
        """
        before = self.state
        self._simulation.crash()
        after = self.state
        change = Comparison().first_difference([Pair("state", before, after)])
        if change is not None:
            raise AssertionError(
                f"{self.kind.__name__} {self.actor_id!r} is not what its events make of it: {change.path} was"
                f" {change.live!r}, and recovered {change.rebuilt!r}. apply() must depend on nothing but the"
                " state and the event."
            )
        return after

    def close(self) -> None:
        """End the process, and forget the store."""
        self._simulation.crash()
        self._simulation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ref(self) -> Ref[A]:
        return self._simulation.system.actor(self.kind, self.actor_id)

    def _entity(self) -> EntityActor:
        """Return the live actor, which is started if it does not live.

        Raises:
            ActorFailed: it cannot be recovered.
        """
        return self._simulation.system.entities.awake(self._definition, self.actor_id)
