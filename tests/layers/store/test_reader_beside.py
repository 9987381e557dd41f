"""Engine and reader in processes of their own: neither holds the other up, nor sees half of anything."""

from __future__ import annotations

import encodings
import fcntl
import os
import shutil
import signal as signals
import tempfile
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from conformance.builders import ADA, accept, append, create, record
from persistasaurus.store import Owner, StoreReader, StoreUnusable
from persistasaurus.store.files import owner, ownership
from persistasaurus.store.sqlite import schema
from persistasaurus.store.sqlite import store as sqlite
from store.engines import BUSY, HOLDING, TOLD, Other
from store.forked_child import in_forked_child


@pytest.fixture
def start():
    made = []

    def start(program, path):
        made.append(Other(program, path))
        return made[-1]

    yield start
    for other in made:
        other.kill()


@pytest.fixture
def busy(start, path):
    """An engine that commits all the time, and empties its log again and again."""
    other = start(BUSY, path)
    assert other.hear() == "ready"
    return other


def test_a_busy_store_is_verified_without_a_false_alarm(busy, path):
    with StoreReader.open(path) as reader:
        rounds = 0
        while reader.position() < 30_000 or rounds < 4:
            assert reader.verify() == []
            rounds += 1
        assert int(busy.end()) > 1000
        assert reader.verify() == []


def test_a_busy_store_is_read_without_a_gap(busy, path):
    position, logs = 0, set()
    with StoreReader.open(path) as reader:
        while position < 20_000 or len(logs) < 4:
            page = reader.read_all(after=position)
            numbers = [position, *(found.position for found in page)]
            assert all(after == before + 1 for before, after in pairwise(numbers))
            position = numbers[-1]
            for header in reader.headers(after=page[-1].stream if page else None, limit=3):
                assert len(reader.read(header.stream)) >= header.version
            logs.add(head_of(path.with_name("flows.db-wal")))
        assert int(busy.end()) > 500


def head_of(log):
    """What tells one log from the next: SQLite begins anew in the same file, and seldom empties it."""
    with log.open("rb") as file:
        return file.read(24)


def test_a_stopped_reader_does_not_stop_the_engine(store, path, start, monkeypatch):
    monkeypatch.setattr(store, "_truncate_at", 100)
    accept(store, create(ADA, *[record()] * 2000))
    reader = start(HOLDING, path)
    assert reader.hear() == "1"
    os.kill(reader.process.pid, signals.SIGSTOP)
    log = path.with_name("flows.db-wal")

    for number in range(300):
        accept(store, append(2000 + 20 * number, *[record(b"x" * 100)] * 20))
        store.checkpoint(idle=True)

    assert log.stat().st_size > 1000 * sqlite.PAGE_SIZE
    assert len(store.read(ADA)) == 8000
    os.kill(reader.process.pid, signals.SIGCONT)
    assert reader.end() == "2000"
    store._truncate(store._writer)
    assert log.stat().st_size == 0


def test_a_reader_that_was_killed_leaves_nothing_behind(store, path, start):
    accept(store, create(ADA, *[record()] * 2000))
    reader = start(HOLDING, path)
    assert reader.hear() == "1"
    reader.kill()

    accept(store, append(2000, record()))
    store._truncate(store._writer)

    assert path.with_name("flows.db-wal").stat().st_size == 0


def test_a_reader_waits_for_no_commit(store, path):
    accept(store, create(ADA))
    store._writer.prepare([append(1, record())])  # in a transaction that has not ended
    with StoreReader.open(path) as reader:
        assert len(reader.read(ADA)) == 1
        assert len(list(reader.query("SELECT * FROM events"))) == 1
        before = reader.data_version()
        store._writer.commit()

        assert reader.data_version() != before
        assert len(reader.read(ADA)) == 2


# Who owns it


def test_the_owner_is_named_in_every_process(path, start, open_store, clock):
    with StoreReader.open(open_store().path) as reader:
        ours = Owner(os.getpid(), os.uname().nodename, reader.owner().since)
        assert reader.owner() == ours
        assert reader.owner().since.timestamp() == clock() / 1e6
        assert in_forked_child(lambda: str(owner_of(path))) == str(ours)


def owner_of(path):
    with StoreReader.open(path) as reader:
        return reader.owner()


def test_nobody_owns_a_store_that_was_closed_or_whose_engine_was_killed(store, path, start):
    store.close()
    assert owner_of(path) is None
    engine = start(TOLD, path)
    engine.hear()
    assert owner_of(path).pid == engine.process.pid
    engine.kill()
    assert owner_of(path) is None


@pytest.mark.parametrize("blind", ["no mark", "no list of locks"])
def test_an_owner_is_found_in_either_way(open_store, path, monkeypatch, blind, tmp_path):
    if blind == "no mark":  # as the first release has it
        monkeypatch.setattr(ownership, "_set_mark", lambda *_: None)
    else:
        monkeypatch.setattr("persistasaurus.store.files.owner._LOCKS", tmp_path / "none")
    store = open_store()

    assert owner_of(path).pid == os.getpid()
    store.close()
    assert owner_of(path) is None


def test_the_first_process_of_a_container_may_be_the_owner(store, path, monkeypatch, tmp_path):
    lock = path.with_name("flows.db.lock").stat()
    file = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    (tmp_path / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE 1 {file} 0 EOF\n")
    monkeypatch.setattr(owner, "_LOCKS", tmp_path / "locks")

    assert owner_of(path).pid == 1


def test_an_owner_whom_the_system_does_not_number_here_is_known_by_what_he_says(
    store, path, monkeypatch, tmp_path
):
    lock = path.with_name("flows.db.lock").stat()
    file = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    (tmp_path / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE 0 {file} 0 EOF\n")  # in another container
    monkeypatch.setattr(owner, "_LOCKS", tmp_path / "locks")

    assert owner_of(path).pid == os.getpid()


@pytest.mark.usefixtures("store")
def test_asking_who_owns_a_store_leaves_nothing_open(path, open_files):
    owner_of(path)

    assert open_files(path.parent).count("flows.db.lock") == 1


def test_a_planted_link_in_place_of_the_lock_is_not_followed_to_an_owner(store, path, tmp_path):
    link = tmp_path / "other.db.lock"
    link.symlink_to(path.with_name("flows.db.lock"))

    assert owner.owner_of(link) is None


def test_an_owner_who_says_nonsense_about_the_time_is_found_all_the_same(store, path):
    path.with_name("flows.db.lock").write_text("process 1 on somewhere since yesterday\n")

    assert owner_of(path) == Owner(os.getpid(), "somewhere", None)


def test_what_somebody_wrote_into_the_lock_is_no_harm(store, path):
    path.with_name("flows.db.lock").write_bytes(b"\xff\x1b[31m process x\n" * 100)

    assert owner_of(path) == Owner(os.getpid(), None, None)


def test_asking_who_owns_a_store_takes_no_lock_that_an_engine_could_be_refused_for(store, path, monkeypatch):
    asked = []

    def answer(descriptor, command, *arguments):
        asked.append(command)
        return original(descriptor, command, *arguments)

    def refuse(*arguments):
        raise AssertionError(arguments)

    original = fcntl.fcntl
    with StoreReader.open(path) as reader, monkeypatch.context() as watched:
        watched.setattr(fcntl, "flock", refuse)
        watched.setattr(fcntl, "lockf", refuse)
        watched.setattr(fcntl, "fcntl", answer)
        assert reader.owner().pid == os.getpid()
    assert set(asked) == {fcntl.F_OFD_GETLK}


# What other users may read


@contextmanager
def nobody():
    """Be a user without rights, if this is one with all of them."""
    before = os.geteuid()
    if before == 0:
        os.setegid(65534)
        os.seteuid(65534)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(0)
            os.setegid(0)


@pytest.fixture
def public():
    """A folder that others may look into, and not write to."""
    folder = Path(tempfile.mkdtemp(prefix="persistasaurus-"))
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture
def loaded(monkeypatch):
    """Who may read a store need not be able to read the code: what of it is read late is read here."""
    steps = schema.ladder()
    monkeypatch.setattr(schema, "ladder", lambda: steps)


def publish(folder):
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


def seen_by_others(path):
    """Tell what another user sees of the flow."""
    # Who may read the store need not be able to read the code, which is loaded here already.
    steps = schema.ladder()

    def look():
        schema.ladder = lambda: steps  # in a child, which ends with this
        with nobody():
            try:
                with StoreReader.open(path) as reader:
                    assert reader.verify() == []
                    return str([len(reader.read("told")), len(list(reader.query("SELECT * FROM flows")))])
            except StoreUnusable as error:
                return str(error)

    return in_forked_child(look)


@pytest.mark.parametrize("situation", ["alive", "killed", "closed", "closed, no log", "closed, no index"])
def test_another_user_reads_what_he_may_read(public, start, situation):
    path = public / "flows.db"
    engine = start(TOLD, path)
    engine.hear()
    engine.tell("commit")
    engine.tell("commit")
    if situation.startswith("closed"):
        engine.tell("close")
    if situation == "killed":
        engine.kill()
    for suffix, word in (("-wal", "no log"), ("-shm", "no log"), ("-shm", "no index")):
        if word in situation:
            path.with_name(path.name + suffix).unlink()
    publish(public)
    before = {file.name for file in public.iterdir()}

    assert seen_by_others(path) == "[2, 1]"
    assert {file.name for file in public.iterdir()} == before


def test_another_user_is_told_why_he_cannot_read(public, start):
    path = public / "flows.db"
    engine = start(TOLD, path)
    engine.hear()
    engine.tell("commit")
    engine.kill()
    path.with_name("flows.db-shm").unlink()
    publish(public)

    assert "has a log beside it that this user cannot read" in seen_by_others(path)
    path.chmod(0o400)
    assert "may not be read by this user" in seen_by_others(path)


@pytest.mark.usefixtures("loaded")
def test_a_log_that_only_its_owner_can_read_is_told(public, start):
    path = public / "flows.db"
    engine = start(TOLD, path)
    engine.hear()
    engine.kill()
    path.with_name("flows.db-shm").unlink()
    publish(public)

    with nobody(), pytest.raises(StoreUnusable, match="has a log beside it that this user cannot read"):
        StoreReader.open(path)


def test_a_store_that_this_user_may_not_read_is_told(public, open_store):
    path = public / "flows.db"
    open_store(path).close()
    publish(public)
    path.chmod(0)

    with nobody(), pytest.raises(StoreUnusable, match="may not be read by this user"):
        StoreReader.open(path)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="asks the kernel for its list of locks")
def test_an_owner_whose_lock_may_not_be_read_is_found_in_the_list_of_locks(public, open_store):
    path = public / "flows.db"
    store = open_store(path)
    lock = path.with_name("flows.db.lock")
    lock.chmod(0)
    public.chmod(0o755)

    with nobody():
        assert owner.owner_of(lock) == Owner(os.getpid(), None, None)
        store.close()
        assert owner.owner_of(lock) is None


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="asks the kernel for its list of locks")
def test_an_owner_is_found_by_a_process_that_can_import_nothing_more(path, open_store, monkeypatch):
    # Python remembers for good that a codec was not to be had, as after privileges were given up.
    monkeypatch.setitem(encodings._cache, "ascii", None)
    open_store(path)

    with StoreReader.open(path) as reader:
        assert reader.owner().pid == os.getpid()


def test_a_store_that_this_user_may_not_create_is_not_owned_by_the_attempt(public, open_store):
    path = public / "flows.db"
    lock = path.with_name("flows.db.lock")
    lock.touch()
    lock.chmod(0o666)
    public.chmod(0o555)

    with nobody():
        for _ in range(2):
            with pytest.raises(StoreUnusable, match=r"cannot open .*: Permission denied"):
                open_store(path)
    assert not path.exists()
