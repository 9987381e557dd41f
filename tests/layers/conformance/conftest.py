"""The stores that the suite is run over. Another one joins by a class and a line in `BACKENDS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

import pytest
from conformance.builders import Clock
from persistasaurus.store import SqliteStore, StoreLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from persistasaurus.store import EventStore


class Backend(Protocol):
    """A place for one store, empty at first."""

    lasting: ClassVar[bool]
    """Whether what was written is there again when the store is closed and opened."""

    def __init__(self, tmp_path: Path) -> None: ...

    def open(self, now: Callable[[], int], limits: StoreLimits) -> EventStore: ...


class SqliteOnDisk:
    lasting = True

    def __init__(self, tmp_path: Path) -> None:
        self._path = tmp_path / "flows.db"

    def open(self, now: Callable[[], int], limits: StoreLimits) -> EventStore:
        return SqliteStore.open(self._path, now=now, limits=limits)


class SqliteInMemory:
    lasting = False

    def __init__(self, tmp_path: Path) -> None:
        pass

    def open(self, now: Callable[[], int], limits: StoreLimits) -> EventStore:
        return SqliteStore.open(":memory:", now=now, limits=limits)


BACKENDS: dict[str, type[Backend]] = {
    "sqlite-on-disk": SqliteOnDisk,
    "sqlite-in-memory": SqliteInMemory,
}

SMALL = StoreLimits(inbox=5, data=1000)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend_name" in metafunc.fixturenames:
        lasting = "reopened" in metafunc.fixturenames
        names = [name for name, backend in BACKENDS.items() if backend.lasting or not lasting]
        metafunc.parametrize("backend_name", names)


@pytest.fixture
def backend(backend_name: str, tmp_path: Path) -> Backend:
    return BACKENDS[backend_name](tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(backend: Backend, clock: Clock) -> Iterator[EventStore]:
    opened = backend.open(clock, SMALL)
    yield opened
    opened.close()


@pytest.fixture
def reopened(backend: Backend, clock: Clock, store: EventStore) -> Iterator[Callable[[], EventStore]]:
    """Close the store and open it again, as another process would; only over stores that last."""
    stores = [store]

    def reopen() -> EventStore:
        stores[-1].close()
        stores.append(backend.open(clock, SMALL))
        return stores[-1]

    yield reopen
    stores[-1].close()
