"""A zombie: an owner that was stopped, lost its lock to another one, and wakes up in mid-work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from persistasaurus.store import (
    Append,
    Deliver,
    HeaderChange,
    NewRecord,
    SqliteStore,
    StoreFenced,
    StreamState,
)
from persistasaurus.store.sqlite import writer
from store.takeover import locks_that_do_not_hold

if TYPE_CHECKING:
    from pathlib import Path

    from persistasaurus.store.contract import Write

HEADER = HeaderChange("running", StreamState.OPEN, None)
BEGUN = Append("ada", 0, (NewRecord(1, "begun", b"1"),), HEADER, "flow")
GOES_ON = Append("ada", 1, (NewRecord(2, "done", b"2"),))
SIGNAL = Deliver("ada", "word", "key", b"1", 3)


def fate_of_a_zombie(folder: Path, write: Write, *, has_fence: bool = True) -> str:
    """Have a zombie write, while another owner is at work; say what became of it."""
    path = folder / "flows.db"
    with pytest.MonkeyPatch.context() as patch:
        # It has looked at its lock just before it was stopped.
        patch.setattr(SqliteStore, "_check_location", lambda _: None)
        zombie = SqliteStore.open(path, now=lambda: 1)
        zombie.commit([BEGUN])
        with locks_that_do_not_hold(path):
            owner = SqliteStore.open(path, now=lambda: 2)
        if not has_fence:
            patch.setattr(writer, "_EPOCH", f"SELECT {zombie.epoch}")
        try:
            zombie.commit([write])
        except StoreFenced:
            return "fenced"
        else:
            is_there = write == SIGNAL and owner.inbox("ada")
            return "written" if is_there or owner.read("ada", after=1) else "lost"
        finally:
            owner.close()
            zombie.close()
