"""Recovery: from a flow's history to the machine that goes on with it, and what it owes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ...flows import events
from ...flows.machine.history import Recorded
from ...flows.machine.in_doubt import NONE
from ...flows.machine.machine import FlowMachine
from .parking import RECOVERABLE, UnknownFlowError, last_parked, type_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...flows import Limits, Registry
    from ...flows.machine.effects import Decision
    from ...flows.machine.in_doubt import Evidence
    from ...flows.machine.messages import Timestamp
    from ...store import EventStore, Header, LoadedStream
    from ..steps.attempts import AttemptRegistry

__all__ = ["Recovery"]

T = TypeVar("T")

_WHO, _WHY = "persistasaurus", "the code that wrote the history is back"


class Recovery(NamedTuple):
    """Makes the machines of flows that exist. Whatever it raises, no code is left behind half-way."""

    store: EventStore
    registry: Registry
    limits: Limits
    attempts: AttemptRegistry
    evidence: Evidence = NONE

    def recover(self, found: LoadedStream, moment: Timestamp) -> tuple[FlowMachine, Decision] | None:
        """Return a flow's machine with what is owed now; None: it is parked, and stays so.

        Raises:
            NondeterminismError, UnknownFlowError, RecordCorrupt, MsgspecError: it has to be parked.
        """
        header = found.header
        history, size = self._history(header.stream, found)
        parked = last_parked(r.event for r in reversed(history))
        if parked is not None and parked.reason not in RECOVERABLE:
            return None

        def decide(machine: FlowMachine) -> Decision:
            running = self.attempts.of_flow(header.stream)
            if parked is not None:
                return machine.repair(history, _WHO, _WHY, moment, running)
            machine.replay(history)
            return machine.recovered(moment, running)

        return self._made(header, size, decide)

    def repair(self, header: Header, by: str, why: str, moment: Timestamp) -> tuple[FlowMachine, Decision]:
        """Return the machine of a failed or parked flow that shall run on; raises as `recover`."""
        history, size = self._history(header.stream)
        running = self.attempts.of_flow(header.stream)
        return self._made(header, size, lambda m: m.repair(history, by, why, moment, running))

    def replayed(self, header: Header) -> FlowMachine:
        """Return the machine of a flow as its history leaves it, to look at; raises as `recover`."""
        history, size = self._history(header.stream)
        return self._made(header, size, lambda machine: machine.replay(history))[0]

    def new(self, flow_id: str, name: str) -> FlowMachine:
        """Return a machine without a history.

        Raises:
            UnknownFlowError: no flow of that name is registered.
        """
        definition = self.registry.find(name)
        if definition is None:
            raise UnknownFlowError(
                f"no flow named {name!r} is registered. Pass its class to FlowSystem(flows=[...]), or give"
                f" the renamed flow its old name: @flow(name={name!r})"
            )
        return FlowMachine(flow_id, definition, self.limits)

    def _made(self, header: Header, size: int, decide: Callable[[FlowMachine], T]) -> tuple[FlowMachine, T]:
        machine = self.new(header.stream, type_of(self.store, header))
        machine.history_bytes = size
        machine.evidence = self.evidence
        try:
            return machine, decide(machine)
        except BaseException:
            machine.close()
            raise

    def _history(self, flow_id: str, found: LoadedStream | None = None) -> tuple[list[Recorded], int]:
        """Decode a history, and how long it is in bytes; what of it was not loaded is read on."""
        records = [] if found is None else found.records
        if isinstance(records, Exception):
            raise records
        if found is None or found.has_more:
            records = [*records, *self.store.read(flow_id, after=len(records))]
        history = [Recorded(r.version, r.at, events.decode(r.data)) for r in records]
        return history, sum(len(r.data) for r in records)
