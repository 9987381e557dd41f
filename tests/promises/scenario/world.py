"""A store on disk, a clock that stands still, and systems opened on it one after the other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from persistasaurus import FlowSystem
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.flows import events
from persistasaurus.flows.examples import HelloWorldFlow
from persistasaurus.store import SqliteStore, StreamState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEAD_MAN_S = 20.0
_LOOK_S = 0.02


class Told(NamedTuple):
    """An event by its kind and by the number of its step; 0 is the flow itself."""

    kind: str
    step: int


class World:
    """What outlives a system: the file, the time, and the counts of what was called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()
        self.system: FlowSystem | None = None
        self._started_at = self.clock.now()

    def open(self, *flows: Any, **options: Any) -> FlowSystem:
        """Open the store anew, as the next process would: with alarms that know nothing."""
        self.close()
        environment = Environment(
            clock=self.clock, alarms=ManualAlarms(self.clock), dispatcher=Environment.system().dispatcher
        )
        self.system = FlowSystem(self.path, flows=flows, environment=environment, **options)
        return self.system

    def close(self) -> None:
        if self.system is not None:
            self.system.close()
            self.system = None

    def store(self) -> SqliteStore:
        """Open the store as a program does that runs no flows."""
        self.close()
        return SqliteStore.open(self.path, now=self.clock.now)

    @property
    def age_s(self) -> float:
        return (self.clock.now() - self._started_at) / 1_000_000

    # ------------------------------------------------------------------------------------- waiting
    def until(self, holds: Callable[[], bool], what: str = "what was waited for") -> None:
        """Wait until something holds. Time stands still, but what is due already may fire."""
        tries = threading.Event()
        for _ in range(int(DEAD_MAN_S / _LOOK_S)):
            if holds():
                return
            self.clock.advance(0)
            tries.wait(_LOOK_S)
        raise AssertionError(f"{what} has not happened")

    def until_told(self, flow_id: str, kind: str, step: int) -> None:
        """Wait until an event is on record."""
        told = Told(kind, step)
        self.until(lambda: told in self.story(flow_id), f"{told} of {flow_id}")

    def result(self, flow_id: str) -> Any:
        """Return a flow's result, with whatever is due on the way having fired."""
        assert self.system is not None
        handle = self.system.flow(flow_id)
        self.until(lambda: handle.header().state is StreamState.ENDED, f"the end of {flow_id}")
        return handle.result(DEAD_MAN_S)

    def settle(self, flow_id: str) -> None:
        """Have all that is under way done: a flow that starts behind it has come to its end."""
        assert self.system is not None
        self.clock.advance(0)
        self.system.start(HelloWorldFlow.say_hello, flow_id=flow_id).result(DEAD_MAN_S)

    # ----------------------------------------------------------------------------------- the record
    def history(self, flow_id: str) -> list[Any]:
        assert self.system is not None
        return self.system.flow(flow_id).events()

    def story(self, flow_id: str) -> list[Told]:
        """Return a flow's history as kinds and numbers."""
        return [told(recorded.event) for recorded in self.history(flow_id)]

    def status_of_all(self) -> set[str]:
        assert self.system is not None
        return {header.status for header in self.system.flows(limit=10_000)}


def told(event: events.Event) -> Told:
    return Told(events.kind(event), getattr(event, "step", None) or 0)


def calmly(story: list[Told]) -> list[Told]:
    """Leave attempts out: a shutdown may come when a step is on record and has not begun, or not."""
    return [told for told in story if told.kind not in ("step_attempted", "step_interrupted")]
