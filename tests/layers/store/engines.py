"""Other processes: one that owns a store and does what it is told, and one that only looks."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys

TOLD = """
import sys
from persistasaurus.store import Append, HeaderChange, NewRecord, SqliteStore, StreamState, Deliver
store = SqliteStore.open(sys.argv[1], now=lambda: 0)
header = HeaderChange("running", StreamState.OPEN, None)
version = 0
print("ready", flush=True)
for line in sys.stdin:
    match line.strip():
        case "commit":
            record = NewRecord(0, "k", b"1")
            store.commit([Append("told", version, (record,), header, None if version else "t")])
            version += 1
        case "close":
            store.close()
    print(version, flush=True)
"""

BUSY = """
import select, sys
from persistasaurus.store import *
from persistasaurus.store.sqlite import store as sqlite
sqlite.LOG_PAGES_WHEN_IDLE, sqlite.LOG_PAGES_AT_MOST = 50, 200
store = SqliteStore.open(sys.argv[1], now=lambda: 0, durability=Durability.MAY_LOSE_LAST_COMMITS)
running = HeaderChange("running", StreamState.OPEN, None)
ended = HeaderChange("completed", StreamState.ENDED, None)
commits = entries = 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    name = f"busy-{commits}"
    body = NewRecord(0, f"kind-{commits % 7}", b'{"n":%d}' % commits)
    steps = [
        Append(name, 0, (body,) * 3, running, f"type-{commits % 5}"),
        Deliver(name, "go", "key", b"1", 0),
        Deliver(name, "go", "key-2", b"2", 0),
        Append(name, 3, (body,) * (commits % 40), consumed=(entries + 1,)),
        Append(name, 3 + commits % 40, (body,), ended if commits % 2 else None),
    ]
    entries += 2
    for step in steps:
        (outcome,) = store.commit([step])
        assert not isinstance(outcome, Exception), outcome
    commits += 1
    store.checkpoint(idle=commits % 3 == 0)
print(commits, flush=True)
"""

# Holds a read open, as somebody does who was stopped in the middle of it.
HOLDING = """
import sys
from persistasaurus.store import StoreReader
reader = StoreReader.open(sys.argv[1])
answer = reader.query("SELECT * FROM record")
print(next(answer)[0], flush=True)
sys.stdin.read()
print(1 + sum(1 for _ in answer), flush=True)
"""


class Other:
    """A process that runs one of these programs."""

    def __init__(self, program, path, **options) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **options,
        )
        self._heard = b""

    def hear(self):
        """Wait for a line."""
        while b"\n" not in self._heard:
            self._listen()
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def _listen(self):
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        assert ready, "the other process says nothing"
        found = os.read(self.process.stdout.fileno(), 65536)
        self._heard += found
        assert found, "the other process has ended"

    def tell(self, word):
        """Tell it something, and wait for what it says to that."""
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()
        return self.hear()

    def end(self):
        """Close its input, and return the last that it says."""
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return (self._heard + out).decode().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate(timeout=60)
