"""What a store is put through while its disk is recorded: all that can be written, mixed by a seed."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from conformance.builders import AT, ENDED, append, create, header, record, signal
from conformance.recorder import Recorder, sync_error
from faults.contents import contents
from persistasaurus.store import (
    Append,
    Appended,
    CommitUnknown,
    Deliver,
    Delivered,
    Durability,
    SqliteStore,
    StreamState,
)
from persistasaurus.store.sqlite import store as sqlite
from persistasaurus.store.sqlite.connection import connect_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import apsw
    from persistasaurus.store import Write


class Begun(NamedTuple):
    """A batch is on its way."""

    number: int


class Acknowledged(NamedTuple):
    """The store has answered: from now on it must hold this."""

    number: int
    contents: bytes
    epoch: int


class Recorded(NamedTuple):
    """What reached the disk, with marks between it, and what the store has answered."""

    log: list[tuple[Any, ...]]
    answered: dict[str, int]
    """The version of each stream."""
    delivered: dict[tuple[str, str], int]
    """The number of each signal, by stream and key."""
    bodies: dict[tuple[str, str], bytes]
    """What each of them said."""
    sector: int
    powersafe: bool
    """Whether the disk leaves alone what lies beside an interrupted write."""


class _Stream:
    def __init__(self, name: str) -> None:
        self.name = name
        self.version = 0
        self.waiting: list[int] = []
        self.is_ended = False


@contextlib.contextmanager
def short_logs() -> Iterator[None]:
    """Have every bit of leisure used for a checkpoint."""
    before = sqlite.LOG_PAGES_WHEN_IDLE
    sqlite.LOG_PAGES_WHEN_IDLE = 0
    try:
        yield
    finally:
        sqlite.LOG_PAGES_WHEN_IDLE = before


def record_workload(
    path: Path, seed: int, commits: int, durability: Durability = Durability.FULL, failing: float = 0
) -> Recorded:
    """Run a workload, from an empty folder to a closed store; `failing` is the part of syncs that fail."""
    rng = random.Random(seed)
    recorder = Recorder(sector=rng.choice([512, 4096]), powersafe=rng.random() < 0.7)
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    try:
        with short_logs():
            workload = Workload(path, rng, recorder, durability, failing)
            workload.run(commits)
    finally:
        recorder.unregister()
    answered = {stream.name: stream.version for stream in workload.streams}
    return Recorded(
        recorder.log, answered, workload.delivered, workload.bodies, recorder.sector, recorder.powersafe
    )


class Workload:
    """Writes what `rng` says, and marks in the record what was begun and what was answered."""

    def __init__(
        self, path: Path, rng: random.Random, recorder: Recorder, durability: Durability, failing: float
    ) -> None:
        self._path = path
        self._rng = rng
        self._recorder = recorder
        self._durability = durability
        self._failing = failing
        self._store = self._opened()
        self._reader: apsw.Connection | None = None
        self._number = 0
        self.streams: list[_Stream] = []
        self.delivered: dict[tuple[str, str], int] = {}
        self.bodies: dict[tuple[str, str], bytes] = {}
        self._acknowledge()

    def run(self, commits: int) -> None:
        """Commit so often, with all that happens between commits."""
        for _ in range(commits):
            self.commit(self._batch())
            self._between()
        self._let_go()
        self._store.close()

    def _opened(self) -> SqliteStore:
        return SqliteStore.open(
            self._path, now=lambda: AT, durability=self._durability, vfs=self._recorder.vfs_name
        )

    def _acknowledge(self) -> None:
        self._recorder.mark(Acknowledged(self._number, self._store._lent(contents), self._store.epoch))

    def commit(self, writes: list[tuple[_Stream, Write]]) -> None:
        """Commit a batch; after an unknown outcome, find out."""
        self._number += 1
        self._recorder.mark(Begun(self._number))
        asked = [write for _, write in writes]
        if self._rng.random() < self._failing:
            self._let_go()
            self._recorder.fail("wal", "sync", sync_error)
        try:
            outcomes: Sequence[Any] = self._store.commit(asked)
        except CommitUnknown:
            self._store.reopen()
            outcomes = self._store.resolve(asked)
        for (stream, write), outcome in zip(writes, outcomes, strict=True):
            self._take(stream, write, outcome)
        self._acknowledge()

    def _take(self, stream: _Stream, write: Write, outcome: Any) -> None:
        if isinstance(outcome, Appended) and isinstance(write, Append):
            stream.version = outcome.version
            gone = {*write.consumed, *(key for key, _ in write.rejected)}
            stream.waiting = [key for key in stream.waiting if key not in gone]
            stream.is_ended = stream.is_ended or write.header == ENDED
        elif isinstance(outcome, Delivered) and isinstance(write, Deliver):
            if not outcome.duplicate:
                stream.waiting.append(outcome.id)
            self.delivered[stream.name, write.key] = outcome.id
            self.bodies[stream.name, write.key] = write.data

    # What is written

    def _batch(self) -> list[tuple[_Stream, Write]]:
        """One to four writes, each of a stream of its own, so that none waits for another's answer."""
        batch: list[tuple[_Stream, Write]] = []
        alive = [stream for stream in self.streams if stream.version and not stream.is_ended]
        self._rng.shuffle(alive)
        for _ in range(self._rng.choice([1, 1, 1, 2, 4])):
            if not alive or self._rng.random() < 0.15:
                batch.append(self._new())
            else:
                stream = alive.pop()
                batch.append((stream, self._write(stream)))
        return batch

    def _new(self) -> tuple[_Stream, Write]:
        stream = _Stream(f"flow-{len(self.streams)}")
        self.streams.append(stream)
        kind = f"type-{self._rng.randint(0, 3)}"
        return stream, create(stream.name, *self._records(1), change=self._header(), kind=kind)

    def _write(self, stream: _Stream) -> Write:
        kind = self._rng.choice(("append", "append", "decide", "signal", "signal", "header", "settle", "end"))
        if kind == "signal":
            key = f"mail-{self._rng.randint(0, 30)}"
            return signal(key, key.encode() * self._rng.choice([1, 1, 40]), stream=stream.name)
        if kind == "settle" and stream.waiting:
            used, *rest = self._rng.sample(stream.waiting, len(stream.waiting))
            rejected = tuple((key, "nobody wants it") for key in rest[:1])
            return append(
                stream.version, *self._records(1), stream=stream.name, consumed=(used,), rejected=rejected
            )
        if kind == "header":
            return append(stream.version, stream=stream.name, change=self._header())
        if kind == "end" and self._rng.random() < 0.4:
            return append(stream.version, *self._records(1), stream=stream.name, change=ENDED)
        change = self._header() if kind == "decide" else None
        return append(
            stream.version, *self._records(self._rng.randint(1, 3)), stream=stream.name, change=change
        )

    def _records(self, count: int) -> list[Any]:
        size = self._rng.choice([1, 1, 10, 60, 60, 900] + [9000] * (self._rng.random() < 0.2))
        kinds = ("step_completed", f"word-{self._rng.randint(0, 9)}")
        return [
            record(b"%d" % self._rng.randint(10, 99) * size, kind=self._rng.choice(kinds))
            for _ in range(count)
        ]

    def _header(self) -> Any:
        status, state = self._rng.choice(
            [("waiting", StreamState.OPEN), ("running", StreamState.OPEN), ("parked", StreamState.HELD)]
        )
        return header(status, state, self._rng.choice([None, AT, AT + self._rng.randint(1, 10**9)]))

    # What happens between commits

    def _between(self) -> None:
        chance = self._rng.random()
        if chance < 0.2:
            self._store.checkpoint(idle=True)
        elif chance < 0.28:
            self._store._truncate_at = 0
            self._store.checkpoint(idle=False)
        elif chance < 0.36:
            self._hold()
        elif chance < 0.45:
            self._let_go()
        elif chance < 0.55:
            self._restart()

    def _hold(self) -> None:
        """Have somebody read for a while: the log cannot be moved whole, nor emptied."""
        self._let_go()
        self._reader = connect_reader(self._store._location, self._recorder.vfs_name)
        self._reader.execute("BEGIN").fetchall()
        self._reader.execute("SELECT count(*) FROM record").fetchall()

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _restart(self) -> None:
        """Close and open again, or be killed before: then nothing is tidied up."""
        self._let_go()
        if self._rng.random() < 0.5:
            drop(self._store)
        else:
            self._store.close()
        self._store = self._opened()
        self._acknowledge()


def drop(store: SqliteStore) -> None:
    """End a store as a killed process does: without another word to the disk."""
    writer, store._writer = store._writer, None
    if writer is not None:
        writer.connection.close()
    store.close()
