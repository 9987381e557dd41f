"""The index of the log (STORE-shm), spoilt: whoever opens the store next is not misled by it.

It is memory that processes share, and SQLite does not trust what nobody has open. Under a live engine it is
trusted, as all memory is: a reader may then miss what is newest, but what it reads of a stream was written.

PERSISTASAURUS_FLIPS=20000 pytest tests/attacks/fuzz is a campaign; PERSISTASAURUS_SEED=7 chooses another one.
"""

from __future__ import annotations

import os
import shutil
from random import Random
from typing import TYPE_CHECKING

import pytest
from fuzz.test_flipped_bits import content
from persistasaurus.store import Append, Durability, NewRecord, SqliteStore, StoreError, StoreReader
from store.engines import Other

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fuzz.test_flipped_bits import Content

FLIPS = int(os.environ.get("PERSISTASAURUS_FLIPS", "150"))
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
LOCKS = range(120, 128)
"""Bytes that are only there to be locked."""

# Some of what it has written is in the file, and some of that was written anew in the log.
ENGINE = """
import sys
from persistasaurus.store import *
store = SqliteStore.open(sys.argv[1], now=lambda: 0, durability=Durability.MAY_LOSE_LAST_COMMITS)
running = HeaderChange("running", StreamState.OPEN, None)
for version in range(12):
    for name in ("ada", "bob", "cid"):
        body = NewRecord(version, "step_completed", b'{"n":%d}' % version + b" " * 300)
        change, kind = (None, None) if version else (running, "signup")
        signal = Deliver(name, "go", f"key-{version}", b"1", 0)
        writes = [Append(name, version, (body,), change, kind), signal]
        for outcome in store.commit(writes):
            assert not isinstance(outcome, Exception), outcome
    if version == 5:
        store.checkpoint(idle=True)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that an engine has open, which does nothing any more."""
    path = tmp_path_factory.mktemp("engine") / "flows.db"
    other = Other(ENGINE, path)
    assert other.hear() == "ready"
    yield path
    other.kill()


def index_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def read(path: Path) -> Content:
    with StoreReader.open(path) as reader:
        return content(reader)


# ------------------------------------------------------------------------------------- spoiling
def flipped(data: bytes, rng: Random) -> bytes:
    """Flip a bit where there is anything, or in the header."""
    spoilt = bytearray(data)
    places = [at for at in range(len(data)) if data[at] or at < LOCKS.start]
    spoilt[rng.choice([at for at in places if at not in LOCKS])] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def written_over(data: bytes, rng: Random) -> bytes:
    at, length = rng.randrange(len(data)), rng.randint(1, 400)
    return (data[:at] + rng.randbytes(length) + data[at + length :])[: len(data)]


SPOILING: dict[str, Callable[[bytes, Random], bytes]] = {
    "flipped": flipped,
    "written over": written_over,
    "random": lambda data, rng: rng.randbytes(len(data)),
    "cut": lambda data, rng: data[: rng.randrange(len(data))],
    "longer": lambda data, rng: data + rng.randbytes(rng.choice([1, 4096, 32_768])),
    "zeros": lambda data, _: bytes(len(data)),
    "ones": lambda data, _: b"\xff" * len(data),
}


def copied(engine: Path, path: Path, rng: Random) -> str:
    """Copy what a killed engine would have left, with another index; return what is wrong with that."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{engine}{suffix}", f"{path}{suffix}")
    how = rng.choice([*SPOILING])
    index_of(path).write_bytes(SPOILING[how](index_of(engine).read_bytes(), rng))
    return how


@pytest.mark.timeout(0 if FLIPS > 1000 else 120)
def test_a_spoilt_index_that_a_killed_engine_left_misleads_nobody(engine: Path, tmp_path: Path) -> None:
    expected = read(engine)
    assert {len(records) for _, records, _ in (found for name, found in expected.items() if name)} == {12}
    for number in range(FLIPS // 3):
        rng = Random(f"{SEED}-{number}")
        path = tmp_path / f"left-{number}.db"
        how = copied(engine, path, rng)
        again = f"{how} index {number} of PERSISTASAURUS_SEED={SEED}"
        if rng.random() < 0.5:
            assert read(path) == expected, f"a reader is misled by the {again}"
        store = SqliteStore.open(path, now=lambda: 0, durability=Durability.MAY_LOSE_LAST_COMMITS)
        try:
            assert content(store) == expected, f"an engine is misled by the {again}"
            (outcome,) = store.commit([Append("ada", 12, (NewRecord(0, "step_completed", b"{}"),))])
            assert not isinstance(outcome, Exception), again
            assert store.verify() == [], again
            assert read(path)["bob"] == expected["bob"], f"a reader beside it is misled by the {again}"
        finally:
            store.close()


@pytest.mark.timeout(0 if FLIPS > 1000 else 120)
def test_a_bit_that_flips_in_the_index_of_a_live_engine_costs_a_reader_the_newest_alone(engine: Path) -> None:
    expected = read(engine)
    saved = index_of(engine).read_bytes()
    misled = 0
    for number in range(FLIPS):
        put(index_of(engine), flipped(saved, Random(f"{SEED}-{number}")))
        try:
            found = read(engine)
        except StoreError:
            misled += 1
            continue
        finally:
            put(index_of(engine), saved)
        misled += found != expected
        for name, (_, records, _) in ((n, stream) for n, stream in found.items() if n):
            written = expected[name][1][: len(records)]
            assert records == written, f"flip {number} of PERSISTASAURUS_SEED={SEED}"
    assert read(engine) == expected
    assert misled, "no flip has hit anything"


def put(index: Path, data: bytes) -> None:
    """Write over a file that another process has in its memory. Nobody in this one has it open."""
    descriptor = os.open(index, os.O_RDWR)
    try:
        os.pwrite(descriptor, data, 0)
    finally:
        os.close(descriptor)
