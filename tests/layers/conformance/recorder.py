"""A VFS over the real one that writes down what reaches the disk, fails on demand, and cuts the power.

Each operation on the store and its log is recorded as it happens. From the record, images are built of
what a disk could hold if the power failed at any instant: what was synced is there, of the rest nothing,
or any selection of its sectors.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

SECTOR = 512
_names = itertools.count(1)
_KINDS = {
    "db": apsw.SQLITE_OPEN_MAIN_DB,
    "wal": apsw.SQLITE_OPEN_WAL,
    # There is one while the file is created, before it is in WAL mode.
    "journal": apsw.SQLITE_OPEN_MAIN_JOURNAL,
}


class Recorder(apsw.VFS):
    """Records; `fail(file, operation, error, at)` lets the n-th such operation from now on raise.

    `sector` and `powersafe` are what the disk says of itself: how much it writes at once, and whether a
    write that the power interrupts leaves what lies beside it in its sector alone.
    """

    def __init__(self, *, sector: int = 4096, powersafe: bool = True) -> None:
        self.vfs_name = f"recorder-{next(_names)}"
        self.log: list[tuple[Any, ...]] = []
        self.sector = sector
        self.powersafe = powersafe
        self._plans: list[list[Any]] = []
        super().__init__(self.vfs_name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return RecordedFile(self, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        file = next((file for file in _KINDS if name.endswith(f"-{file}")), "other")
        self.strike(file, "unlink")
        super().xDelete(name, syncdir)
        self.log.append(("unlink", file, syncdir))

    def mark(self, value: object) -> None:
        self.log.append(("mark", "", value))

    def fail(
        self, file: str, operation: str, error: Callable[[], Exception], *, at: int = 1, times: int = 1
    ) -> None:
        self._plans.append([file, operation, error, at, times])

    def forgive(self) -> None:
        self._plans.clear()

    def note(self, file: str, operation: str, *details: Any) -> None:
        try:
            self.strike(file, operation)
        except Exception:
            if operation == "sync":
                # The kernel may have given up what it could not write: no later sync brings it back.
                self.log.append(("unsynced", file))
            raise
        self.log.append((operation, file, *details))

    def strike(self, file: str, operation: str) -> None:
        """Fail, if this is one of the operations that were chosen to fail."""
        for plan in list(self._plans):
            if plan[:2] == [file, operation]:
                plan[3] -= 1
                if plan[3] <= 0:
                    plan[4] -= 1
                    if plan[4] <= 0:
                        self._plans.remove(plan)
                    error = plan[2]()
                    raise error


class RecordedFile(apsw.VFSFile):
    def __init__(self, recorder: Recorder, name: Any, flags: list[int]) -> None:
        self._recorder = recorder
        self._file = next((file for file, flag in _KINDS.items() if flags[0] & flag), "other")
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        is_new = path is not None and not Path(path).exists()
        recorder.strike(self._file, "open")
        super().__init__("", name, flags)
        # SQLite syncs the folder with the first sync of a log or a journal that it may have created.
        self._directory_is_due = self._file in ("wal", "journal") and bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        if is_new:
            recorder.log.append(("create", self._file))

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._recorder.note(self._file, "write", offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._recorder.note(self._file, "truncate", size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._recorder.note(self._file, "sync", self._directory_is_due)
        self._directory_is_due = False
        super().xSync(flags)

    def xSectorSize(self) -> int:  # noqa: N802
        return self._recorder.sector

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE if self._recorder.powersafe else 0


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
        if file not in self.durable or kind in ("create", "unsynced"):
            return
        if kind == "unlink":
            self.pending[file].append(("truncate", file, 0))
        elif kind == "sync":
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
                for part in sectors(operation):
                    if rng.random() < 0.5:
                        _write(image[file], part)
        return {file: bytes(data) for file, data in image.items()}


def sectors(operation: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Take a write apart into those of which a disk does each as a whole, or not at all."""
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
