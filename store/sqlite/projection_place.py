"""Where projections are kept: in files beside the store, or in memory beside one that is in memory."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

import apsw

from ..errors import StoreUnusable
from ..files.location import MemoryLocation, sync_directory
from .connection import connect_to_projection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROJECTION_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
"""What a projection may be called: its name is a part of the name of its file."""
_INFIX: Final = "-projection-"
_DRAFT: Final = "-draft"
_LOGS: Final = ("-wal", "-shm", "-journal")


class ProjectionPlace(ABC):
    """One database, whether it exists or not. Nobody may have it open while it is removed or set aside."""

    @property
    @abstractmethod
    def path(self) -> Path | None:
        """Its file; None: it is in memory."""

    @abstractmethod
    def connect(self) -> apsw.Connection:
        """Connect for writing; create the database, empty, if there is none."""

    @abstractmethod
    def connect_reader(self) -> apsw.Connection:
        """Connect for queries only."""

    @abstractmethod
    def exists(self) -> bool:
        """Return whether there is anything."""

    @abstractmethod
    def remove(self) -> None:
        """Remove it, if it exists."""

    @abstractmethod
    def set_aside(self, now: int) -> str:
        """Keep it under another name, and return that."""


class FilePlace(ProjectionPlace):
    """A database in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        return self._path

    def __str__(self) -> str:
        return str(self._path)

    def connect(self) -> apsw.Connection:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            sync_directory(self.path.parent)
        except FileExistsError:
            if not self.path.is_file():
                raise StoreUnusable(f"{self.path} is not a file") from None
        return connect_to_projection(str(self.path), apsw.SQLITE_OPEN_READWRITE)

    def connect_reader(self) -> apsw.Connection:
        return connect_to_projection(str(self.path), apsw.SQLITE_OPEN_READONLY)

    def exists(self) -> bool:
        return self.path.exists()

    def remove(self) -> None:
        for path in (*self._logs(), self.path):
            path.unlink(missing_ok=True)

    def set_aside(self, now: int) -> str:
        kept = self.path.with_name(f"{self.path.name}-damaged-{now}")
        log, index, _ = self._logs()
        # The log first: without it the file is an older one, and a log without its file is none.
        if log.exists():
            log.rename(kept.with_name(f"{kept.name}-wal"))
        index.unlink(missing_ok=True)
        if self.path.exists():
            self.path.rename(kept)
        sync_directory(kept.parent)
        return str(kept)

    def _logs(self) -> tuple[Path, ...]:
        return tuple(self.path.with_name(f"{self.path.name}{suffix}") for suffix in _LOGS)


class MemoryPlace(ProjectionPlace):
    """A database in memory, shared by the connections of this process. It outlives all of them."""

    def __init__(self) -> None:
        self._anchor: apsw.Connection
        self.remove()

    @property
    def path(self) -> None:
        return None

    def __str__(self) -> str:
        return "in memory"

    def connect(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        return connect_to_projection(self._uri, flags)

    def connect_reader(self) -> apsw.Connection:
        connection = self.connect()
        connection.pragma("query_only", "ON")
        return connection

    def exists(self) -> bool:
        return bool(self._anchor.execute("SELECT 1 FROM sqlite_schema").fetchall())

    def remove(self) -> None:
        self._uri = MemoryLocation().uri
        self._anchor = self.connect()

    def set_aside(self, now: int) -> str:
        del now
        self.remove()
        return "nowhere"


class ProjectionPlaces:
    """The places of all projections of one store."""

    def __init__(self, store: Path | None) -> None:
        self._store = store
        self._memory: dict[str, MemoryPlace] = {}

    def of(self, name: str, file: str | None = None) -> ProjectionPlace:
        """Return the place of a projection; `file` is relative to the store's folder."""
        if self._store is None:
            return self._memory.setdefault(name, MemoryPlace())
        if file is None:
            return FilePlace(self._store.with_name(f"{self._store.name}{_INFIX}{name}"))
        return FilePlace((self._store.parent / file).resolve())

    def draft_of(self, name: str, file: str | None = None) -> ProjectionPlace:
        """Return the place where a projection is built anew."""
        place = self.of(name, file)
        if place.path is None:
            return self._memory.setdefault(f"{name}{_DRAFT}", MemoryPlace())
        return FilePlace(place.path.with_name(f"{place.path.name}{_DRAFT}"))


def projections_beside(store: Path) -> Iterator[Path]:
    """Yield the files of projections that lie beside a store under the usual names, in order."""
    resolved = store.resolve()
    start = f"{resolved.name}{_INFIX}"
    for path in sorted(resolved.parent.glob(f"{_escaped(start)}*")):
        if PROJECTION_NAME.fullmatch(path.name.removeprefix(start)):
            yield path


def projection_name(store: Path, file: Path) -> str:
    """Return the name of a projection by that of its file, as far as that has it."""
    return file.name.removeprefix(f"{store.resolve().name}{_INFIX}")


def _escaped(name: str) -> str:
    """Return a name in which nothing has a meaning for `glob`."""
    return re.sub(r"([*?[])", r"[\1]", name)
