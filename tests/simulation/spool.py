"""A spool in memory, which outlives the simulated processes, one of which may die while it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

from persistasaurus.actors.remote import poller as intake
from persistasaurus.actors.remote.poller import Intake, LookIn
from persistasaurus.store import StoreUnusable

if TYPE_CHECKING:
    from typing import Any

    from persistasaurus import FlowSystem
    from simulation.run import Run

_PAUSE_S = (0.05, 2.0)
"""So often is looked for orders. Days go by: as often as on a disk would take most of the time there is."""


def seldom() -> Any:
    """Have the spool looked into less often, for as long as this lasts."""
    return mock.patch.object(intake, "_PAUSE_S", _PAUSE_S)


class MemorySpool:
    """What clients have left, and what they are answered; as `store.spool.Spool`, whose files are tested."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._number = 0
        self.new: dict[str, bytes] = {}
        self.answers: dict[str, bytes] = {}

    def serve(self, system: FlowSystem) -> None:
        """Have the orders taken in by a system."""
        Intake.start_on(system._control, system.client, self).tell(LookIn())

    # --------------------------------------------------------------------------------- for clients
    def put(self, data: bytes) -> str:
        self._number += 1
        name = f"{self._number:020d}-a"
        self.new[name] = data
        return name

    def take_answer(self, name: str) -> bytes | None:
        if name in self.answers:
            self.new.pop(name, None)
        return self.answers.pop(name, None)

    # --------------------------------------------------------------------------------- for the intake
    def pending(self) -> list[str]:
        return sorted(self.new)

    def read(self, name: str) -> bytes | None:
        if name in self.answers:
            self.new.pop(name, None)
        return self.new.get(name)

    def answer(self, name: str, data: bytes, *, durable: bool = False) -> None:
        self._look_alive()
        self.answers[name] = data
        if self._run.disturbance.strikes_here():
            self._run.simulation.kill()
        else:
            self.new.pop(name, None)

    def refuse(self, name: str, data: bytes, reason: str) -> None:
        self._look_alive()

    def set_aside(self, name: str, reason: str) -> None:
        raise AssertionError(f"{name} is an order, and was set aside: {reason}")

    def sweep(self) -> None:
        pass

    def _look_alive(self) -> None:
        if self._run.simulation.schedule.is_dead:
            raise StoreUnusable("the power has failed")
