from __future__ import annotations

import contextlib
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conformance.builders import Clock
from conformance.recorder import Recorder
from persistasaurus.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db"


@pytest.fixture
def open_store(path: Path, clock: Clock) -> Iterator[Callable[..., SqliteStore]]:
    """Open stores that are closed when the test ends."""
    with contextlib.ExitStack() as stack:

        def open_one(where: Path = path, **settings: Any) -> SqliteStore:
            store = SqliteStore.open(where, now=clock, **settings)
            stack.callback(store.close)
            return store

        yield open_one


@pytest.fixture
def store(open_store: Callable[..., SqliteStore]) -> SqliteStore:
    return open_store()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    vfs = Recorder()
    yield vfs
    vfs.unregister()


@pytest.fixture
def recorded(open_store: Callable[..., SqliteStore], recorder: Recorder) -> SqliteStore:
    return open_store(vfs=recorder.vfs_name)


@pytest.fixture
def open_files() -> Callable[[Path], list[str]]:
    """Tell which files in a folder this process has open, also those that were removed."""
    if sys.platform != "linux":
        pytest.skip("asks /proc what is open")

    def found(folder: Path) -> list[str]:
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [path.name for path in links if path.is_relative_to(folder)]

    return found


OPEN = """
import sys
from persistasaurus.store import SqliteStore
try:
    store = SqliteStore.open(sys.argv[1], now=lambda: 0)
    print("opened", store.epoch, flush=True)
    sys.stdin.read()
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def other_process(path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Open the store in another process, and return what it says; it holds the store until it is killed."""
    started = []

    def start(where=path):
        process = subprocess.Popen(
            [sys.executable, "-c", OPEN, str(where)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        ready, _, _ = select.select([process.stdout], [], [], 30)
        assert ready, "the other process says nothing"
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=30)
