"""The black box: what it says after each kind of end, and that it says nothing when it is damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from persistasaurus.store.files import black_box
from persistasaurus.store.files.black_box import (
    BlackBox,
    Blocking,
    Past,
    Present,
    Suspicion,
    blackbox_of,
    present_in,
    suspicions_after,
)

CODE = b"the code"
PROGRAM = """
import os, signal, sys
from pathlib import Path
from persistasaurus.store.files.black_box import BlackBox
box = BlackBox(Path(sys.argv[1]), b"the code")
box.begin("culprit")
box.beat(1234)
if sys.argv[2] == "handled":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
if sys.argv[2] in ("term", "handled"):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
if sys.argv[2] == "fork":
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    os.waitpid(child, 0)
if sys.argv[2] == "exit":
    sys.exit()
if sys.argv[2] == "close":
    box.end()
    box.close()
    box.begin("too late")
os._exit(9)
"""


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "flows.db.blackbox"


def died(path: Path, how: str) -> int:
    return subprocess.run([sys.executable, "-c", PROGRAM, str(path), how], check=False, timeout=60).returncode


def past(path: Path, code: bytes = CODE) -> Past:
    box = BlackBox(path, code)
    box.close()
    return box.past


@pytest.mark.parametrize("how", ["dies", "fork"])
def test_a_death_is_told_with_what_ran_and_when_it_was_last_alive(path: Path, how: str) -> None:
    assert died(path, how) == 9
    assert past(path) == Past(False, ("culprit",), 1234, {})


@pytest.mark.parametrize("how", ["term", "exit", "close"])
def test_who_was_told_to_end_is_not_to_blame(path: Path, how: str) -> None:
    code = died(path, how)
    assert code == {"term": -signal.SIGTERM, "exit": 0, "close": 9}[how]
    assert past(path).is_blameless


def test_a_handler_that_the_host_has_set_is_called_all_the_same(path: Path) -> None:
    assert died(path, "handled") == 7


def test_other_code_is_not_to_blame_for_what_the_former_did(path: Path) -> None:
    died(path, "dies")
    assert past(path, b"other code").is_blameless


@pytest.mark.parametrize("damage", [b"", b"psblack1", b"x" * 300_000])
def test_a_file_that_is_damaged_says_nothing(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    assert past(path) == Past()


def test_suspicions_that_are_damaged_are_none(path: Path) -> None:
    died(path, "dies")
    data = bytearray(path.read_bytes())
    data[88:92] = (7).to_bytes(4, "little")
    data[256:263] = b"\xff{oops}"
    path.write_bytes(data)
    assert past(path).suspicions == {}


def test_only_the_owner_can_read_it_and_each_process_has_a_file_of_its_own(path: Path) -> None:
    first = BlackBox(path, CODE)
    assert path.stat().st_mode & 0o777 == 0o600
    second = BlackBox(path, CODE)
    first.begin("of the former owner")
    first.close()
    second.close()
    assert past(path).running == ()


def test_what_is_through_is_not_told_and_long_names_are_cut() -> None:
    memory = bytearray()
    box = BlackBox(code=CODE, memory=memory)
    assert box.is_real
    box.finish(box.begin("through"))
    box.begin("é" * 2000)
    box.suspect({"a": Suspicion(2, 5)})
    box.suspect({str(n): Suspicion(2, 5) for n in range(10_000)})  # too many to be kept
    (name,) = BlackBox(code=CODE, memory=memory).past.running
    assert name == "é" * 511


def test_more_work_than_there_are_slots_is_not_told() -> None:
    box = BlackBox(memory=bytearray())
    assert [box.begin("x") for _ in range(200)].count(0) == 72
    box.finish(0)


def test_without_a_file_nothing_is_kept() -> None:
    box = BlackBox()
    assert not box.is_real
    assert box.begin("x") == 0
    box.beat(1)
    box.end()
    box.close()


def test_who_is_through_after_it_was_closed_is_told_nowhere(path: Path) -> None:
    box = BlackBox(path, CODE)
    slot = box.begin("at work")
    box.close()
    box.finish(slot)
    assert box.begin("too late") == 0
    assert past(path).running == ("at work",)


def test_where_the_system_does_not_say_when_it_was_started_whoever_ran_may_be_to_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(black_box, "_BOOT", Path("/nowhere/boot_id"))
    memory = bytearray()
    BlackBox(code=CODE, memory=memory).begin("culprit")
    assert BlackBox(code=CODE, memory=memory).past == Past(False, ("culprit",), None, {})


def test_the_signals_of_a_forked_child_leave_no_mark_in_its_parents_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[int] = []
    monkeypatch.setattr(black_box.faulthandler, "register", lambda _, file, **__: files.append(file))
    marks = black_box._Marks()
    marks.forget()
    assert files == []

    with path.open("wb") as file:
        marks.go_to(file.fileno())
        assert set(files) == {file.fileno()}
        files.clear()
        marks.forget()
        (nowhere,) = set(files)
        os.write(nowhere, b"mark")
        assert os.fstat(file.fileno()).st_size == 0
    os.close(nowhere)


def test_no_descriptor_is_left_when_it_cannot_be_made(tmp_path: Path) -> None:
    path = tmp_path / "flows.db.blackbox"
    path.mkdir()
    (path / "in the way").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="irectory"):
        BlackBox(path, CODE)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_who_comes_no_further_from_death_to_death_is_suspected_more_each_time() -> None:
    versions = {"a": 3, "b": 8, "c": None}
    once = suspicions_after(Past(running=("a", "b", "c")), versions.get)
    assert once == {"a": Suspicion(1, 3), "b": Suspicion(1, 8)}
    versions["b"] = 9
    assert suspicions_after(Past(running=("a", "b"), suspicions=once), versions.get) == {
        "a": Suspicion(2, 3),
        "b": Suspicion(1, 9),
    }
    assert suspicions_after(Past(running=("b",), suspicions=once), versions.get) == {"b": Suspicion(1, 9)}
    assert suspicions_after(Past(True, ("a",), None, once), versions.get) == once


# ------------------------------------------------------------------------------------------ the present
def blocking(number: int, size: int = 10) -> Blocking:
    return Blocking(f"flow-{number}".ljust(size, "x"), "", "a.py:1 in main()", number)


def test_what_keeps_a_process_from_its_work_can_be_read_while_it_lives(tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    assert present_in(store) == Present()
    box = BlackBox(blackbox_of(store), CODE)
    assert present_in(store) == Present()
    for present in (Present((blocking(1), blocking(2)), 3), Present((blocking(2),), 1), Present()):
        box.note(present)
        assert present_in(store) == present
    box.close()
    box.note(Present((blocking(1),)))


def test_it_says_nothing_of_suspicions_nor_of_who_runs(path: Path) -> None:
    box = BlackBox(path, CODE)
    box.begin("culprit")
    box.suspect({"other": Suspicion(1, 2)})
    box.note(Present((blocking(1),), 1))
    box.close()
    assert past(path) == Past(False, ("culprit",), None, {"other": Suspicion(1, 2)})


def test_of_more_than_there_is_room_for_some_are_named(tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    box = BlackBox(blackbox_of(store), CODE)
    box.note(Present(tuple(blocking(n, 1000) for n in range(100)), 7))
    box.close()
    found = present_in(store)
    assert 5 < len(found.blocking) < 100
    assert found.lost_threads == 7


@pytest.mark.parametrize("rotten", [b"", b"no black box", b"psblack1".ljust(70_000, b"\xff")])
def test_a_file_that_is_damaged_says_nothing_of_the_present(tmp_path: Path, rotten: bytes) -> None:
    store = tmp_path / "flows.db"
    blackbox_of(store).write_bytes(rotten)
    assert present_in(store) == Present()
