from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys

import apsw
import pytest
from conformance.builders import ADA, accept, append, create, record, write_one
from persistasaurus.store import Appended, SqliteStore, StoreFenced, StoreHalted, StoreOwned, StoreUnusable
from persistasaurus.store.files import location, ownership
from persistasaurus.store.sqlite import store as sqlite
from store.damage import room_for
from store.takeover import locks_that_do_not_hold

linux = pytest.mark.skipif(sys.platform != "linux", reason="the locks that this is about are Linux's")


def test_a_second_process_is_refused_and_told_who_has_the_store(store, other_process):
    _, said = other_process()

    assert said.startswith("StoreOwned")
    assert f"process {os.getpid()} on {os.uname().nodename} since 2025-10-09T08:53:20+00:00" in said


def test_what_an_earlier_owner_has_said_of_himself_is_gone(path, open_store):
    lock = path.with_name("flows.db.lock")
    lock.write_text("process 1234567 on a-name-that-is-longer-than-any-other" * 4)

    open_store()

    assert lock.read_text() == (
        f"process {os.getpid()} on {os.uname().nodename} since 2025-10-09T08:53:20+00:00\n"
    )


def test_a_second_store_in_the_same_process_is_refused_and_told_what_to_do(store, open_store):
    with pytest.raises(
        StoreOwned, match=rf"already open in this process \(process {os.getpid()}, since 2025.*close"
    ):
        open_store()

    store.close()
    assert open_store().epoch == 2


def test_a_second_path_to_the_same_file_is_refused(store, open_store, path, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(path)

    with pytest.raises(StoreOwned):
        open_store(link)


def test_a_second_path_through_a_linked_directory_is_refused(store, open_store, path, tmp_path):
    (tmp_path / "elsewhere").symlink_to(tmp_path)

    with pytest.raises(StoreOwned):
        open_store(tmp_path / "elsewhere" / path.name)


def test_a_file_with_two_names_is_refused(store, open_store, path, tmp_path):
    store.close()
    os.link(path, tmp_path / "other.db")

    for name in (path, tmp_path / "other.db"):
        with pytest.raises(StoreUnusable, match="2 names"):
            open_store(name)


def in_mount_namespace(*words):
    """Run a command where it may mount what it likes, if the system lets this user."""
    unshare = ("unshare", "--mount", "--map-root-user")
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("needs a mount namespace of its own")
    return subprocess.run([*unshare, *words], capture_output=True, text=True, check=False, timeout=60)


MOUNTED = """
mount --bind "$1" "$2" && exec "$3" -c '
import sys
from persistasaurus.store import SqliteStore, StoreReader
for open in (lambda: SqliteStore.open(sys.argv[1], now=lambda: 0), lambda: StoreReader.open(sys.argv[1])):
    try: open(); print("opened")
    except Exception as error: print(type(error).__name__, error)
' "$4"
"""


@linux
def test_a_file_that_is_mounted_by_itself_is_refused(store, path, tmp_path):
    accept(store, create())
    store.close()
    (tmp_path / "app").mkdir()
    mounted = tmp_path / "app" / "flows.db"
    mounted.touch()

    told = in_mount_namespace("sh", "-c", MOUNTED, "sh", path, mounted, sys.executable, mounted)

    assert re.fullmatch(
        r"(StoreUnusable .* is mounted as a single file.*Mount the folder.*\n){2}", told.stdout
    )
    assert sorted(file.name for file in mounted.parent.iterdir()) == ["flows.db", "flows.db.lock"]


@linux
def test_a_folder_that_is_mounted_twice_has_one_owner(store, path, tmp_path):
    (tmp_path / "app").mkdir()
    mounted = tmp_path / "app" / path.name

    told = in_mount_namespace("sh", "-c", MOUNTED, "sh", path.parent, mounted.parent, sys.executable, mounted)

    assert told.stdout.startswith(f"StoreOwned {mounted} is in use by process {os.getpid()}")
    assert told.stdout.endswith("opened\n")


def test_a_file_on_another_mount_than_its_folder_is_refused(path, open_store, monkeypatch):
    monkeypatch.setattr(location, "_mount_of", lambda where: where.suffix)

    with pytest.raises(StoreUnusable, match="Mount the folder"):
        open_store()


def test_where_the_system_does_not_tell_of_mounts_a_store_is_opened(path, open_store, monkeypatch):
    monkeypatch.setattr(location, "_DESCRIPTORS", path.with_name("nothing"))
    open_store().close()
    monkeypatch.delattr(location.os, "O_PATH")

    assert open_store().epoch == 2


def test_a_relative_path_is_the_same_file(store, open_store, path, monkeypatch):
    monkeypatch.chdir(path.parent)

    with pytest.raises(StoreOwned):
        open_store(path.name)


def test_reading_the_file_within_the_process_does_not_lose_the_ownership(store, path, other_process):
    for name in (path, path.with_name("flows.db.lock"), path.with_name("flows.db-wal")):
        name.read_bytes()

    _, said = other_process()

    assert said.startswith("StoreOwned")


def test_a_closed_store_can_be_opened_by_another_process(store, other_process):
    store.close()

    _, said = other_process()

    assert said == "opened 2"


def test_the_lock_of_a_killed_process_is_free(path, open_store, other_process):
    process, said = other_process()
    assert said == "opened 1"
    with pytest.raises(StoreOwned, match=f"process {process.pid}"):
        open_store()

    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)

    assert path.with_name("flows.db.lock").exists()
    assert open_store().epoch == 2


def test_a_store_that_could_not_be_opened_is_not_owned(path, open_store):
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    for _ in range(2):
        with pytest.raises(StoreUnusable):
            open_store()


def test_a_planted_link_in_place_of_the_lock_is_refused(path, open_store, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.with_name("flows.db.lock").symlink_to(victim)

    with pytest.raises(StoreUnusable):
        open_store()
    assert victim.read_text() == "precious"


def test_a_zombie_is_fenced(store, path, open_store):
    accept(store, create())
    with locks_that_do_not_hold(path):
        successor = open_store()

    with pytest.raises(StoreFenced, match="epoch 2"):
        store.commit([append(1, record(b"zombie"))])

    assert write_one(successor, append(1, record(b"successor"))) == Appended(2)
    assert [r.data for r in successor.read(ADA)] == [b"{}", b"successor"]


def test_a_fenced_store_stays_fenced(store, path, open_store):
    accept(store, create())
    with locks_that_do_not_hold(path):
        successor = open_store()
    with pytest.raises(StoreFenced):
        store.commit([])

    with pytest.raises(StoreFenced):
        store.reopen()
    with pytest.raises(StoreHalted):
        store.commit([])
    store.close()

    assert successor.epoch == 2
    assert write_one(successor, append(1, record())) == Appended(2)


@linux
def test_a_store_whose_lock_was_deleted_keeps_its_file(store, path, other_process):
    path.with_name("flows.db.lock").unlink()

    assert re.match("StoreOwned .* in use by another process.*its lock was deleted", other_process()[1])


def test_a_deleted_lock_is_noticed(store, path, clock):
    accept(store, create())
    path.with_name("flows.db.lock").unlink()
    clock.advance(1)

    with pytest.raises(StoreHalted, match=r"flows\.db\.lock"):
        store.commit([append(1, record())])
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])


def test_a_lock_that_was_moved_away_and_linked_to_is_noticed(store, path, clock):
    lock = path.with_name("flows.db.lock")
    lock.symlink_to(lock.rename(path.with_name("elsewhere")))
    clock.advance(1)

    with pytest.raises(StoreHalted, match=r"flows\.db\.lock"):
        store.commit([create()])


def test_a_deleted_lock_is_taken_again_by_reopening(store, path, clock, other_process, open_files):
    accept(store, create())
    path.with_name("flows.db.lock").unlink()
    clock.advance(1)
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])

    store.reopen()

    assert write_one(store, append(1, record())) == Appended(2)
    assert other_process()[1].startswith("StoreOwned")
    assert [name for name in open_files(path.parent) if ".lock" in name] == ["flows.db.lock"]


def test_a_deleted_lock_that_somebody_else_has_taken_is_not_taken_again(store, path, clock, open_store):
    accept(store, create())
    with locks_that_do_not_hold(path):
        successor = open_store()
    clock.advance(1)
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])

    with pytest.raises(StoreOwned):
        store.reopen()
    successor.close()
    with pytest.raises(StoreFenced):
        store.reopen()


def test_nor_when_it_was_reopened_before(store, path, clock, open_store):
    accept(store, create())
    for _ in range(2):
        path.with_name("flows.db.lock").unlink()
        clock.advance(1)
        with pytest.raises(StoreHalted):
            store.commit([append(1, record())])
        store.reopen()
    with locks_that_do_not_hold(path):
        open_store().close()
    clock.advance(1)
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])

    with pytest.raises(StoreFenced):
        store.reopen()


def test_all_files_are_readable_by_their_owner_alone(path, open_store):
    before = os.umask(0)
    try:
        store = open_store()
        accept(store, create())
        store.read(ADA)
    finally:
        os.umask(before)

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(("flows.db", "flows.db-wal", "flows.db-shm", "flows.db.lock"), 0o600)


def test_a_file_that_everybody_can_write_is_refused(store, path, open_store):
    store.close()
    path.chmod(0o666)

    with pytest.raises(StoreUnusable, match="by all users"):
        open_store()


def test_the_mode_that_the_host_gave_is_kept(store, path, open_store):
    store.close()
    path.chmod(0o640)

    open_store()

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_an_observer_reads_while_the_store_is_open(store, path):
    accept(store, create())
    observer = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert observer.execute("SELECT name FROM stream").get == ADA
        accept(store, append(1, record()))
        assert observer.execute("SELECT count(*) FROM record").get == 2
    finally:
        observer.close()


def test_a_directory_that_is_not_there_is_told(tmp_path, open_store):
    with pytest.raises(StoreUnusable, match="No such file"):
        open_store(tmp_path / "nowhere" / "flows.db")


def test_a_relative_path_in_a_directory_that_is_gone_is_told(tmp_path, open_store, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    with pytest.raises(StoreUnusable, match=r"cannot open 'flows\.db': No such file"):
        open_store("flows.db")


def test_an_owner_who_has_no_room_to_introduce_himself_owns_nothing(path, open_store):
    with room_for(0), pytest.raises(StoreUnusable, match=r"cannot open .*flows\.db.*: File too large"):
        open_store()

    assert not path.exists()
    assert open_store().epoch == 1


def test_a_directory_is_no_store(tmp_path, open_store):
    (tmp_path / "dir").mkdir()
    with pytest.raises(StoreUnusable):
        open_store(tmp_path / "dir")


def test_a_network_filesystem_is_refused(path, monkeypatch):
    monkeypatch.setattr("persistasaurus.store.files.location.filesystem_of", lambda directory: "nfs4")

    with pytest.raises(StoreUnusable, match="nfs4"):
        SqliteStore.open(path, now=lambda: 0)
    assert list(path.parent.iterdir()) == []


def test_the_filesystem_of_a_directory_is_that_of_its_nearest_mount(monkeypatch, tmp_path):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "30 27 0:27 / /srv/my\\040files rw,relatime shared:1 - nfs4 host:/ rw\n"
        "31 27 0:28 / /srv rw,relatime - xfs /dev/vdb rw\n"
        "32 27 0:29 / /over rw,relatime - ext4 /dev/vdc rw\n"
        "33 27 0:30 / /over rw,relatime - cifs //host/share rw\n",
    )
    monkeypatch.setattr(location, "_MOUNTS", mounts)

    paths = ("/srv/my files/a", "/srv/b", "/srvs", "/", "/over/it")

    assert [location.filesystem_of(location.Path(p)) for p in paths] == [
        "nfs4",
        "xfs",
        "ext4",
        "ext4",
        "cifs",
    ]


def test_where_the_system_does_not_tell_of_filesystems_a_store_is_opened(path, open_store, monkeypatch):
    monkeypatch.setattr(location, "_MOUNTS", path.with_name("nothing"))

    assert location.filesystem_of(path.parent) is None
    assert open_store().epoch == 1


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_is_missed_from_when_it_was_first_there(path, suffix):
    log = path.with_name("flows.db" + suffix)
    place = location.FileLocation.resolve(path)
    place.create()
    place.claim()
    place.check()
    log.touch()
    place.check()
    log.unlink()

    with pytest.raises(StoreHalted, match=rf"flows\.db{suffix} is gone"):
        place.check()
    place.forget_logs()
    place.check()


def test_a_zombie_does_not_take_the_store_back_by_reopening(store, path):
    accept(store, create())
    successor = apsw.Connection(str(path))
    successor.execute("UPDATE owner SET epoch = epoch + 1").fetchall()
    successor.close()

    for _ in range(2):
        with pytest.raises(StoreFenced):
            store.reopen()
    with pytest.raises(StoreHalted):
        store.commit([append(1, record())])


@pytest.mark.parametrize(("failures", "ahead"), [(1, 2), (2, 3)])
def test_a_zombie_that_has_failed_to_reopen_knows_who_went_further(store, path, monkeypatch, failures, ahead):
    accept(store, create())
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "connect_writer", fail_to_connect)
        for _ in range(failures):
            with pytest.raises(StoreHalted):
                store.reopen()
    successor = apsw.Connection(str(path))
    successor.execute(f"UPDATE owner SET epoch = epoch + {ahead}").fetchall()
    successor.close()

    with pytest.raises(StoreFenced):
        store.reopen()


def fail_to_connect(*_):
    raise apsw.IOError("injected")


def test_a_lock_that_was_deleted_while_it_was_taken_is_taken_again(path, open_store, monkeypatch, open_files):
    lock, taken = ownership._lock, []

    def lock_late(where, descriptor):
        if not taken:
            where.unlink()
        taken.append(descriptor)
        lock(where, descriptor)

    monkeypatch.setattr(ownership, "_lock", lock_late)

    open_store()

    assert len(taken) == 2
    assert [name for name in open_files(path.parent) if ".lock" in name] == ["flows.db.lock"]
    with pytest.raises(StoreOwned):
        open_store()
