"""The store of the demo, which reports each event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....actors.runtime.primitives import SystemClock
from ....flows import events
from ....store import Appended, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ....store.contract import Outcome, Write


class WatchedStore(SqliteStore):
    """A store that reports each event once it is durable, on the journal's thread."""

    on_event: Callable[[str, events.AnyEvent], None] | None = None

    @classmethod
    def at(cls, path: Path) -> WatchedStore:
        return cls.open(path, now=SystemClock().now)  # pyright: ignore[reportReturnType] - it makes a `cls`

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        outcomes = super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Appended) and self.on_event is not None:
                for record in getattr(write, "records", ()):
                    self.on_event(write.stream, events.decode(record.data))
        return outcomes

    def history(self, flow_id: str) -> list[events.AnyEvent]:
        """Read a flow's history; [] when there is no such flow."""
        if self.header(flow_id) is None:
            return []
        return [events.decode(record.data) for record in self.read(flow_id)]
