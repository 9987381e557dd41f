"""A backup is the store as of one commit, or there is none."""

from __future__ import annotations

import itertools
import os
import signal as signals
import struct
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import apsw
import pytest
from conformance.builders import ADA, BOB, accept, append, create, record, signal, write_one
from conformance.recorder import Platter, full, sync_error, write_error
from persistasaurus.store import Appended, NotWritten, StoreHalted, StoreOwned, StoreUnusable
from persistasaurus.store.files.ownership import Ownership
from persistasaurus.store.sqlite.connection import connect_reader
from persistasaurus.store.tools import backup as module
from persistasaurus.store.tools import snapshot
from persistasaurus.store.tools.backup import backup
from store.damage import PAGE, edit, pages_of, root_of, spoil_page_with, spoil_root
from store.test_reader_query import ENDLESS

BODY = b'{"body":"%s"}' % (b"x" * 500)


@pytest.fixture
def filled(store):
    """A store of some fifty pages, in the file and in the log."""
    for n in range(20):
        accept(store, create(f"flow-{n}", *[record(BODY) for _ in range(20)]))
    store.checkpoint(idle=True)
    accept(store, create(ADA), signal())
    return store


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(module, "_PAGES", 4)


@pytest.fixture
def target(tmp_path):
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy.db"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_the_copy_is_on_the_disk_before_it_has_its_name_and_its_name_before_that_is_told(
    filled, path, target, monkeypatch
):
    synced = []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: synced.append((Path(f"/proc/self/fd/{number}").readlink(), target.exists())),
    )
    backup(path, target)

    assert synced[-2:] == [(target.parent / ".copy.db.partial", False), (target.parent, True)]


def test_a_file_that_somebody_makes_while_the_place_is_being_locked_is_left_as_it_is(
    filled, path, target, monkeypatch
):
    real = Ownership.acquire

    def acquire(lock, now):
        target.write_bytes(b"mine")
        return real(lock, now)

    monkeypatch.setattr(Ownership, "acquire", acquire)
    with pytest.raises(NotWritten, match="already exists"):
        backup(path, target)

    assert target.read_bytes() == b"mine"


def test_the_checks_of_a_copy_let_python_have_its_turn_and_go_on(filled, path, target, monkeypatch):
    monkeypatch.setattr(module, "_INSTRUCTIONS", 10)

    assert backup(path, target).findings == ()


def test_the_lock_of_somebody_who_was_quicker_is_left_alone(filled, path, target):
    lock = target.with_name("copy.db.lock")

    def take_the_place(*_):
        lock.unlink()
        lock.write_text("mine")

    backup(path, target, on_progress=take_the_place)

    assert lock.read_text() == "mine"


def test_of_a_store_that_cannot_be_read_nothing_stays_open(path, target, open_files):
    path.write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(StoreUnusable) as caught:
        backup(path, target)

    assert open_files(path.parent) == []
    assert caught.value.__cause__ is not None  # whose frames would keep it


def listing(directory):
    return {path.name: path.stat().st_size for path in directory.iterdir()}


def contents(store):
    return [(h, store.read(h.stream), store.inbox(h.stream)) for h in store.headers(limit=1000)]


def test_the_copy_is_a_store_with_the_same_content(filled, path, target, open_store):
    backup(path, target)

    copy = open_store(target)
    assert contents(copy) == contents(filled)
    assert copy.verify() == []
    accept(copy, append(1, record()))
    accept(filled, append(1, record(b'"other"')))


def test_the_copy_is_one_private_file_with_nothing_outstanding(filled, path, target, open_files):
    done = backup(path, target)

    assert listing(target.parent) == {"copy.db": done.size}
    assert open_files(target.parent) == []
    assert target.stat().st_mode & 0o777 == 0o600
    # The bytes that say how the file is written: not through a log, so it can lie where nothing is.
    assert target.read_bytes()[18:20] == b"\x01\x01"


def test_commits_between_its_steps_neither_delay_it_nor_are_in_it(
    filled, path, target, open_store, small_steps
):
    told = []

    def commit(done, total):
        told.append((done, total))
        assert len(told) < 500, "it begins again and again"
        accept(filled, append(len(told), record()))

    backup(path, target, on_progress=commit)

    done, totals = zip(*told, strict=True)
    assert len(told) > 10
    assert list(done) == sorted(set(done))
    assert set(totals) == {done[-1]} == {target.stat().st_size}
    assert len(open_store(target).read(ADA)) == 1
    assert len(filled.read(ADA)) == len(told) + 1


def test_the_engine_can_begin_its_log_anew_when_the_copy_is_made(filled, path, target):
    backup(path, target)
    accept(filled, append(1, record()))
    filled._truncate(filled._ready())

    assert path.with_name("flows.db-wal").stat().st_size == 0


def test_it_needs_no_engine(filled, path, target, open_store):
    before = contents(filled)
    filled.close()

    backup(path, target)

    assert contents(open_store(target)) == before


def test_what_a_killed_engine_left_in_its_log_is_in_the_copy(path, target, other_process, open_store):
    script = (
        "import os, sys; from conformance.builders import *; from persistasaurus.store import SqliteStore;"
        "store = SqliteStore.open(sys.argv[1], now=lambda: 0);"
        "accept(store, create(), append(1, record())); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", script, str(path)], env=environment, check=False)

    backup(path, target)

    assert len(open_store(target).read(ADA)) == 2


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("at", [1, 5, -1])
@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError, RuntimeError])
def test_stopped_at_any_step_it_leaves_nothing(filled, path, target, error, at):
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) == at or (at == -1 and done == total):
            raise error

    with pytest.raises(error):
        backup(path, target, on_progress=stop)

    assert listing(target.parent) == {}
    assert write_one(filled, append(1, record())) == Appended(2)


@pytest.mark.parametrize(
    "failure", [("write", full), ("write", write_error), ("sync", sync_error), ("sync", full)]
)
def test_a_disk_that_fails_anywhere_leaves_nothing(filled, path, target, recorder, failure):
    failures = 0
    while True:
        recorder.fail("db", *failure, at=failures + 1)
        try:
            backup(path, target, vfs=recorder.vfs_name)
            break
        except NotWritten:
            failures += 1
            assert listing(target.parent) == {}
        recorder.forgive()

    assert failures >= (50 if failure[0] == "write" else 1)
    assert write_one(filled, append(1, record())) == Appended(2)


def test_what_has_the_name_is_on_the_disk(filled, path, target, recorder):
    backup(path, target, vfs=recorder.vfs_name)

    platter = Platter()
    for operation in recorder.log:
        platter.apply(operation)
    assert platter.without_unsynced()["db"] == target.read_bytes()


def test_without_room_it_does_not_begin(filled, path, target, monkeypatch):
    real = os.statvfs(target.parent)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*real[:4], 3, *real[5:])))

    with pytest.raises(NotWritten, match=r"no room for .*copy\.db: [\d,]+ bytes are needed, [\d,]+ are free"):
        backup(path, target)

    assert listing(target.parent) == {}


# Places where something would be lost


def place_file(target):
    target.write_bytes(b"precious")


def place_folder(target):
    target.mkdir()


def place_symlink(target):
    target.symlink_to("elsewhere.db")


def place_pipe(target):
    os.mkfifo(target)


def place_log(target):
    target.with_name("copy.db-wal").write_bytes(b"frames")


def place_journal(target):
    target.with_name("copy.db-journal").write_bytes(b"pages")


def place_link_for_the_lock(target):
    target.with_name("copy.db.lock").symlink_to("elsewhere.lock")


PLACES = [place_folder, place_symlink, place_pipe, place_log, place_journal, place_link_for_the_lock]


@pytest.mark.parametrize(
    ("place", "overwrite"), [(place_file, False), *itertools.product(PLACES, [True, False])]
)
def test_what_is_there_is_left_as_it_is(filled, path, target, place, overwrite):
    place(target)
    before = state_of(target.parent)

    with pytest.raises(NotWritten, match="copy"):
        backup(path, target, overwrite=overwrite)

    assert state_of(target.parent) == before


def state_of(folder):
    """Return what is in a folder; when it was read last does not matter."""
    found = [(p.name, p.lstat()) for p in folder.iterdir()]
    return [(name, s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in found]


@pytest.mark.parametrize(
    "name",
    [
        "flows.db",
        "flows.db-wal",
        "flows.db-shm",
        "flows.db.lock",
        "flows.db-journal",
        "link.db",
        "flows.db-requests",
        "flows.db-requests-wal",
    ],
)
def test_the_store_itself_is_not_overwritten(filled, path, name):
    path.with_name("link.db").symlink_to(path)
    before = contents(filled)

    with pytest.raises(NotWritten):
        backup(path, path.with_name(name), overwrite=True)

    assert contents(filled) == before
    assert write_one(filled, append(1, record())) == Appended(2)


def test_a_store_whose_name_is_that_of_the_targets_lock_is_not_touched(open_store, tmp_path):
    odd = tmp_path / "copy.db.lock"
    store = open_store(odd)
    accept(store, create())

    with pytest.raises(NotWritten):
        backup(odd, tmp_path / "copy.db")

    assert store.verify() == []
    assert len(store.read(ADA)) == 1


def test_a_folder_that_is_not_there_is_named(filled, path, target):
    with pytest.raises(NotWritten, match="no such folder"):
        backup(path, target.parent / "missing" / "copy.db")


def test_a_name_that_is_too_long_is_told(filled, path, target):
    with pytest.raises(NotWritten, match="File name too long"):
        backup(path, target.with_name("x" * 248))

    assert listing(target.parent) == {}


def test_an_open_store_is_not_overwritten(filled, path, target, open_store):
    other = open_store(target)
    accept(other, create(BOB))

    with pytest.raises(StoreOwned, match=r"copy\.db is already open in this process"):
        backup(path, target, overwrite=True)

    assert [h.stream for h in other.headers()] == [BOB]
    assert write_one(other, append(1, record(), stream=BOB)) == Appended(2)


def test_a_closed_store_is_overwritten_when_it_is_asked_for(filled, path, target, open_store):
    other = open_store(target)
    accept(other, create(BOB))
    other.close()

    backup(path, target, overwrite=True)

    assert listing(target.parent).keys() == {"copy.db"}
    assert contents(open_store(target)) == contents(filled)


def test_two_at_once_for_the_same_place_do_not_meet(filled, path, target, small_steps):
    refused = []

    def again(done, total):
        if not refused:
            with pytest.raises(StoreOwned) as caught:
                backup(path, target, overwrite=True)
            refused.append(caught.value)

    backup(path, target, on_progress=again)

    assert len(refused) == 1
    assert listing(target.parent).keys() == {"copy.db"}


# Sources


def test_what_is_no_store_is_refused(tmp_path, target):
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_bytes(b"once upon a time " * 100)
    apsw.Connection(str(tmp_path / "other.db")).execute("CREATE TABLE t (a)").connection.close()

    for name in ("missing.db", "empty.db", "text.db", "other.db", "copies"):
        with pytest.raises(StoreUnusable):
            backup(tmp_path / name, target)

    assert listing(target.parent) == {}
    assert not (tmp_path / "missing.db").exists()


def test_what_is_refused_is_not_kept_open(tmp_path, target, open_files):
    (tmp_path / "text.db").write_bytes(b"once upon a time " * 100)

    with pytest.raises(StoreUnusable) as refused:
        backup(tmp_path / "text.db", target)

    assert open_files(tmp_path) == []
    assert "the file is damaged" in str(refused.value)


def test_a_path_that_is_too_long_is_told(target):
    with pytest.raises(StoreUnusable, match=r"cannot open 'xxx.*: File name too long"):
        backup("x" * 5000, target)


@pytest.mark.parametrize(("position", "of"), [(1, ("flow-0", 1)), (7, ("flow-0", 7)), (400, ("flow-19", 20))])
def test_damage_to_a_flow_is_told_and_copied(filled, path, target, position, of):
    filled.close()
    other = apsw.Connection(str(path))
    other.execute("UPDATE record SET data = '{}' WHERE position = ?", (position,)).fetchall()
    other.close()

    (finding,) = backup(path, target).findings

    assert (finding.stream, finding.version) == of
    assert target.exists()


def test_a_file_whose_pages_do_not_fit_together_is_not_copied(filled, path, target):
    filled.close()
    image = bytearray(path.read_bytes())
    image[10 * 4096 : 30 * 4096] = bytes(20 * 4096)
    path.write_bytes(image)

    with pytest.raises(StoreUnusable, match=r"damaged|cannot be read"):
        backup(path, target)

    assert listing(target.parent) == {}


def test_a_store_with_a_row_that_has_no_beginning_and_no_end_is_not_copied(filled, path, target):
    filled.close()
    page = (pages_of(path, "record")[0] - 1) * PAGE
    (at,) = struct.unpack_from(">H", path.read_bytes(), page + 8)
    row = path.read_bytes()[page + at :]
    behind_length_and_key = 1 + (row[0] >> 7) + 1
    edit(path, page + at + behind_length_and_key, b"\x7f")  # its head is longer than all of it

    with pytest.raises(StoreUnusable, match=r"the copy was thrown away: .*malformed"):
        backup(path, target)

    assert listing(target.parent) == {}


def test_a_copy_that_cannot_be_looked_at_is_thrown_away(filled, path, target, monkeypatch):
    def fail(_):
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(module, "_damaged_records", fail)

    with pytest.raises(StoreUnusable, match=r"the copy was thrown away: disk I/O error"):
        backup(path, target)

    assert listing(target.parent) == {}


def test_a_store_that_cannot_be_read_is_not_copied(filled, path, target):
    filled.close()
    spoil_root(path, "owner")

    with pytest.raises(StoreUnusable, match="the store is damaged, and was not copied"):
        backup(path, target)

    assert listing(target.parent) == {}


def test_a_copy_with_an_unreadable_page_is_thrown_away(store, path, target):
    accept(store, *[create(f"flow-{n}", record(BODY + b"%d" % n)) for n in range(100)])
    store.close()
    spoil_page_with(path, BODY + b"50")

    with pytest.raises(StoreUnusable, match=r"the copy was thrown away: \*\*\* in database main"):
        backup(path, target)

    assert listing(target.parent) == {}


def test_a_copy_whose_index_leads_to_nothing_is_thrown_away(store, path, target):
    """Its pages fit together, and still the records cannot all be found."""
    accept(store, create(ADA, record(), record()))
    store.close()
    # The last byte is the type of the last number of the first entry; this one needs bytes behind the end.
    edit(path, root_of(path, "sqlite_autoindex_record_1") * PAGE - 1, b"\x19")

    with pytest.raises(StoreUnusable, match="the copy was thrown away"):
        backup(path, target)

    assert listing(target.parent) == {}


def test_a_copy_that_was_thrown_away_is_not_kept_open(store, path, target, open_files):
    accept(store, create(ADA, record(b"nowhere else")))
    store.close()
    spoil_page_with(path, b"nowhere else")

    with pytest.raises(StoreUnusable) as refused:
        backup(path, target)

    assert open_files(path.parent) == []
    assert "the copy was thrown away" in str(refused.value)


def test_an_sqlite_that_can_lose_commits_copies_nothing(filled, path, target, monkeypatch):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")

    with pytest.raises(StoreUnusable, match=r"3\.51\.2 can lose commits"):
        backup(path, target)

    assert listing(target.parent) == {}


@pytest.fixture
def read_only_folder(filled, monkeypatch):
    """A closed store, where SQLite cannot create the files that it wants beside it."""

    def connect(location, vfs):
        connection = connect_reader(location, vfs)
        connection.set_authorizer(refuse)
        return connection

    def refuse(*_):
        raise apsw.CantOpenError("unable to open database file")

    filled.close()
    monkeypatch.setattr(snapshot, "connect_reader", connect)


@pytest.mark.usefixtures("read_only_folder")
def test_a_store_where_nothing_can_be_created_is_copied_if_nobody_has_it_open(path, target):
    with pytest.raises(StoreUnusable, match="cannot be read by this user"):
        backup(path, target)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    backup(path, target)

    assert target.exists()


@pytest.mark.usefixtures("read_only_folder")
def test_such_a_copy_is_thrown_away_when_somebody_opens_the_store_meanwhile(path, target):
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    with pytest.raises(StoreHalted, match="was opened by another process"):
        backup(path, target, on_progress=lambda *_: os.utime(path))

    assert listing(target.parent) == {}


def test_a_signal_is_heard_while_the_copy_is_looked_at(filled, path, target, monkeypatch):
    looking, heard = Event(), Event()
    overdue = []

    def hear(*_):
        heard.set()
        raise KeyboardInterrupt

    def send(copy):
        looking.wait(timeout=30)
        os.kill(os.getpid(), signals.SIGUSR1)
        if not heard.wait(timeout=30):
            overdue.append("the look at the copy had to be ended")
            copy.interrupt()

    def look(copy, _statement):
        sending = Thread(target=send, args=(copy,))
        sending.start()
        copy.set_exec_trace(lambda *_: looking.set() is None)
        try:
            return copy.execute(ENDLESS.format("count(*)")).fetchall()
        finally:
            sending.join()

    monkeypatch.setattr(module, "rows", look)
    before = signals.signal(signals.SIGUSR1, hear)
    try:
        with pytest.raises(KeyboardInterrupt):
            backup(path, target)
    finally:
        signals.signal(signals.SIGUSR1, before)

    assert overdue == []
    assert listing(target.parent) == {}


# Killed


def run_and_kill(path, target, lives):
    command = [sys.executable, str(Path(__file__).with_name("backup_targets.py")), str(path), str(target)]
    return subprocess.run([*command, str(lives)], capture_output=True, text=True, timeout=60, check=False)


def test_killed_anywhere_it_leaves_the_old_copy_or_the_new_one(filled, path, target, open_store):
    accept(filled, create("kept"))
    backup(path, target)
    old = target.read_bytes()
    accept(filled, append(1, record()))
    calls = int(run_and_kill(path, target, 0).stdout)
    new = target.read_bytes()
    assert old != new

    for lives in range(1, calls + 1):
        target.write_bytes(old)
        assert run_and_kill(path, target, lives).returncode == -signals.SIGKILL
        assert target.read_bytes() in (old, new)

    assert write_one(filled, append(2, record())) == Appended(3)
    assert len(listing(target.parent)) > 1, "nothing was left to clean up: the kills came too late"
    backup(path, target, overwrite=True)
    assert listing(target.parent).keys() == {"copy.db"}
    assert contents(open_store(target)) == contents(filled)
