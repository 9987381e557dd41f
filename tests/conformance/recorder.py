"""A VFS over the real one that writes down what reaches the disk, fails on demand, and cuts the power.

Each operation on the store and its log is recorded as it happens. From the record, images are built of
what a disk could hold if the power failed at any instant: what was synced is there, of the rest nothing,
or any selection of its sectors.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import apsw

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECTOR = 512
_names = itertools.count(1)
_KINDS = {
    "db": apsw.SQLITE_OPEN_MAIN_DB,
    "wal": apsw.SQLITE_OPEN_WAL,
    # There is one while the file is created, before it is in WAL mode.
    "journal": apsw.SQLITE_OPEN_MAIN_JOURNAL,
}


class Recorder(apsw.VFS):
    """Records; `fail(file, operation, error, at)` lets the n-th such operation from now on raise."""

    def __init__(self) -> None:
        self.vfs_name = f"recorder-{next(_names)}"
        self.log: list[tuple[Any, ...]] = []
        self._plans: list[list[Any]] = []
        super().__init__(self.vfs_name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return RecordedFile(self, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        super().xDelete(name, syncdir)
        if name.endswith("-journal"):
            self.note("journal", "truncate", 0)

    def mark(self, value: object) -> None:
        self.log.append(("mark", "", value))

    def fail(
        self, file: str, operation: str, error: Callable[[], Exception], *, at: int = 1, times: int = 1
    ) -> None:
        self._plans.append([file, operation, error, at, times])

    def forgive(self) -> None:
        self._plans.clear()

    def note(self, file: str, operation: str, *details: Any) -> None:
        for plan in list(self._plans):
            if plan[:2] == [file, operation]:
                plan[3] -= 1
                if plan[3] <= 0:
                    plan[4] -= 1
                    if plan[4] <= 0:
                        self._plans.remove(plan)
                    error = plan[2]()
                    raise error
        self.log.append((operation, file, *details))


class RecordedFile(apsw.VFSFile):
    def __init__(self, recorder: Recorder, name: Any, flags: list[int]) -> None:
        self._recorder = recorder
        self._file = next((file for file, flag in _KINDS.items() if flags[0] & flag), "other")
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._recorder.note(self._file, "write", offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._recorder.note(self._file, "truncate", size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._recorder.note(self._file, "sync")
        super().xSync(flags)


def full() -> Exception:
    return apsw.FullError("injected")


def sync_error() -> Exception:
    return _io_error(apsw.SQLITE_IOERR_FSYNC)


def write_error() -> Exception:
    return _io_error(apsw.SQLITE_IOERR_WRITE)


def _io_error(code: int) -> Exception:
    error = apsw.IOError("injected")
    error.result, error.extendedresult = code & 0xFF, code
    return error


class Platter:
    """What a disk holds for certain, and what it may hold, after a part of the record."""

    def __init__(self) -> None:
        self.durable: dict[str, bytearray] = {file: bytearray() for file in _KINDS}
        self.pending: dict[str, list[tuple[Any, ...]]] = {file: [] for file in _KINDS}

    def apply(self, operation: tuple[Any, ...]) -> None:
        kind, file, *_ = operation
        if file not in self.durable:
            return
        if kind == "sync":
            for waiting in self.pending[file]:
                _write(self.durable[file], waiting)
            self.pending[file].clear()
            if file == "wal":
                # The first sync of a log is also one of the directory: the journal is gone for good.
                self.durable["journal"].clear()
                self.pending["journal"].clear()
        else:
            self.pending[file].append(operation)

    def without_unsynced(self) -> dict[str, bytes]:
        return {file: bytes(data) for file, data in self.durable.items()}

    def with_all(self) -> dict[str, bytes]:
        image = {file: bytearray(data) for file, data in self.durable.items()}
        for file, waiting in self.pending.items():
            for operation in waiting:
                _write(image[file], operation)
        return {file: bytes(data) for file, data in image.items()}

    def with_random_sectors(self, rng: random.Random) -> dict[str, bytes]:
        image = {file: bytearray(data) for file, data in self.durable.items()}
        for file, waiting in self.pending.items():
            for operation in waiting:
                for part in _sectors(operation):
                    if rng.random() < 0.5:
                        _write(image[file], part)
        return {file: bytes(data) for file, data in image.items()}


def _sectors(operation: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if operation[0] != "write":
        yield operation
        return
    kind, file, offset, data = operation
    while data:
        size = SECTOR - offset % SECTOR
        yield (kind, file, offset, data[:size])
        offset, data = offset + size, data[size:]


def _write(image: bytearray, operation: tuple[Any, ...]) -> None:
    if operation[0] == "truncate":
        del image[operation[2] :]
        return
    _, _, offset, data = operation
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def lay_out(image: dict[str, bytes], path: Path) -> None:
    """Write an image where a store can be opened over it."""
    path.write_bytes(image["db"])
    path.with_name(path.name + "-wal").write_bytes(image["wal"])
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    journal = path.with_name(path.name + "-journal")
    if image["journal"]:
        journal.write_bytes(image["journal"])
    else:
        journal.unlink(missing_ok=True)
