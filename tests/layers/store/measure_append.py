"""What appends cost in CPU time, and a waiting flow on disk. No test: a script to run by hand.

python tests/layers/store/measure_append.py [directory]
"""

# ruff: noqa: T201 - it prints what it has measured

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from persistasaurus.store import Append, HeaderChange, NewRecord, SqliteStore, StreamState

if TYPE_CHECKING:
    from collections.abc import Callable

AT = 1_760_000_000_000_000
STARTED = (
    b'{"type":"step_started","step":3,"name":"send_welcome_email","attempt":1,"args":[1,"ada@example.com"]}'
)
COMPLETED = (
    b'{"type":"step_completed","step":2,"name":"create_user_record","result":{"id":1,"ok":true},"ms":12}'
)
RUNNING = HeaderChange("running", StreamState.OPEN, None)
BATCH, ROUNDS = 1000, 20


def cpu_us(work: Callable[[], object]) -> float:
    begun = time.process_time_ns()
    work()
    return (time.process_time_ns() - begun) / 1000


def batch(number: int, header: HeaderChange | None) -> list[Append]:
    records = (
        NewRecord(AT + number, "step_completed", COMPLETED),
        NewRecord(AT + number, "step_started", STARTED),
    )
    return [Append(f"signup-{n:08d}-ada", 2 * number, records, header, "signup") for n in range(BATCH)]


def measure_appends(store: SqliteStore) -> None:
    figures: dict[str, list[float]] = {}

    def note(what: str, cost: float) -> None:
        figures.setdefault(what, []).append(cost)

    note("create: 2 records, commit included", cpu_us(lambda: store.commit(batch(0, RUNNING))) / BATCH)
    for number in range(1, 2 * ROUNDS, 2):
        plain, changing, writer = batch(number, None), batch(number + 1, RUNNING), store._writer
        prepared = cpu_us(lambda writer=writer, plain=plain: writer.prepare(plain))
        committed = cpu_us(writer.commit)
        note("append: 2 records, without commit", prepared / BATCH)
        note("append: 2 records, commit included", (prepared + committed) / BATCH)
        cost = cpu_us(lambda changing=changing: store.commit(changing))
        note("append: 2 records and header, commit included", cost / BATCH)
        store.checkpoint(idle=True)
    cost = cpu_us(lambda: [store.read(f"signup-{n:08d}-ada") for n in range(BATCH)])
    note("read: a record, verified", cost / BATCH / (4 * ROUNDS + 2))
    for what, costs in figures.items():
        print(f"{what:48} median {statistics.median(costs):6.2f}, best {min(costs):6.2f} us CPU")


def measure_waiting_flows(path: Path, count: int) -> None:
    store = SqliteStore.open(path, now=lambda: 0)
    data = b'{"' + b"x" * 140 + b'":12345}'
    for first in range(0, count, BATCH):
        store.commit(
            [
                Append(
                    f"01HX{n * 2654435761 % 2**32:010d}ABCDEFGHJKMN",
                    0,
                    (NewRecord(AT + n, "flow_started", data), NewRecord(AT + n, "signal_awaited", data)),
                    HeaderChange("waiting", StreamState.OPEN, AT + 10**12 + n * 7919 % 10**9),
                    "signup",
                )
                for n in range(first, first + BATCH)
            ],
        )
    store.close()
    size = path.stat().st_size / count
    print(f"a waiting flow: an id of 26 B, 2 records of {len(data)} B, an alarm: {size:.0f} B on disk")


def main() -> None:
    directory = Path(tempfile.mkdtemp(dir=sys.argv[1] if len(sys.argv) > 1 else None))
    store = SqliteStore.open(directory / "appends.db", now=lambda: 0)
    measure_appends(store)
    store.close()
    measure_waiting_flows(directory / "waiting.db", 50_000)


main()
