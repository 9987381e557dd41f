"""What one writes in an afternoon: an actor for each flow, one for the database, a commit for each step.

It recovers a flow by its recorded steps, and that is all: no timers, no retries, no passivation, no checks.
"""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any

import apsw
import msgspec
import pykka
from provenance import versions_of

from contenders.contender import Contender, Sizes

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

encode, decode = msgspec.json.encode, msgspec.json.decode
SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
  flow TEXT, step INTEGER, at INTEGER, name TEXT, status TEXT, args BLOB, result BLOB,
  PRIMARY KEY (flow, step)
) WITHOUT ROWID
"""


class Store(pykka.ThreadingActor):
    """Owns the connection. Each write is a commit."""

    def __init__(self, path: str, journal_mode: str) -> None:
        super().__init__()
        self._sql = apsw.Connection(path)
        self._sql.pragma("journal_mode", journal_mode)
        self._sql.pragma("synchronous", "full")
        self._sql.execute(SCHEMA)

    def read(self, flow: str, step: int) -> Any:
        return self._sql.execute(
            "SELECT status, result FROM log WHERE flow = ? AND step = ?", (flow, step)
        ).fetchone()

    def write(self, flow: str, step: int, *values: str | bytes | None) -> None:
        self._sql.execute(
            "INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?, ?, ?)",
            (flow, step, time.time_ns() // 1000, *values),
        )

    def finish(self, flow: str, result: bytes) -> None:
        self._sql.execute(
            "UPDATE log SET status = 'done', result = ? WHERE flow = ? AND step = 0", (result, flow)
        )

    def on_stop(self) -> None:
        self._sql.close()


class Flow(pykka.ThreadingActor):
    """One flow."""

    def __init__(self, flow: str, store: Any) -> None:
        super().__init__()
        self._flow = flow
        self._store = store
        self._step = 0

    def _begin(self) -> None:
        if self._store.read(self._flow, 0).get() is None:
            self._store.write(self._flow, 0, "flow", "running", b"[]", None).get()

    def _run_step(self, name: str, step: Any, *args: Any) -> Any:
        self._step += 1
        recorded = self._store.read(self._flow, self._step).get()
        if recorded is not None:
            return decode(recorded[1])
        result = step(*args)
        self._store.write(self._flow, self._step, name, "done", encode(args), encode(result)).get()
        return result

    def run(self, steps: int) -> int:
        self._begin()
        total = 0
        for number in range(steps):
            total += self._run_step("one", lambda n: 1 if n >= 0 else 0, number)
        return self._finish(total)

    def wait(self) -> None:
        self._begin()
        self._store.write(self._flow, 1, "go", "waiting", b"[]", None).get()

    def go(self, value: int) -> int:
        self._store.write(self._flow, 1, "go", "done", b"[]", encode(value)).get()
        return self._finish(value)

    def _finish(self, result: int) -> int:
        self._store.finish(self._flow, encode(result)).get()
        self.stop()
        return result


class Naive(Contender):
    """Flows are threads: as many as there are flows."""

    def __init__(self, path: Path, journal_mode: str) -> None:
        self._path = path
        self._journal_mode = journal_mode
        self._ids = count()
        self._results: dict[Any, Any] = {}
        self.sizes = (
            Sizes(alone=100, long=600, many=1000, wide=60, start=1000, signal=150, burst=1000)
            if journal_mode == "wal"
            else Sizes(alone=40, long=200, many=150, wide=15, start=200, signal=50, burst=200)
        )

    def __enter__(self) -> Self:
        self._store = Store.start(str(self._path), self._journal_mode).proxy()
        return self

    def __exit__(self, *_: object) -> None:
        pykka.ActorRegistry.stop_all()

    def versions(self) -> dict[str, str]:
        return versions_of("pykka", "apsw", "msgspec")

    def _flow(self) -> Any:
        return Flow.start(f"f-{next(self._ids)}", self._store).proxy()

    def start(self, steps: int) -> Any:
        return self._flow().run(steps)

    def result(self, handle: Any) -> int:
        return (self._results.pop(handle) if handle in self._results else handle).get()

    def start_waiting(self) -> Any:
        flow = self._flow()
        flow.wait().get()
        return flow.actor_ref

    def until_waiting(self) -> None:
        """All of them do as soon as they have started."""

    def signal(self, handle: Any, value: int) -> None:
        result = handle.proxy().go(value)
        result.get()
        self._results[handle] = result

    def signal_all(self, handles: list[Any]) -> None:
        sent = {handle: handle.proxy().go(number) for number, handle in enumerate(handles)}
        for result in sent.values():
            result.get()
        self._results = sent


def make(folder: Path, *, journal_mode: str) -> Contender:
    return Naive(folder / "naive.db", journal_mode)
