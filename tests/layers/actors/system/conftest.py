"""Flow systems that end with their test, on real threads, and on a clock of one's own where time matters."""

from __future__ import annotations

import subprocess
from itertools import count
from threading import enumerate as threads
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import FlowSystem, SupervisorRules
from persistasaurus.actors.flows.active_flow import RestartRules
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.store import Durability
from system.doubles import Gate, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOON = RestartRules(initial_s=0.001, max_restarts=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def make_system(gate: Gate) -> Iterator[Callable[..., FlowSystem]]:
    """Open systems that restart crashed flows at once; all are closed after the test, and leave no thread."""
    made: list[FlowSystem] = []
    before = set(threads())

    def make(*flows: Any, path: Any = ":memory:", **options: Any) -> FlowSystem:
        options.setdefault("durability", Durability.MAY_LOSE_LAST_COMMITS)
        options.setdefault("rules", SupervisorRules(restart=SOON))
        system = FlowSystem(path, flows=flows, **options)
        made.append(system)
        return system

    yield make
    gate.open()
    for system in reversed(made):
        system.close()
    wait_until(lambda: not {t for t in threads() if "persistasaurus" in t.name} - before)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def environment(clock: ManualClock) -> Environment:
    return Environment(clock=clock, alarms=ManualAlarms(clock), dispatcher=Environment.system().dispatcher)


@pytest.fixture
def killed(tmp_path: Path) -> Callable[[Path], Path]:
    """Copy a store as a killed process would leave it at this instant."""
    numbers = count(1)

    def copy(path: Path) -> Path:
        to = tmp_path / f"killed-{next(numbers)}.db"
        for suffix in ("", "-wal"):
            # Not in this process, where closing the file would let go of the owner's locks.
            subprocess.run(["cp", f"{path}{suffix}", f"{to}{suffix}"], check=True)
        return to

    return copy
