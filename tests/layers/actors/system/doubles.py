"""What tests of the running system are made of."""

from __future__ import annotations

from collections import Counter
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.flows import events
from persistasaurus.store import (
    CommitUnknown,
    Durability,
    LoadedStream,
    RecordCorrupt,
    SqliteStore,
    StoreError,
)
from persistasaurus.store.files.black_box import BlackBox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest
    from persistasaurus import FlowHandle, FlowSystem
    from persistasaurus.actors.testing.simulation import Simulation

DEAD_MAN_S = 20.0
_never = Event()


def wait_until(condition: Callable[[], Any], seconds: float = DEAD_MAN_S) -> None:
    """Wait for what nobody signals. The last resort."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"not in {seconds} s"
        _never.wait(0.002)


class Gate:
    """Holds steps up. `arrived` is set when one has come."""

    def __init__(self) -> None:
        self.arrived = Event()
        self._open = Event()

    def __call__(self) -> None:
        self.arrived.set()
        assert self._open.wait(DEAD_MAN_S)

    def wait(self) -> None:
        assert self.arrived.wait(DEAD_MAN_S)

    def open(self) -> None:
        self._open.set()


def kinds(handle: FlowHandle[Any]) -> list[str]:
    """Tell a history as the names of its events."""
    return [events.kind(e.event) for e in handle.events()]


def completions(handle: FlowHandle[Any]) -> Counter[int]:
    """Count how often each step is recorded as completed."""
    return Counter(e.event.step for e in handle.events() if isinstance(e.event, events.StepCompleted))


def live_flows(system: FlowSystem) -> set[str]:
    """Tell which flows have an actor, or are on their way to one."""
    supervisor = system.supervisor.actor_inbox.owner
    return set(supervisor._active)


def supervisor_of(system: FlowSystem) -> Any:
    return system.supervisor.actor_inbox.owner


def memory_store() -> SqliteStore:
    return SqliteStore.open(":memory:", now=SystemClock().now, durability=Durability.MAY_LOSE_LAST_COMMITS)


class MortalBlackBox(BlackBox):
    """A black box that is written to by the living only."""

    def __init__(self, memory: bytearray, simulation: Simulation) -> None:
        super().__init__(memory=memory)
        self._simulation = simulation

    def finish(self, slot: int) -> None:
        if not self._simulation.schedule.is_dead:
            super().finish(slot)


def share_black_box(simulation: Simulation) -> None:
    """Have the simulated processes share a black box as they share a store."""
    memory = bytearray()
    opened = simulation._open_store

    def open_store(clock: Any) -> Any:
        simulation._options["blackbox"] = MortalBlackBox(memory, simulation)
        return opened(clock)

    simulation._open_store = open_store


class FaultyStore:
    """A store that passes everything through, and fails commits as it is told."""

    def __init__(self, store: SqliteStore, fail: Callable[[int, FaultyStore], None] | None = None) -> None:
        self.inner = store
        self.commits = 0
        self.reopens = 0
        self.fail: Callable[[int, FaultyStore], None] | None = fail
        self.before_reopen: Callable[[], None] | None = None
        self.writes: Sequence[Any] = ()

    def commit(self, writes: Sequence[Any]) -> Any:
        self.commits += 1
        self.writes = writes
        if self.fail is not None:
            self.fail(self.commits, self)
        return self.inner.commit(writes)

    def reopen(self) -> None:
        self.reopens += 1
        if self.before_reopen is not None:
            self.before_reopen()
        self.inner.reopen()

    def load(self, streams: Sequence[str], **limits: int) -> Any:
        """Load by the questions that a test has put others in the place of, if it has."""
        if self.__dict__.keys() & {"header", "read", "inbox"}:
            return [self._loaded(stream) for stream in streams]
        return self.inner.load(streams, **limits)

    def _loaded(self, stream: str) -> Any:
        try:
            header = self.header(stream)
            if header is None:
                return None
            parts = (
                _or_corrupt(lambda: self.read(stream)),
                _or_corrupt(lambda: self.inbox(stream, limit=1000)),
            )
            return LoadedStream(header, *parts, has_more=False)
        except StoreError as error:
            return error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _or_corrupt(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RecordCorrupt as error:
        return error


def losing(_: int, store: FaultyStore) -> None:
    """Lose the next commit, which halts the store."""
    store.fail = None
    store.inner._halted = error = CommitUnknown("injected")
    raise error


def losing_records(number: int, store: FaultyStore) -> None:
    """Lose the next commit that has records, which halts the store."""
    if any(getattr(write, "records", ()) for write in store.writes):
        losing(number, store)


def damage_inbox(store: FaultyStore, flow_id: str, reason: str) -> None:
    """Have a flow's inbox be unreadable, until `store.inbox` is deleted."""

    def inbox(stream: str, limit: int) -> Any:
        if stream == flow_id:
            raise RecordCorrupt(stream, None, reason)
        return store.inner.inbox(stream, limit=limit)

    store.inbox = inbox  # type: ignore[attr-defined]


def crashing(monkeypatch: pytest.MonkeyPatch, flow_id: str, name: str = "on_start") -> list[int]:
    """Have the actors of one flow crash, until the list that is returned is emptied and refilled."""
    crashes: list[int] = []
    original = getattr(FlowActor, name)

    def crash(self: FlowActor, *args: Any, **kwargs: Any) -> Any:
        if self.flow_id == flow_id and crashes != [-1]:
            crashes.append(self.incarnation)
            raise ZeroDivisionError("injected")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(FlowActor, name, crash)
    return crashes
