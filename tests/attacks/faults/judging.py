"""Whether an image of a disk is one that may be: nothing acknowledged is missing, nothing is half there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import apsw
from conformance.builders import AT, append, create, record, signal, write_one
from faults.contents import EMPTY, contents, epoch
from faults.disk import lay_out
from faults.workloads import Acknowledged, Begun
from persistasaurus.store import Appended, Delivered, SqliteStore, StoreError, StreamEnded

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from faults.disk import Image
    from faults.workloads import Recorded

OK = "ok"


class Duty:
    """What is owed at one instant: everything acknowledged; what has only begun may be there, in whole."""

    def __init__(self) -> None:
        self.epoch = 0
        self.contents = EMPTY
        self.is_open = False
        self._numbers: dict[bytes, tuple[int, int]] = {}
        self._acknowledged = -1
        self._begun = -1

    def learn(self, marks: list[Any]) -> None:
        """Learn beforehand which contents are those after which batch."""
        for mark in marks:
            if isinstance(mark, Acknowledged):
                # A batch of which everything was refused changes nothing.
                first, _ = self._numbers.get(mark.contents, (mark.number, 0))
                self._numbers[mark.contents] = (first, mark.number)

    def expect_anything(self) -> None:
        """Take every batch for begun, and none for acknowledged."""
        self._begun = max(last for _, last in self._numbers.values())

    def after(self, answered: bytes, epoch: int) -> Duty:
        """Return what is owed once these contents were answered from, in this epoch."""
        duty = copy.copy(self)
        duty._acknowledged = self._numbers.get(answered, (0, 0))[0]
        duty.contents, duty.epoch, duty.is_open = answered, epoch, True
        return duty

    def take(self, mark: Any) -> None:
        """Pass an instant of the record."""
        if isinstance(mark, Begun):
            self._begun = mark.number
        elif isinstance(mark, Acknowledged):
            self._acknowledged, self._begun = mark.number, max(mark.number, self._begun)
            self.epoch, self.contents, self.is_open = mark.epoch, mark.contents, True

    def judge(self, found: bytes, found_epoch: int) -> str:
        """Tell what is wrong with contents that were found."""
        if found not in self._numbers:
            return "torn: this was never committed"
        first, last = self._numbers[found]
        if last < self._acknowledged:
            return f"lost: batch {self._acknowledged} was acknowledged, {last} is the last"
        if first > max(self._begun, 0):
            return f"batch {first} had not even begun"
        if found_epoch < self.epoch:
            return f"the epoch shrank from {self.epoch} to {found_epoch}"
        return OK


def judge_quickly(image: Image, path: Path, duty: Duty, *, pages: bool = True) -> str:
    """Look with SQLite alone, at every row; `pages`: also at every page, and that indexes fit their tables.

    What the store itself makes of an image is `judge_thoroughly`'s to tell.
    """
    lay_out(image, path)
    connection = apsw.Connection(str(path))
    try:
        # Recovery is the same, and there is no shared memory to set up and no log to move: twice as fast.
        connection.pragma("locking_mode", "EXCLUSIVE")
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return _judge_open(connection, duty, pages=pages)
    except (apsw.Error, UnicodeDecodeError) as error:
        return f"unreadable: {error!r}"
    finally:
        connection.close()


def _judge_open(connection: apsw.Connection, duty: Duty, *, pages: bool) -> str:
    if pages and (damage := connection.pragma("integrity_check")) != "ok":
        return f"damaged: {damage}"
    if connection.pragma("user_version") == 0:
        return "the schema is gone" if duty.is_open else OK
    return duty.judge(contents(connection), epoch(connection))


def judge_thoroughly(
    image: Image, path: Path, duty: Duty, recorded: Recorded | None = None, shared: bytes = b""
) -> str:
    """Open the store over an image: it must find everything in order, and go on."""
    lay_out(image, path, shared)
    try:
        store = SqliteStore.open(path, now=lambda: AT)
    except StoreError as error:
        return f"cannot be opened: {error}"
    try:
        verdict = duty.judge(store._lent(contents), store.epoch - 1)
        if verdict == OK and (found := store.verify()):
            verdict = f"verify: {found}"
        return verdict if verdict != OK else _goes_on(store, recorded)
    except StoreError as error:
        return f"does not go on: {error}"
    finally:
        store.close()


def _goes_on(store: SqliteStore, recorded: Recorded | None) -> str:
    if write_one(store, create("afterwards")) != Appended(1):
        return "takes no new stream"
    for stream in store.headers(limit=1000):
        outcome = write_one(store, append(stream.version, record(), stream=stream.stream))
        if outcome != Appended(stream.version + 1):
            return f"does not go on: {outcome}"
    return OK if recorded is None else _knows_duplicates(store, recorded)


def _knows_duplicates(store: SqliteStore, recorded: Recorded) -> str:
    """Every signal that is there is still the one it was."""
    for (stream, key), number in recorded.delivered.items():
        header = store.header(stream)
        data = recorded.bodies[stream, key]
        outcome = None if header is None else write_one(store, signal(key, data, stream=stream))
        if isinstance(outcome, Delivered) and outcome.duplicate and outcome.id != number:
            return f"signal {key} of {stream} was {number}, and is {outcome.id}"
        if not isinstance(outcome, Delivered | StreamEnded | None):
            return f"signal {key} of {stream}: {outcome}"
    return OK
