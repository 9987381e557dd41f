"""The spool: what is put in is there, in order, whoever dies when; and nothing else gets in anybody's way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.store import RecordTooLarge, StoreFull, StoreUnusable
from persistasaurus.store.files import private_folder as folder
from persistasaurus.store.files.private_folder import NotAFileError
from persistasaurus.store.files.spool import Spool, SpoolFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.builders import Clock

HOUR = 3600


@pytest.fixture
def spool(path: Path, clock: Clock) -> Spool:
    path.touch(mode=0o600)
    return Spool(path, clock)


def put(spool: Spool, data: bytes, numbers: Any = count()) -> str:  # noqa: B008 - one for all
    return spool.put(data, f"t{next(numbers)}")


def everything(spool: Spool) -> list[str]:
    """Return the files in the spool."""
    return sorted(p.relative_to(spool.folder).as_posix() for p in spool.folder.rglob("*") if not p.is_dir())


# What is promised


def test_a_request_goes_in_and_an_answer_comes_out_and_nothing_is_left(spool: Spool) -> None:
    name = put(spool, b"please")
    assert spool.take_answer(name) is None

    assert spool.pending() == [name]
    assert spool.read(name) == b"please"
    spool.answer(name, b"done")

    assert spool.pending() == []
    assert spool.read(name) is None
    assert spool.take_answer(name) == b"done"
    assert spool.take_answer(name) is None
    assert everything(spool) == []


def test_requests_come_in_the_order_in_which_they_were_left_also_when_the_clock_is_set_back(
    path: Path, spool: Spool, clock: Clock
) -> None:
    names = [put(spool, b"0"), put(spool, b"1")]
    clock.advance(-HOUR)
    names += [put(spool, b"2"), put(Spool(path, clock), b"3")]
    clock.advance(2 * HOUR)
    names += [put(spool, b"4")]

    assert spool.pending() == names
    assert [spool.read(name) for name in names] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_sender_goes_on_behind_what_was_handled_when_the_clock_is_set_back(
    spool: Spool, clock: Clock
) -> None:
    handled = put(spool, b"0")
    spool.answer(handled, b"done")
    clock.advance(-HOUR)

    assert put(spool, b"1") > handled


def test_what_cannot_be_done_is_kept_with_the_reason_until_its_sender_hears_of_it(
    spool: Spool, clock: Clock
) -> None:
    heard, unheard = put(spool, b"a"), put(spool, b"b")
    for name in (heard, unheard):
        spool.refuse(name, b"data", "no such flow")
        spool.answer(name, b"no")
    spool.take_answer(heard)

    assert [(r.name, r.at, r.data, r.reason) for r in spool.refused()] == [
        (unheard, clock.now, b"data", "no such flow")
    ]


def test_a_spool_that_nobody_has_used_is_empty_and_is_not_created_by_looking(spool: Spool) -> None:
    assert (spool.pending(), spool.refused(), spool.take_answer("0-a")) == ([], [], None)
    spool.sweep()
    assert not spool.folder.exists()


def test_whoever_reaches_the_store_by_a_link_uses_the_same_spool(
    spool: Spool, path: Path, clock: Clock, tmp_path: Path
) -> None:
    link = tmp_path / "elsewhere.db"
    link.symlink_to(path)
    name = put(Spool(link, clock), b"x")
    assert spool.pending() == [name]


def test_only_the_user_of_the_store_can_reach_what_is_in_it(spool: Spool) -> None:
    os.umask(os.umask(0))
    name = put(spool, b"x")
    spool.answer(put(spool, b"y"), b"z")

    folders = [spool.folder, *spool.folder.iterdir()]
    assert {oct(f.stat().st_mode & 0o777) for f in folders} == {"0o700"}
    files = [spool.folder / file for file in everything(spool)]
    assert {oct(f.stat().st_mode & 0o777) for f in files} == {"0o600"}
    assert name in spool.pending()


# Durability

SYNCS = """
import os, sys
from pathlib import Path
from persistasaurus.store.files import private_folder as folder
from persistasaurus.store.files.spool import Spool
spool = Spool(sys.argv[1], lambda: 5)
spool.put(b"first", "a")
real = os.fsync
def fsync(descriptor):
    real(descriptor)
    print(Path(os.readlink(f"/proc/self/fd/{descriptor}")).relative_to(spool.folder), sorted(spool.pending()))
os.fsync = fsync
spool.put(b"second", "b")
"""


def python(code: str, *args: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_a_request_is_synced_before_it_has_its_name_and_its_name_before_it_is_acknowledged(
    spool: Spool, path: Path
) -> None:
    first, second = f"{5:020d}-a", f"{6:020d}-b"
    assert python(SYNCS, path).splitlines() == [f"tmp/{second} ['{first}']", f"new ['{first}', '{second}']"]


def test_all_of_a_request_is_synced(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    put(spool, b"x")
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: sizes.append(os.fstat(number).st_size))

    put(spool, b"x" * 1234)

    assert sizes[0] == 1234


def note_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that becomes longer with each file or folder that is synced."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    return synced


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_the_folders_are_synced_before_the_first_request_is_acknowledged(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = note_syncs(monkeypatch)

    put(spool, b"x")

    assert synced[:2] == [spool.folder, spool.folder.parent]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_an_order_that_must_not_come_back_is_gone_for_good_when_it_is_answered(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [put(spool, b"x"), put(spool, b"y")]
    synced: list[tuple[Path, list[str]]] = []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), spool.pending()))

    monkeypatch.setattr(os, "fsync", fsync)
    spool.answer(names[0], b"done")
    assert synced == []
    spool.answer(names[1], b"done", durable=True)
    # As long as the order is there, so is its answer.
    assert [(path.relative_to(spool.folder).parts[0], left) for path, left in synced] == [
        ("tmp", [names[1]]),
        ("answers", [names[1]]),
        ("new", []),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_what_can_never_be_done_is_kept_durably_before_its_sender_is_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(spool, b"x")
    synced = note_syncs(monkeypatch)

    spool.refuse(name, b"x", "no")

    assert [path.relative_to(spool.folder).parts[0] for path in synced] == ["tmp", "refused"]


def test_nothing_stays_open(spool: Spool, open_files: Callable[[Path], list[str]]) -> None:
    spool.answer(put(spool, b"x"), b"done", durable=True)

    assert open_files(spool.folder.parent) == []


def sweep_later(spool: Spool, name: str) -> None:
    os.utime(spool.folder / "answers" / name, (0, 0))
    spool.sweep()
    assert not (spool.folder / "answers" / name).exists()


@pytest.mark.parametrize("then", [Spool.read, Spool.take_answer, sweep_later])
def test_a_request_that_was_answered_is_not_handled_again_when_its_owner_was_killed_before_it_was_gone(
    spool: Spool, then: Callable[[Spool, str], object]
) -> None:
    name = put(spool, b"x")
    spool.answer(name, b"done")
    (spool.folder / "new" / name).write_bytes(b"x")

    then(spool, name)

    assert spool.pending() == []
    assert spool.read(name) is None


def test_the_draft_of_an_answer_whose_owner_was_killed_is_in_nobodys_way(spool: Spool) -> None:
    name = put(spool, b"x")
    (spool.folder / "tmp" / name).write_bytes(b"do")
    spool.answer(name, b"done")

    assert spool.take_answer(name) == b"done"


def test_a_request_that_somebody_has_removed_is_answered_all_the_same(spool: Spool) -> None:
    name = put(spool, b"x")
    (spool.folder / "new" / name).unlink()
    spool.answer(name, b"done")

    assert spool.take_answer(name) == b"done"


DIES = """
import os, signal, sys
from persistasaurus.store.files import private_folder as folder
from persistasaurus.store.files.spool import Spool
spool = Spool(sys.argv[1], lambda: 5)
spool.put(b"first", f"a{os.getpid()}")
calls = 0
def dying(real):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for name in ("open", "fsync", "fdopen", "rename", "close"):
    setattr(os, name, dying(getattr(os, name)))
spool.put(b"second" * 10_000, f"b{os.getpid()}")
print("acknowledged")
"""


def test_a_sender_that_is_killed_at_any_moment_leaves_all_or_nothing(
    spool: Spool, path: Path, clock: Clock
) -> None:
    """Also the folders are in order for the next one."""
    seen: set[tuple[bool, bool]] = set()
    for moment in range(1, 20):
        acknowledged = python(DIES, path, moment) != ""
        found = [spool.read(name) for name in spool.pending()]
        assert found in ([b"first"], [b"first", b"second" * 10_000])
        seen.add((acknowledged, len(found) == 2))
        for name in spool.pending():
            spool.answer(name, b"")
        if acknowledged:
            break
    assert seen == {(False, False), (False, True), (True, True)}
    clock.now = 2 * 10**18
    spool.sweep()
    assert everything(spool) == []


# Bounds


def test_a_request_that_is_too_large_is_refused_where_it_is_left(spool: Spool) -> None:
    with pytest.raises(RecordTooLarge, match="limit of 16,777,216"):
        put(spool, b"x" * (16 * 1024 * 1024 + 1))
    assert not spool.folder.exists()


def test_a_request_that_is_just_small_enough_is_read(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persistasaurus.store.files.spool._SIZE_MAX", 100)

    assert spool.read(put(spool, b"x" * 100)) == b"x" * 100


def test_more_requests_than_anybody_will_take_are_refused(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.store.files.spool._PENDING_MAX", 3)
    names = [put(spool, b"x") for _ in range(3)]
    with pytest.raises(SpoolFull, match=r"3 requests wait in .*; nothing was written"):
        put(spool, b"x")
    assert spool.pending() == names


def test_what_nobody_comes_back_for_is_swept_after_an_hour_and_the_newest_refusals_stay(
    spool: Spool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.store.files.spool._REFUSED_MAX", 2)
    waiting = put(spool, b"x")
    refused = [put(spool, b"r") for _ in range(4)]
    for name in refused:
        spool.refuse(name, b"r", "no")
        spool.answer(name, b"no")
    (spool.folder / "tmp" / "half").write_bytes(b"ha")
    for age, left in ((HOUR - 60, 5), (HOUR + 60, 0)):
        for file in everything(spool):
            at = clock.now / 1e6 - age
            os.utime(spool.folder / file, (at, at))
        spool.sweep()
        old = [f for f in everything(spool) if f.startswith(("tmp/", "answers/"))]
        assert len(old) == left

    assert [r.name for r in spool.refused()] == refused[2:]
    assert spool.pending() == [waiting]


# A disk that is full, and rights that are missing


def failing(monkeypatch: pytest.MonkeyPatch, number: int, call: str = "fsync") -> Callable[[], None]:
    real = getattr(os, call)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"persistasaurus.store.files.private_folder.os.{call}", fail)
    return lambda: monkeypatch.setattr(f"persistasaurus.store.files.private_folder.os.{call}", real)


def test_a_full_disk_refuses_a_request_and_leaves_nothing_behind(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put(spool, b"x")
    repair = failing(monkeypatch, errno.ENOSPC)
    with pytest.raises(StoreFull, match="the disk is full: cannot write to"):
        put(spool, b"y")
    repair()
    assert everything(spool) == [f"new/{first}"]


def test_what_a_full_disk_leaves_no_room_to_set_aside_stays_where_it_is(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(spool, b"x")
    (spool.folder / "new" / "rubbish").touch()
    repair = failing(monkeypatch, errno.ENOSPC, "fdopen")
    with pytest.raises(StoreFull, match=r"the disk is full: cannot move it to .*refused"):
        spool.set_aside("rubbish", "its name")
    assert "rubbish" in spool.pending()
    repair()
    spool.set_aside("rubbish", "its name")
    assert "rubbish" not in spool.pending()


def test_a_full_disk_loses_no_request_that_cannot_be_answered(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(spool, b"x")
    repair = failing(monkeypatch, errno.ENOSPC, "fdopen")
    with pytest.raises(StoreFull):
        spool.answer(name, b"done")
    with pytest.raises(StoreFull):
        spool.refuse(name, b"x", "no")
    assert spool.pending() == [name]
    repair()
    spool.answer(name, b"done")
    assert spool.take_answer(name) == b"done"


def test_a_folder_that_is_gone_is_made_again(spool: Spool) -> None:
    spool.answer(put(spool, b"x"), b"")
    subprocess.run(["rm", "-r", spool.folder], check=True)
    with pytest.raises(StoreUnusable, match="cannot write to"):
        put(spool, b"y")
    name = put(spool, b"z")
    assert spool.pending() == [name]


def test_a_store_that_is_not_there_has_no_spool(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(StoreUnusable, match=r"cannot write to .*No such file"):
        put(Spool(tmp_path / "none.db", clock), b"x")
    assert list(tmp_path.iterdir()) == []


# What others may have put there


@pytest.mark.parametrize("part", ["", "new", "tmp", "answers", "refused"])
def test_a_folder_that_others_may_write_to_is_not_used(spool: Spool, path: Path, part: str) -> None:
    name = put(spool, b"x")
    (spool.folder / part).chmod(0o770)
    fresh = Spool(path, lambda: 0)
    with pytest.raises(StoreUnusable, match=r"can be written by others: .* chmod 700 it"):
        put(fresh, b"y")
    with pytest.raises(StoreUnusable, match="can be written by others"):
        fresh.answer(name, b"")
    with pytest.raises(StoreUnusable, match="can be written by others"):
        fresh.refuse(name, b"", "no")
    with pytest.raises(StoreUnusable, match="can be written by others"):
        fresh.set_aside(name, "no")
    if part in ("", "new"):
        with pytest.raises(StoreUnusable):
            fresh.pending()
    if part in ("", "refused"):
        with pytest.raises(StoreUnusable):
            fresh.refused()


def test_a_folder_that_is_a_link_or_a_file_is_not_used(path: Path, spool: Spool, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spool.folder.symlink_to(elsewhere)
    for refused in (lambda: put(spool, b"x"), spool.pending, spool.refused):
        with pytest.raises(StoreUnusable, match="is not a folder"):
            refused()
    spool.sweep()
    spool.folder.unlink()
    spool.folder.touch()
    with pytest.raises(StoreUnusable, match="is not a folder"):
        put(spool, b"x")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_folders_and_files_of_another_user_are_not_used(path: Path, spool: Spool) -> None:
    name = put(spool, b"x")
    os.chown(spool.folder / "new" / name, 12345, -1)
    with pytest.raises(NotAFileError, match="belongs to another user"):
        spool.read(name)
    os.chown(spool.folder, 12345, -1)
    with pytest.raises(StoreUnusable, match="belongs to another user"):
        spool.pending()
    os.chown(path, 12345, -1)
    with pytest.raises(StoreUnusable, match=r"belongs to another user .*: be that user"):
        put(Spool(path, lambda: 0), b"x")


def socket_at(path: Path) -> None:
    # By its name alone, from another process' place: the whole path may be longer than a socket's may be.
    bind = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    subprocess.run([sys.executable, "-c", bind, path.name], cwd=path.parent, check=True)


RUBBISH = {
    "a link": (lambda path: path.symlink_to("/etc/passwd"), "no regular file"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "no regular file"),
    "a folder": (lambda path: (path.mkdir(), (path / "x").touch()), "no regular file"),
    "a pipe": (os.mkfifo, "no regular file"),
    "a socket": (socket_at, "no regular file"),
    "too much": (lambda path: (path.touch(), os.truncate(path, 2**30)), "more than 16,777,216 bytes"),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_what_is_no_request_is_never_followed_or_waited_for_and_can_be_moved_out_of_the_way(
    spool: Spool, kind: str
) -> None:
    request = put(spool, b"x")
    name = request[:-1] + "z"
    make, reason = RUBBISH[kind]
    make(spool.folder / "new" / name)

    with pytest.raises(NotAFileError, match=reason):
        spool.read(name)
    spool.set_aside(name, "because")

    assert spool.pending() == [request]
    [entry] = spool.refused()
    assert entry.reason == f"'{name}' in new is no request: because"
    assert [p.name for p in (spool.folder / "refused").iterdir() if p.name.endswith(".as-found")] == [
        entry.name + ".as-found"
    ]


@pytest.mark.parametrize(
    "name", ["x", ".hidden", "1-a", "\udcff\n", "a" * 255, f"{1:020d}-A", f"{1:020d}-a.b"]
)
def test_what_has_another_name_is_no_request(spool: Spool, name: str) -> None:
    request = put(spool, b"x")
    (spool.folder / "new" / name).write_bytes(b"y")
    with pytest.raises(NotAFileError, match="not that of a request"):
        spool.read(name)
    spool.set_aside(name, "its name")
    assert spool.pending() == [request]
    later = put(spool, b"z")
    assert spool.pending() == [request, later]


def test_all_that_is_moved_out_of_the_way_at_one_instant_is_kept(spool: Spool) -> None:
    put(spool, b"x")
    for name in ("one", "two"):
        (spool.folder / "new" / name).write_text(name)
        spool.set_aside(name, "its name")

    entries = spool.refused()
    assert [entry.reason for entry in entries] == [
        f"'{name}' in new is no request: its name" for name in ("one", "two")
    ]
    kept = [spool.folder / "refused" / f"{entry.name}.as-found" for entry in entries]
    assert [path.read_text() for path in kept] == ["one", "two"]


def test_a_name_at_the_end_of_time_stops_nobody(spool: Spool) -> None:
    put(spool, b"x")
    (spool.folder / "new" / ("9" * 20 + "-a")).write_bytes(b"y")
    name = put(spool, b"z")
    assert spool.read(name) == b"z"


def test_refusals_that_are_unreadable_hide_no_others(spool: Spool) -> None:
    name = put(spool, b"x")
    spool.refuse(name, b"x", "no")
    (spool.folder / "refused" / (name[:-1] + "y")).write_bytes(b"rubbish")
    assert [r.name for r in spool.refused()] == [name]


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), lambda p: p.mkdir()])
def test_an_answer_that_is_none_is_not_followed(spool: Spool, make: Any) -> None:
    name = put(spool, b"x")
    make(spool.folder / "answers" / name)
    with pytest.raises(StoreUnusable, match="no regular file"):
        spool.take_answer(name)


@pytest.mark.parametrize("look", [1, 2])
def test_a_file_that_grows_while_it_is_read_is_too_large(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    """It is looked at before it is opened, and then again; it may still grow after that."""
    name = put(spool, b"x" * 100)
    real, looks = folder._check, count(1)

    def grows(found: os.stat_result, limit: int) -> None:
        real(found, limit)
        if next(looks) == look:
            os.truncate(spool.folder / "new" / name, 2**25)

    monkeypatch.setattr(folder, "_check", grows)
    with pytest.raises(NotAFileError, match="more than"):
        spool.read(name)


def test_a_request_that_is_gone_when_it_has_been_looked_at_is_gone(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(spool, b"x")
    real = folder._check

    def takes(found: os.stat_result, limit: int) -> None:
        real(found, limit)
        (spool.folder / "new" / name).unlink()

    monkeypatch.setattr(folder, "_check", takes)
    assert spool.read(name) is None


def test_a_link_that_is_put_there_while_it_is_looked_at_is_not_followed(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = put(spool, b"x")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    real = folder._check

    def swaps(found: os.stat_result, limit: int) -> None:
        real(found, limit)
        (spool.folder / "new" / name).unlink()
        (spool.folder / "new" / name).symlink_to(secret)

    monkeypatch.setattr(folder, "_check", swaps)
    with pytest.raises(NotAFileError, match="cannot be opened"):
        spool.read(name)
