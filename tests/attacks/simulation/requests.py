"""Requests in memory, which outlive the simulated processes, one of which may die while it responds."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

from persistasaurus.actors.remote import poller
from persistasaurus.actors.remote.poller import Poll, RequestPoller
from persistasaurus.store import StoreHalted
from persistasaurus.store.requests import StoredRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from persistasaurus import FlowSystem
    from persistasaurus.store.requests import StoredRefusal, StoredResponse
    from simulation.run import Run

_PAUSE_S = (0.05, 2.0)
"""So often is looked for requests. Days go by: as often as on a disk would take most of the time there is."""
_AT_ONCE = 3


def seldom() -> Any:
    """Have requests looked for less often, for as long as this lasts."""
    return mock.patch.object(poller, "_PAUSE_S", _PAUSE_S)


class MemoryRequests:
    """What clients have left, and the responses; as `store.requests.RequestStore` says.

    It is the clients' own. Each process has a `Window` on it.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._number = 0
        self.waiting: dict[str, bytes] = {}
        self.responses: dict[str, bytes] = {}

    def serve(self, system: FlowSystem) -> None:
        """Have the requests done by a system."""
        RequestPoller.start_on(system._asking, system.client, Window(self._run, self)).tell(Poll())

    def add(self, data: bytes) -> str:
        self._number += 1
        request_id = str(self._number)
        self.waiting[request_id] = data
        return request_id

    def take_response(self, request_id: str) -> bytes | None:
        return self.responses.pop(request_id, None)


class Window:
    """What one process sees of the requests."""

    def __init__(self, run: Run, all_of_them: MemoryRequests) -> None:
        self._run = run
        self._all = all_of_them
        self._seen: set[str] = set()

    def arrived(self) -> list[StoredRequest]:
        new = [StoredRequest(*item) for item in self._all.waiting.items() if item[0] not in self._seen]
        self._seen.update(request.id for request in new[:_AT_ONCE])
        return new[:_AT_ONCE]

    def read(self, request_id: str) -> bytes | None:
        return self._all.waiting.get(request_id)

    def respond(self, responses: Sequence[StoredResponse]) -> None:
        if self._run.simulation.schedule.is_dead:
            raise StoreHalted("the power has failed")
        if self._run.disturbance.locks_here():
            raise StoreHalted("a sender was stopped while it wrote")
        dies = self._run.disturbance.strikes_here()
        if dies and self._run.disturbance.chance() < 0.5:
            self._run.simulation.kill()
            raise StoreHalted("the power has failed")
        for response in responses:
            if self._all.waiting.pop(response.id, None) is not None:
                self._all.responses[response.id] = response.data
        if dies:
            self._run.simulation.kill()

    def sweep(self) -> None:
        pass

    def close(self) -> None:
        self._seen.clear()

    def add(self, request_id: str, data: bytes) -> None:
        raise NotImplementedError

    def take_response(self, request_id: str) -> bytes | None:
        raise NotImplementedError

    def pending_count(self) -> int:
        raise NotImplementedError

    def refusals(self) -> list[StoredRefusal]:
        raise NotImplementedError

    def set_aside(self) -> str:
        raise AssertionError("nothing is damaged")
