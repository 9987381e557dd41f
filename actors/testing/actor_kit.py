"""Drives one event-sourced actor by hand: a command, the events that it records, and its state.

kit = ActorTestKit(Account, "acc-1")
ran = kit.run(100)
assert (ran.events, ran.reply, ran.state) == ([Deposited(100)], 100, {"balance": 100})
kit.restart()                               # recovered from its events, it is the same
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from ..persistence.event_sourced import EventSourcedActor
from .simulation import Simulation

if TYPE_CHECKING:
    from typing import Self

    from pykka import ActorRef

__all__ = ["ActorTestKit", "Ran"]

A = TypeVar("A", bound=EventSourcedActor[Any])
_OWN = ("stream_id", "version")


class Ran(NamedTuple):
    """The outcome of a command: the recorded events, the reply, and the actor's state after it."""

    events: list[Any]
    reply: Any
    state: dict[str, Any]


class ActorTestKit(Generic[A]):
    """Runs one actor in a simulated process, on a store in memory; `args` are as for `FlowSystem.actor`."""

    def __init__(self, kind: type[A], stream_id: str = "actor", *args: Any) -> None:
        self.kind = kind
        self.stream_id = stream_id
        self._args = args
        self._simulation = Simulation([])

    @property
    def state(self) -> dict[str, Any]:
        """A copy of the actor's attributes, without those that begin with an underscore."""
        named = vars(self._actor()).items()
        own = {name: value for name, value in named if not name.startswith(("_", "actor_"))}
        return deepcopy({name: value for name, value in own.items() if name not in _OWN})

    @property
    def events(self) -> list[Any]:
        """All recorded events."""
        if self._simulation.system.store.header(self.stream_id) is None:
            return []
        decode = msgspec.json.Decoder(self.kind.events).decode
        return [decode(record.data) for record in self._simulation.system.store.read(self.stream_id)]

    def run(self, command: Any) -> Ran:
        """Send a command, and wait until its events are durable.

        Raises:
            Exception: whatever the command raises; nothing was recorded then.
        """
        before = len(self.events)
        reply = self._ref().ask(command)
        self._simulation.run_until_idle()
        return Ran(self.events[before:], reply, self.state)

    def restart(self) -> dict[str, Any]:
        """Kill the process, recover the actor from its events, and return its state, which is the same.

        Raises:
            AssertionError: it differs: something but `apply` has changed it, or `apply` is not pure.
        """
        before = self.state
        self._simulation.crash()
        after = self.state
        lines = [
            f"  {name}: {before.get(name, _NOTHING)!r} before, {after.get(name, _NOTHING)!r} recovered"
            for name in sorted(before.keys() | after.keys())
            if before.get(name, _NOTHING) != after.get(name, _NOTHING)
        ]
        if lines:
            what = f"{self.kind.__name__} {self.stream_id!r} is not what its events make of it"
            differences = "\n".join(lines)
            raise AssertionError(
                f"{what}:\n{differences}\nChange state only in apply(), which does nothing else."
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

    def _ref(self) -> ActorRef[A]:
        return self._simulation.system.actor(self.kind, self.stream_id, *self._args)

    def _actor(self) -> A:
        ref: Any = self._ref()
        self._simulation.run_until_idle()
        actor = ref.actor_inbox.owner
        if actor is None or not ref.is_alive():
            raise AssertionError(
                f"{self.kind.__name__} {self.stream_id!r} does not live: it failed to recover"
            )
        return cast("A", actor)


class _NoReply:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _NoReply()
