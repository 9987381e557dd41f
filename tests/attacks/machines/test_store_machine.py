# ruff: noqa: FBT001, PLR0913, PLR0917 - rules get what Hypothesis draws
"""Whatever is asked of a store in whatever order, it is what the dictionaries say, also after its death."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines.size import seeded, size
from machines.store_model import DATA, INBOX, ModelStore
from persistasaurus.store import (
    Append,
    Deliver,
    Durability,
    HeaderChange,
    LoadedStream,
    NewRecord,
    SqliteStore,
    StoreHalted,
    StoreLimits,
    StreamState,
)

AT = 1_760_000_000_000_000
LIMITS = StoreLimits(inbox=INBOX, data=DATA)
NAMES = st.sampled_from(["ada", "ada", "ada", "bob", "Ünï"])
DATAS = st.sampled_from([b"", b"{}", b'"a"', b"\xff\x00", b"\0", b"x" * DATA, b"x" * (DATA + 1)])
INSTANTS = st.integers(-5, 5).map(lambda n: AT + n * 1_000_000)
HEADERS = st.builds(
    HeaderChange,
    st.sampled_from(["running", "waiting", "completed"]),
    st.sampled_from([StreamState.OPEN, StreamState.OPEN, *StreamState]),
    st.none() | INSTANTS,
)
RECORDS = st.lists(st.builds(NewRecord, INSTANTS, st.sampled_from(["began", "went on"]), DATAS), max_size=3)
STATEMENTS = [
    "SELECT count(*) FROM record",
    "VACUUM",
    "ANALYZE",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA journal_mode = DELETE",
    "CREATE TABLE IF NOT EXISTS theirs AS SELECT data FROM record",
    "DROP TABLE IF EXISTS theirs",
]
ELSEWHERE = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], timeout=0)
try: other.execute(sys.argv[2]).fetchall()
except sqlite3.OperationalError: pass
other.close()
"""


@seeded
class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self._deaths = 0
        self._seconds = 0
        self.model = ModelStore()

    @initialize(on_disk=st.booleans())
    def begin(self, on_disk: bool) -> None:
        self.path = Path(self._folder.name) / "flows.db" if on_disk else None
        self.store = self._open()
        header = HeaderChange("running", StreamState.OPEN, None)
        self._write(Append("ada", 0, (NewRecord(AT, "began", b"{}"),), header, "signup"))

    def _open(self) -> SqliteStore:
        lasting = Durability.MAY_LOSE_LAST_COMMITS
        return SqliteStore.open(
            self.path or ":memory:",
            now=lambda: AT + self._seconds * 1_000_000,
            durability=lasting,
            limits=LIMITS,
        )

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert self.store.verify() == []
            self.store.close()
        self._folder.cleanup()

    # ------------------------------------------------------------------------------------- writing
    @rule(
        name=NAMES,
        off_by=st.sampled_from([0, 0, 0, 0, 0, -1, 1]),
        records=RECORDS,
        header=st.none() | HEADERS,
        settle=st.data(),
    )
    def append(self, name: str, off_by: int, records: Any, header: Any, settle: st.DataObject) -> None:
        self._write(self._an_append(name, off_by, records, header, settle))

    def _an_append(self, name: str, off_by: int, records: Any, header: Any, settle: st.DataObject) -> Append:
        stream = self.model.streams.get(name)
        version = len(stream.records) if stream else 0
        waiting = [*stream.waiting] if stream else []
        chosen = settle.draw(st.lists(st.sampled_from([*waiting, 999]), unique=True, max_size=3))
        chosen = [number for number in chosen if number != 999 or len(chosen) == 1]
        half = len(chosen) // 2
        rejected = tuple((number, "unwanted") for number in chosen[half:])
        kind = None if stream else "signup"
        expected = max(0, version + off_by)
        # Of those that are taken, some are given up after all; so may one be that nobody has sent.
        taken = (
            [key for number, key in self.model.taken(name) if number not in stream.waiting] if stream else []
        )
        taken += [stream.waiting[number].key for number in chosen[:half] if number != 999] if stream else []
        given_up = tuple(
            (key, "after all") for key in settle.draw(st.lists(st.sampled_from([*taken, "?"]), max_size=2))
        )
        return Append(name, expected, tuple(records), header, kind, tuple(chosen[:half]), rejected, given_up)

    @rule(
        name=NAMES,
        key=st.sampled_from("abcdefgh"),
        data=DATAS,
        word=st.sampled_from(["go", "no"]),
        only_again=st.sampled_from([False, False, True]),
    )
    def deliver(self, name: str, key: str, data: bytes, word: str, only_again: bool) -> None:
        self._write(Deliver(name, word, key, data, AT, only_again))

    @rule(first=NAMES, second=NAMES, records=RECORDS, header=HEADERS, data=DATAS, settle=st.data())
    def write_together(
        self, first: str, second: str, records: Any, header: Any, data: bytes, settle: st.DataObject
    ) -> None:
        deliver = Deliver(second, "go", "together", data, AT)
        self._write(deliver, self._an_append(first, 0, records, header, settle), deliver)

    def _write(self, *writes: Append | Deliver) -> None:
        for write, outcome in zip(writes, self.store.commit(writes), strict=True):
            expected = self.model.append(write) if isinstance(write, Append) else self.model.deliver(write)
            if isinstance(expected, type):
                assert type(outcome) is expected, (write, outcome, expected)
            else:
                assert outcome == expected, (write, outcome, expected)

    # ----------------------------------------------------------------------------------- its lives
    @rule()
    def reopen(self) -> None:
        epoch = self.store.epoch
        self.store.reopen()
        assert self.store.epoch > epoch

    @rule(idle=st.booleans())
    def checkpoint(self, idle: bool) -> None:
        self.store.checkpoint(idle=idle)

    @precondition(lambda self: self.path is not None)
    @rule()
    def close_and_open(self) -> None:
        self.store.close()
        self.store = self._open()

    # ------------------------------------------------------------------------------- interference
    @precondition(lambda self: self.path is not None)
    @rule(statement=st.sampled_from(STATEMENTS), in_this_process=st.booleans())
    def somebody_else_uses_the_file(self, statement: str, in_this_process: bool) -> None:
        """With an SQLite of their own; what they close takes POSIX locks away if it is in this process."""
        if in_this_process:
            other = sqlite3.connect(self.path, timeout=0)
            with contextlib.suppress(sqlite3.OperationalError):
                other.execute(statement).fetchall()
            other.close()
        else:
            subprocess.run(
                [sys.executable, "-c", ELSEWHERE, str(self.path), statement], check=True, timeout=60
            )
        self._seconds += 2
        self.store.commit([])

    @precondition(lambda self: self.path is not None)
    @rule(taken=st.sampled_from([("-wal",), ("-shm",), ("-wal", "-shm")]))
    def somebody_takes_the_log_away(self, taken: tuple[str, ...]) -> None:
        for suffix in taken:
            Path(f"{self.path}{suffix}").unlink()
        self._seconds += 2
        try:
            self.store.commit([])
        except StoreHalted:
            self.store.reopen()
        else:
            raise AssertionError("it is not noticed")

    @precondition(lambda self: self.path is not None)
    @rule()
    def die(self) -> None:
        """Go on with what a killed process would have left."""
        self._deaths += 1
        path = self.path.with_name(f"flows-{self._deaths}.db")
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{path}{suffix}")
        epoch = self.store.epoch
        self.store.close()
        self.path = path
        self.store = self._open()
        assert self.store.epoch > epoch

    # ------------------------------------------------------------------------------------- reading
    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def each_stream_is_as_it_should_be(self) -> None:
        for name, stream in self.model.streams.items():
            header = self.store.header(name)
            assert header is not None
            said = (header.type, header.status, header.state, header.version, header.wake_at)
            assert said == (stream.kind, stream.status, stream.state, len(stream.records), stream.wake_at)
            read = [(r.version, r.at, r.kind, r.data) for r in self.store.read(name)]
            assert read == [(n, r.at, r.kind, r.data) for n, r in enumerate(stream.records, 1)]
            waiting = [(e.id, e.at, e.name, e.key, e.data) for e in self.store.inbox(name)]
            assert waiting == [(n, s.at, s.name, s.key, s.data) for n, s in stream.waiting.items()]

    @rule(records=st.integers(0, 3), signals=st.integers(0, 3))
    def load_all_at_once(self, records: int, signals: int) -> None:
        names = [*self.model.streams, "nobody"]
        *found, nobody = self.store.load(names, records=records, signals=signals)
        assert nobody is None
        for name, loaded in zip(names, found, strict=False):
            assert isinstance(loaded, LoadedStream)
            assert loaded.header == self.store.header(name)
            assert loaded.records == self.store.read(name, limit=records)
            assert loaded.signals == self.store.inbox(name, limit=signals)
            assert loaded.has_more == (loaded.header.version > records)

    @rule(limit=st.integers(1, 3))
    def page_through_everything(self, limit: int) -> None:
        names, after = [], None
        while page := self.store.headers(after=after, limit=limit):
            names += [header.stream for header in page]
            after = names[-1]
        assert names == [*self.model.streams]
        everything, position = [], 0
        while records := self.store.read_all(after=position, limit=limit):
            everything += [(r.stream, r.record.data) for r in records]
            assert all(before.position < behind.position for before, behind in pairwise(records))
            position = records[-1].position
        assert everything == [(name, record.data) for name, record in self.model.all]

    @rule(before=INSTANTS, limit=st.integers(1, 3))
    def ask_what_is_due(self, before: int, limit: int) -> None:
        due, after = [], None
        while page := self.store.due(before, after=after, limit=limit):
            due += [header.stream for header in page]
            after = (page[-1].wake_at or 0, page[-1].stream)
        assert due == self.model.due(before)
        assert self.store.next_wake_at() == self.model.next_wake_at()

    @rule()
    def look_at_dead_letters(self) -> None:
        found = [(d.stream, d.key, d.reason) for d in self.store.dead_letters(limit=1000)]
        assert sorted(found) == sorted(self.model.dead)


TestStore = StoreMachine.TestCase
TestStore.settings = size(15, 30)
