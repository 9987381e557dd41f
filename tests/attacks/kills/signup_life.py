"""The life of a flow, from one killed process to the next, and what must hold at its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.flows import events
from persistasaurus.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterable

CHILD = Path(__file__).with_name("signup_child.py")
INCARNATIONS_MAX = 60
STEPS = {"hello": 5, "signup": 4}


class Life:
    """A flow in a file, its processes, and what they have done."""

    def __init__(self, folder: Path, flow: str, client: str = "eager", **more: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.flow = flow
        self.kills = 0
        self.ending: dict[str, Any] = {}
        self._store = folder / "flows.db"
        self._notes = folder / "notes"
        self._order = {"store": str(self._store), "notes": str(self._notes), "flow": flow, "client": client}
        self._order |= more

    def incarnate(self, dies_at: int = 0) -> bool:
        """Run one process to its end; say whether it was killed."""
        order = json.dumps(self._order | {"dies_at": dies_at})
        child = subprocess.run(
            [sys.executable, str(CHILD), order], capture_output=True, text=True, timeout=60, check=False
        )
        if child.returncode == -signal.SIGKILL:
            self.kills += 1
            return True
        assert child.returncode == 0, child.stderr
        self.ending = json.loads(child.stdout.splitlines()[-1])
        return False

    def live(self, deaths: Iterable[int]) -> None:
        """Die as told, one incarnation after the other, and then no more; stop when the flow has ended."""
        for dies_at in deaths:
            if not self.incarnate(dies_at):
                return
            assert self.kills < INCARNATIONS_MAX, "it gets nowhere"
        self.incarnate()

    @property
    def effects(self) -> Counter[str]:
        """How often each step has touched the world."""
        notes = self._notes.read_text().splitlines() if self._notes.exists() else []
        return Counter(note for note in notes if note.startswith("step"))

    def history(self) -> list[tuple[int, events.AnyEvent]]:
        store = SqliteStore.open(self._store, now=SystemClock().now)
        try:
            assert store.verify() == []
            return [(record.version, events.decode(record.data)) for record in store.read(self.flow)]
        finally:
            store.close()

    def assert_whole(self) -> None:
        """See that the flow has ended as if nobody had ever been killed."""
        history = self.history()
        told = [event for _, event in history]
        steps = list(range(1, STEPS[self.flow] + 1))
        completed = [event for event in told if isinstance(event, events.StepCompleted)]

        assert [version for version, _ in history] == list(range(1, len(history) + 1))
        assert [event.step for event in completed] == steps
        assert sorted(_begun(told)) == steps
        assert sum(isinstance(event, events.FlowStarted) for event in told) == 1
        assert sum(isinstance(event, events.SignalReceived) for event in told) == (self.flow == "signup")
        assert self.ending == {"result": self._expected(completed)}
        assert isinstance(told[-1], events.FlowCompleted)
        assert json.loads(bytes(told[-1].result)) == self.ending["result"]
        self._assert_effects(steps)

    def _assert_effects(self, steps: list[int]) -> None:
        effects = self.effects
        assert sorted(effects) == [f"step {number}" for number in steps]
        assert all(times <= 1 + self.kills for times in effects.values())
        # A kill can only cost the one step that was under way.
        assert effects.total() <= len(steps) + self.kills

    def _expected(self, completed: list[events.StepCompleted]) -> Any:
        return 10 if self.flow == "hello" else json.loads(bytes(completed[0].result))


def _begun(told: list[events.AnyEvent]) -> list[int]:
    """Return the steps that the flow's code has begun, by the first word about each."""
    return [e.step for e in told if isinstance(e, events.StepStarted | events.StepScheduled)]
