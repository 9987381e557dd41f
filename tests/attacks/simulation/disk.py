"""A disk of which nothing is certain but what was synced, under the real store, in a simulation.

The power fails at the k-th operation on the disk, whatever that is, and with it the simulated process. The
next one opens an image of what the disk may hold then: everything that was synced, and of the rest

    all         what was written: the process was killed, and the machine goes on
    none        nothing
    torn        what came first, up to somewhere in the middle of a write
    sectors     any selection of sectors
    garbage     any selection of sectors, some of them filled with something else
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import apsw
from persistasaurus.actors.testing.schedule import ProcessDied
from persistasaurus.store import SqliteStore, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from persistasaurus.actors.runtime.primitives import ManualClock
    from simulation.run import Run

POLICIES = ("all", "none", "torn", "sectors", "garbage")
SECTOR = 512
_KINDS = {
    "": apsw.SQLITE_OPEN_MAIN_DB,
    "-wal": apsw.SQLITE_OPEN_WAL,
    "-journal": apsw.SQLITE_OPEN_MAIN_JOURNAL,
}


class Content:
    """What a file holds for certain, and what has been written since."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = bytearray(durable)
        self.pending: list[tuple[int, bytes | None]] = []
        """Writes, as offset and data; without data: the size to which it was cut."""

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def after_power_loss(self, policy: str, rng: Random) -> bytes:
        image = bytearray(self.durable)
        for change in _kept(self.pending, policy, rng):
            _apply(image, change)
        return bytes(image)


def _kept(
    pending: Sequence[tuple[int, bytes | None]], policy: str, rng: Random
) -> Iterator[tuple[int, bytes | None]]:
    if policy == "none" or not pending:
        return
    if policy == "all":
        yield from pending
    elif policy == "torn":
        cut = rng.randrange(len(pending))
        yield from pending[:cut]
        offset, data = pending[cut]
        if data is not None:
            yield offset, data[: rng.randrange(len(data) + 1)]
    else:
        for offset, data in _sectors(pending):
            chance = rng.random()
            if policy == "garbage" and data is not None and chance < 0.2:
                yield offset, rng.randbytes(len(data))
            elif chance < 0.6:
                yield offset, data


def _sectors(pending: Sequence[tuple[int, bytes | None]]) -> Iterator[tuple[int, bytes | None]]:
    for offset, data in pending:
        if data is None:
            yield offset, None
            continue
        start = 0
        while start < len(data):
            size = SECTOR - (offset + start) % SECTOR
            yield offset + start, data[start : start + size]
            start += size


def _apply(image: bytearray, change: tuple[int, bytes | None]) -> None:
    offset, data = change
    if data is None:
        del image[offset:]
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._kind = next((kind for kind, flag in _KINDS.items() if flags[0] & flag), None)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        self._disk.note(self._kind, (offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.note(self._kind, (size, None))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.note(self._kind, None)


class Disk(apsw.VFS):
    """Opens stores for a run, each on what the power has left of the one before.

    `cuts` are the numbers of the operations, counted over all lives, at which the power fails.
    """

    _numbers = iter(range(1, 1 << 60))

    def __init__(self, root: Path, cuts: Sequence[int] = (), policy: str = "none", seed: int = 0) -> None:
        self.operations = 0
        self.vfs_name = f"simulated-disk-{next(self._numbers)}"
        self._root = root
        self._cuts = list(cuts)
        self.policy = policy
        self._rng = Random(f"disk {seed}")
        self.contents = {kind: Content() for kind in _KINDS}
        self._lives = 0
        self._older_than_the_machine: set[str] = set()
        """The kinds of files that were last written before the machine was started."""
        self._is_on = True
        self._run: Run | None = None
        self._store: SqliteStore | None = None
        super().__init__(self.vfs_name, base="")

    # ---------------------------------------------------------------------------------- what happens
    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        super().xDelete(name, syncdir)
        kind = next((kind for kind in ("-wal", "-journal") if name.endswith(kind)), None)
        self.note(kind, (0, None))
        if self._is_on and kind is not None and syncdir:
            self.contents[kind].sync()

    def note(self, kind: str | None, change: tuple[int, bytes | None] | None) -> None:
        """Take note of an operation, a sync if there is no change; at some of them the power fails."""
        if not self._is_on or kind is None:
            return
        self.operations += 1
        content = self.contents[kind]
        if change is not None:
            self._older_than_the_machine.discard(kind)
        if self._cuts and self.operations >= self._cuts[0]:
            self._cuts.pop(0)
            if change is not None:
                content.pending.append(change)
            self._is_on = False
            if self._run is not None:
                self._run.simulation.kill()
        elif change is not None:
            content.pending.append(change)
        else:
            content.sync()
            if kind == "-wal":
                # The first sync of a log is also one of the directory: the journal is gone for good.
                self.contents["-journal"] = Content()

    # ----------------------------------------------------------------------------------------- lives
    def open(self, run: Run, clock: ManualClock) -> Any:
        """Open the store for the next process, which may die of it."""
        self._run = run
        self.leave()
        if self._is_on:
            # The process was killed, and the machine goes on.
            images = {
                kind: content.after_power_loss("all", self._rng) for kind, content in self.contents.items()
            }
        else:
            policy = self.policy
            images = {kind: c.after_power_loss(policy, self._rng) for kind, c in self.contents.items()}
            self.contents = {kind: Content(image) for kind, image in images.items()}
            self._older_than_the_machine = set(images)
        self._is_on = True
        self._lives += 1
        path = self._root / f"{self.vfs_name}-{self._lives}.db"
        for kind, image in images.items():
            if image or not kind:
                path.with_name(path.name + kind).write_bytes(image)
                if kind in self._older_than_the_machine:
                    os.utime(path.with_name(path.name + kind), (1, 1))
        try:
            self._store = store = SqliteStore.open(path, now=clock.now, vfs=self.vfs_name)
        except StoreError as error:
            if self._is_on:
                raise AssertionError(f"the store does not open behind the power loss: {error!r}") from error
            raise ProcessDied from error
        if not self._is_on:
            raise ProcessDied
        run.ledger.compare(store)
        return run.failing(store)

    def leave(self) -> None:
        """Let go of what a dead process had open, without it making a difference."""
        store, self._store = self._store, None
        if store is not None:
            was_on, self._is_on = self._is_on, False
            store.close()
            self._is_on = was_on
        for file in self._root.glob(f"{self.vfs_name}-*"):
            file.unlink()

    def close(self) -> None:
        """Let go of everything."""
        self.leave()
        self.unregister()


def scratch() -> Path:
    """Make a directory in memory, if there is such a place; whoever asks for it removes it."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="persistasaurus-", dir=shm if shm.is_dir() else None))


def remove(root: Path) -> None:
    """Remove a directory with all that is in it."""
    shutil.rmtree(root, ignore_errors=True)
