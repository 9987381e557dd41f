"""Persistasaurus itself."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import bare
from bench_flows import FLOWS, Sequence, Waiting
from persistasaurus import Durability, FlowSystem, Limits, SignalTo, SupervisorRules
from provenance import versions_of

from contenders.contender import Contender, Sizes

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


class Engine(Contender):
    """A flow system on a file."""

    sizes = Sizes(alone=100, long=600, many=2000, wide=200, start=3000, signal=150, burst=3000)

    def __init__(self, path: Path, durability: Durability) -> None:
        self.path = path
        self._durability = durability
        self._ids = count()
        self._position = 0
        self._commits = 0
        self._counted = 0

    def __enter__(self) -> Self:
        # Flows are passivated soon: what is measured then waits for less, and does the same.
        self.system = FlowSystem(
            self.path,
            flows=FLOWS,
            durability=self._durability,
            limits=Limits(events=10**9, history_bytes=10**12),
            rules=SupervisorRules(idle_s=0.2),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.system.close()

    def versions(self) -> dict[str, str]:
        return versions_of("persistasaurus", "apsw", "msgspec", "pykka")

    def run(self, steps: int) -> int:
        return self.system.run(Sequence.count, steps)

    def start(self, steps: int) -> Any:
        return self.system.start(Sequence.count, steps)

    def start_waiting(self) -> Any:
        return self.system.start(Waiting.wait, "signal", flow_id=f"w-{next(self._ids)}")

    def until_waiting(self) -> None:
        until_at_rest(self.system)

    def signal(self, handle: Any, value: int) -> None:
        handle.signal("go", value)

    def result(self, handle: Any) -> int:
        return handle.result()

    def mark(self) -> None:
        self._position = bare.last_position(self.path)
        self._commits = self.system.statistics().commits

    def commits(self) -> int:
        self._counted = self.system.statistics().commits - self._commits
        return self._counted

    def bare_s(self) -> float:
        return bare.replay(self.path, self._position, self._counted, self._durability)


class BatchedEngine(Engine):
    """The same, asked for many things by one call."""

    def start_all(self, flows: int, steps: int) -> list[Any]:
        return self.system.start_many([Sequence.count(steps) for _ in range(flows)])

    def start_all_waiting(self, flows: int) -> list[Any]:
        return self.system.start_many({f"b-{number}": Waiting.wait("signal") for number in range(flows)})

    def signal_all(self, handles: list[Any]) -> None:
        self.system.signal_many([SignalTo(handle.id, "go", number) for number, handle in enumerate(handles)])


def until_at_rest(system: FlowSystem) -> None:
    """Wait until no flow has an actor any more."""
    pause = threading.Event()
    while system.statistics().live_flows:
        pause.wait(0.02)


def make(folder: Path, *, batched: bool = False, relaxed: bool = False) -> Contender:
    durability = Durability.MAY_LOSE_LAST_COMMITS if relaxed else Durability.FULL
    return (BatchedEngine if batched else Engine)(folder / "engine.db", durability)
