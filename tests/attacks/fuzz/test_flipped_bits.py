"""A bit that has flipped in a store's files is reported, or it harms nobody.

In the log that was not yet moved into the file, SQLite takes what does not match its checksum for the end:
the tail is gone. What is left of it is right, and that there was more is reported; but of the last commit.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from fuzz.targets import SIGNUP, make_store, simulated
from persistasaurus.store import (
    Append,
    Deliver,
    Durability,
    HeaderChange,
    NewRecord,
    SqliteStore,
    StoreError,
    StoreReader,
    StreamState,
)
from persistasaurus.store.sqlite import store as sqlite
from persistasaurus.store.sqlite.lost_commits import kept_logs
from persistasaurus.store.tools.backup import backup
from persistasaurus.store.tools.export import export
from store.damage import edit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLIPS = int(os.environ.get("PERSISTASAURUS_FLIPS", "150"))
SEED = int(os.environ.get("PERSISTASAURUS_SEED", "1"))
Content = dict[str, tuple[Any, ...]]


def content(store: Any) -> Content:
    """Return all that can be read of a store, by stream."""
    found: Content = {"": tuple(store.dead_letters())}
    for header in store.headers(limit=1000):
        found[header.stream] = header, tuple(store.read(header.stream)), tuple(store.inbox(header.stream))
    return found


def flip(path: Path, rng: Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.timeout(0 if FLIPS > 1000 else 120)
def test_a_bit_that_flips_in_the_file_is_reported_or_harmless(tmp_path: Path) -> None:
    whole, path, rng = tmp_path / "whole.db", tmp_path / "flipped.db", Random(SEED)
    make_store(whole)
    with StoreReader.open(whole) as reader:
        expected = content(reader)
    reported = 0
    for number in range(FLIPS):
        shutil.copy(whole, path)
        flip(path, rng)
        try:
            with StoreReader.open(path) as reader:
                is_altered = content(reader) != expected
                found = reader.verify()
        except StoreError:
            reported += 1
            continue
        except Exception as error:
            error.add_note(f"flip {number} of PERSISTASAURUS_SEED={SEED}")
            raise
        reported += bool(found)
        assert found or not is_altered, f"flip {number} of PERSISTASAURUS_SEED={SEED} is not noticed"
    assert reported > FLIPS // 20, "hardly any of them hit anything"


@pytest.mark.timeout(0 if FLIPS > 1000 else 120)
def test_whatever_is_done_with_a_file_in_which_a_bit_flipped_ends_well_or_with_a_store_error(
    tmp_path: Path,
) -> None:
    whole, path, rng = tmp_path / "whole.db", tmp_path / "flipped.db", Random(SEED)
    make_store(whole)
    refused = 0
    for number in range(FLIPS // 3):
        shutil.copy(whole, path)
        flip(path, rng)
        for use in (_export, _back_up, _query, _go_on_writing):
            try:
                refused += use(path)
            except StoreError:
                refused += 1
            except Exception as error:
                error.add_note(f"flip {number} of PERSISTASAURUS_SEED={SEED}")
                raise
    assert refused, "no flip has hit anything"


def _export(path: Path) -> int:
    return len(export(path, lambda _: None, skip_damaged=True).skipped)


def _back_up(path: Path) -> int:
    return len(backup(path, path.with_name("copy.db"), overwrite=True).findings)


def _query(path: Path) -> int:
    with StoreReader.open(path) as reader:
        for view in ("flows", "events", "steps", "timers", "signals", "dead_letters"):
            with reader.query(f"SELECT * FROM {view}") as answer:
                list(answer)
    return 0


def _go_on_writing(path: Path) -> int:
    """Open it as an engine does, and write to each of its flows as they say that they are."""
    with closing(SqliteStore.open(path, now=lambda: 0, durability=Durability.MAY_LOSE_LAST_COMMITS)) as store:
        headers = store.due(2**62) + store.headers(limit=100)
        change = HeaderChange("parked", StreamState.HELD, None)
        record = (NewRecord(1, "note", b"{}"),)
        writes = [Append(h.stream, h.version, record, change, h.type) for h in headers]
        outcomes = store.commit([*writes, *(Deliver(h.stream, "go", "k", b"1", 1) for h in headers)])
    faults = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    for fault in faults:
        if not isinstance(fault, StoreError):
            raise fault
    return len(faults)


@pytest.mark.timeout(0 if FLIPS > 1000 else 120)
def test_a_bit_that_flips_in_the_log_is_reported_or_costs_the_last_commit_alone(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    with simulated(whole) as system:
        for number in range(10):
            system.start(SIGNUP.sign_up, f"ada-{number}", "a@b.c", flow_id=f"a-{number}")
        with StoreReader.open(whole) as reader:
            names = [header.stream for header in reader.headers(limit=100)]
        saved = tmp_path / "saved.db"
        for suffix in ("", "-wal"):
            shutil.copy(f"{whole}{suffix}", f"{saved}{suffix}")
    expected = _opened(saved, tmp_path / "again.db", lambda _: None)
    assert expected is not None
    assert sorted(names) == sorted(name for name in expected if name)
    last = _start_of_last_commit(saved)
    for number in range(FLIPS // 3):
        assert (
            _told(saved, tmp_path / f"flipped-{number}.db", number, expected) or _place(saved, number) >= last
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "save_lost_commits", lambda *_, **__: 0)
        unseen = [
            number
            for number in range(10)
            if not _told(saved, tmp_path / f"unseen-{number}.db", number, expected)
            and _place(saved, number) < last
        ]
    assert unseen, "nobody would notice that it is not looked for lost commits"


def _place(saved: Path, number: int) -> int:
    return Random(f"{SEED}-{number}").randrange(_log(saved).stat().st_size)


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _start_of_last_commit(path: Path) -> int:
    """Return where in the log the last commit begins: when that is damaged, nothing later tells of it."""
    image, size = _log(path).read_bytes(), 24 + 4096
    frames = [at for at in range(32, len(image), size) if image[at + 8 : at + 16] == image[16:24]]
    return [at for at in frames if any(image[at + 4 : at + 8])][-2] + size


def _told(saved: Path, path: Path, number: int, expected: Content) -> bool:
    """Flip a bit in a copy of the log; tell whether nothing is missing then, or somebody has said so."""
    at = _place(saved, number)
    flipped = _opened(saved, path, lambda log: edit(log, at, bytes([log.read_bytes()[at] ^ 1 << number % 8])))
    if flipped is None:
        return True
    for name, (_, records, _) in ((n, found) for n, found in flipped.items() if n):
        assert records == expected[name][1][: len(records)], f"flip {number} of PERSISTASAURUS_SEED={SEED}"
    return flipped == expected or bool(kept_logs(path))


def _opened(saved: Path, path: Path, spoil: Callable[[Path], None]) -> Content | None:
    """Return what a copy of a killed process's files holds; None: it was noticed that it is spoilt."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{saved}{suffix}", f"{path}{suffix}")
    spoil(_log(path))
    try:
        store = SqliteStore.open(path, now=lambda: 0, durability=Durability.MAY_LOSE_LAST_COMMITS)
    except StoreError:
        return None
    try:
        return content(store) if not store.verify() else None
    except StoreError:
        return None
    except Exception as error:
        error.add_note(f"{path.stem} of PERSISTASAURUS_SEED={SEED}")
        raise
    finally:
        store.close()
