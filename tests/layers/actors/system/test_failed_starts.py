"""A system that cannot start, or is interrupted, keeps nothing: the next attempt has the store."""

from __future__ import annotations

import contextlib
import dis
import linecache
import random
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import persistasaurus
import pytest
from persistasaurus import Flow, FlowSystem, StoreOwned, SupervisorRules, flow, step, wait_for
from persistasaurus.actors import system as module
from persistasaurus.store import SqliteStore, StoreHalted
from system.doubles import DEAD_MAN_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ROOT = str(Path(persistasaurus.__file__).parent)
SEED = 20261130
INSTANTS = 150


class Adds(Flow):
    @flow
    async def main(self) -> int:
        return await self.add(1, 2)

    @step
    def add(self, one: int, other: int) -> int:
        return one + other


def start(path: Path) -> None:
    with FlowSystem(path, flows=[Adds]) as system:
        assert system.run(Adds.main) == 3


def open_files(folder: Path) -> list[str]:
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [path.name for path in links if path.is_relative_to(folder)]


def is_out_of_reach(frame: FrameType) -> bool:
    """Tell whether no signal is handled here: at a `try`, on the way out of a `with`, before a last `close`.

    Python does it when a call has returned, and code like that relies on it.
    """
    instructions = frame.f_code.co_code[frame.f_lasti :][:6:2]
    if instructions[0] == dis.opmap["NOP"] or instructions == bytes([dis.opmap["LOAD_CONST"]] * 3):
        return True
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().startswith("os.close(")


def lines_of_a_start(path: Path, at: int | None = None) -> int:
    """Start and close a system, and raise in line `at`, as Ctrl-C does; return how many lines there are."""
    count = 0

    def in_package(_frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if event == "line" and not is_out_of_reach(_frame):
            count += 1
            if count == at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return in_package

    def trace(frame: FrameType, _event: str, _: Any) -> Any:
        return in_package if frame.f_code.co_filename.startswith(ROOT) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        system = FlowSystem(path, flows=[Adds])
    finally:
        sys.settrace(before)
    system.close()
    return count


def test_a_start_that_is_interrupted_at_any_line_leaves_the_store_free(tmp_path: Path) -> None:
    path = tmp_path / "flows.db"
    start(path)
    last = lines_of_a_start(path)
    chosen = sorted(random.Random(SEED).sample(range(1, last + 1), INSTANTS))
    print(f"seed {SEED}: {INSTANTS} of {last} lines")  # noqa: T201 - what was tried
    for at in chosen:
        try:
            lines_of_a_start(path, at)
        except KeyboardInterrupt:
            start(path)

    if sys.platform == "linux":
        assert open_files(tmp_path) == []


@pytest.mark.parametrize("granted", range(6))
def test_a_machine_that_grants_no_thread_leaves_the_store_free(
    tmp_path: Path, granted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, real = 0, threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        nonlocal started
        started += 1
        if started == granted + 1:
            raise RuntimeError("can't start new thread")
        real(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with contextlib.suppress(RuntimeError):
            FlowSystem(tmp_path / "flows.db", flows=[Adds]).close()
    start(tmp_path / "flows.db")


def test_a_shortage_of_threads_while_all_workers_are_held_is_over_when_there_are_threads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, release = threading.Semaphore(0), threading.Event()

    class Holds(Flow):
        @flow
        async def main(self) -> None:
            await wait_for("shortage")
            held.release()
            release.wait(DEAD_MAN_S)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    rules = SupervisorRules(report_blocking_s=DEAD_MAN_S, park_blocking_s=DEAD_MAN_S)
    with FlowSystem(tmp_path / "flows.db", flows=[Adds, Holds], rules=rules, workers=2) as system:
        handles = [system.start(Holds.main) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for handle in handles:
                handle.signal("shortage")
                assert held.acquire(timeout=DEAD_MAN_S)
            wait_until(lambda: system._working.carriers.lacks_threads)
        try:
            assert system.start(Adds.main).result(DEAD_MAN_S / 2) == 3
        finally:
            release.set()


def test_the_first_flow_needs_no_thread_that_the_open_system_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with FlowSystem(tmp_path / "flows.db", flows=[Adds]) as system:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            handle = system.start(Adds.main, flow_id="first")
        assert handle.result(DEAD_MAN_S) == 3


@pytest.mark.parametrize(
    "part",
    ["Admission", "StepExecutor", "AttemptRegistry", "Recovery", "Supervisor", "Timers", "SqliteRequests"],
)
def test_whatever_part_cannot_be_made_the_store_is_left_free(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenError(Exception):
        pass

    def broken(*_: Any, **__: Any) -> Any:
        raise BrokenError

    with monkeypatch.context() as patch:
        patch.setattr(module, part, broken)
        if part in ("Supervisor", "Timers"):
            broken.start_on = broken  # type: ignore[attr-defined]
        with pytest.raises(BrokenError):
            FlowSystem(tmp_path / "flows.db", flows=[Adds])
    start(tmp_path / "flows.db")


def test_a_store_that_was_handed_over_is_closed_when_the_system_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore.open(tmp_path / "flows.db", now=lambda: 0)

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(module, "Recovery", broken)
        with pytest.raises(ZeroDivisionError):
            FlowSystem(store=store, flows=[Adds])

    with pytest.raises(StoreHalted, match="closed"):
        store.headers()


def test_a_store_that_this_process_has_open_is_told_apart_from_that_of_another(tmp_path: Path) -> None:
    with FlowSystem(tmp_path / "flows.db", flows=[Adds]) as system:
        with pytest.raises(StoreOwned, match=r"already open in this process.*close\(\)"):
            FlowSystem(tmp_path / "flows.db", flows=[Adds])
        assert system.run(Adds.main) == 3


def test_a_failure_to_close_one_part_does_not_keep_the_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    close: Callable[..., Any] = module.StepExecutor.close
    with monkeypatch.context() as patch:
        patch.setattr(module, "Supervisor", broken)
        broken.start_on = broken  # type: ignore[attr-defined]
        patch.setattr(module.StepExecutor, "close", lambda *given: (close(*given), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            FlowSystem(tmp_path / "flows.db", flows=[Adds])
    start(tmp_path / "flows.db")
