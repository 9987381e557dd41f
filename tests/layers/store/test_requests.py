"""Requests in their file: what was left is there, in order, whoever dies when; what befalls it ends there."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import select
import signal
import stat
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from conformance.recorder import Platter, full, lay_out, sync_error, write_error
from persistasaurus.store import (
    CommitUnknown,
    RecordTooLarge,
    StoreError,
    StoreFull,
    StoreHalted,
    StoreUnusable,
)
from persistasaurus.store.requests import RequestsDamaged, RequestsFull, StoredRequest, StoredResponse
from persistasaurus.store.sqlite import requests as module
from persistasaurus.store.sqlite.requests import SqliteRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conformance.builders import Clock
    from conformance.recorder import Recorder

HOUR = 3600


@pytest.fixture
def opened(path: Path, clock: Clock) -> Iterator[Callable[..., SqliteRequests]]:
    """Open the requests of a store that is there."""
    path.touch(mode=0o600)
    with contextlib.ExitStack() as stack:

        def open_one(where: Path = path, **options: Any) -> SqliteRequests:
            requests = SqliteRequests(where, clock, **{"patience_ms": 200, **options})
            stack.callback(requests.close)
            return requests

        yield open_one


@pytest.fixture
def sender(opened: Callable[..., SqliteRequests]) -> SqliteRequests:
    return opened()


@pytest.fixture
def owner(opened: Callable[..., SqliteRequests]) -> SqliteRequests:
    return opened()


def done(*ids: str) -> list[StoredResponse]:
    return [StoredResponse(request_id, b"done") for request_id in ids]


def refused(request_id: str, reason: str = "no such flow") -> list[StoredResponse]:
    return [StoredResponse(request_id, b"no", reason)]


def all_of(requests: SqliteRequests) -> list[StoredRequest]:
    """Return all that wait and are new."""
    found: list[StoredRequest] = []
    while arrived := requests.arrived():
        found += arrived
    return found


def ids_in(requests: SqliteRequests) -> list[str]:
    return [request.id for request in all_of(requests)]


# What is promised


def test_a_file_that_a_sender_sets_up_during_a_look_is_not_taken_for_damaged(
    path: Path, opened: Callable[..., SqliteRequests], sender: SqliteRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, late = opened(), opened(patience_ms=1)
    sender.path.touch(mode=0o600)
    tried: list[str] = []

    def leave_one(_cursor: Any, statement: str, _bindings: Any) -> bool:
        if "sqlite_schema" in statement and not tried:
            tried.append(statement)
            late.add("early", b"early")
        return True

    def watched(connection: apsw.Connection) -> None:
        if not tried:
            connection.set_exec_trace(leave_one)

    with monkeypatch.context() as patch:
        patch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, watched])
        arrived = owner.arrived()

    assert tried
    assert [found.data for found in [*arrived, *owner.arrived()]] == [b"early"]


def test_a_request_goes_in_and_a_response_comes_out_and_nothing_is_left(
    sender: SqliteRequests, owner: SqliteRequests
) -> None:
    sender.add("a", b"please")
    assert sender.take_response("a") is None

    assert owner.arrived() == [StoredRequest("a", b"please")]
    assert owner.read("a") == b"please"
    owner.respond(done("a"))

    assert owner.read("a") is None
    assert sender.take_response("a") == b"done"
    assert sender.take_response("a") is None
    with contextlib.closing(apsw.Connection(str(sender.path))) as connection:
        assert connection.execute("SELECT count(*) FROM request").get == 0


def test_requests_come_in_the_order_in_which_they_were_left_whoever_left_them(
    opened: Callable[..., SqliteRequests], owner: SqliteRequests, clock: Clock
) -> None:
    senders = [opened(), opened()]
    for number in range(50):
        senders[number % 2].add(str(99 - number), b"")
        clock.advance(-HOUR)

    assert ids_in(owner) == [str(99 - number) for number in range(50)]


def test_each_request_comes_once_and_again_to_the_next_owner(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, owner: SqliteRequests
) -> None:
    sender.add("a", b"1")
    assert ids_in(owner) == ["a"]
    sender.add("b", b"2")
    assert ids_in(owner) == ["b"]
    owner.respond(done("a"))

    assert ids_in(owner) == []
    assert ids_in(opened()) == ["b"]


def test_the_same_id_again_is_the_same_request(sender: SqliteRequests, owner: SqliteRequests) -> None:
    for data in (b"first", b"second"):
        sender.add("a", data)
    assert all_of(owner) == [StoredRequest("a", b"first")]
    owner.respond(done("a"))
    sender.add("a", b"third")

    assert ids_in(owner) == []
    assert sender.take_response("a") == b"done"


def test_a_request_has_one_response(sender: SqliteRequests, owner: SqliteRequests) -> None:
    sender.add("a", b"x")
    owner.respond(done("a"))
    owner.respond(refused("a"))

    assert sender.refusals() == []
    assert sender.take_response("a") == b"done"


def test_a_response_to_what_is_gone_is_no_error(sender: SqliteRequests, owner: SqliteRequests) -> None:
    owner.respond(done("a"))
    sender.add("b", b"x")
    owner.respond(done("a", "b"))

    assert sender.take_response("a") is None
    assert sender.take_response("b") == b"done"


def test_what_cannot_be_done_is_kept_with_the_reason_until_its_sender_hears_of_it(
    sender: SqliteRequests, owner: SqliteRequests, clock: Clock
) -> None:
    for request_id in ("heard", "unheard"):
        sender.add(request_id, request_id.encode())
        owner.respond(refused(request_id))
    sender.take_response("heard")

    assert sender.refusals() == [("unheard", clock.now, b"unheard", "no such flow")]
    assert sender.pending_count() == 0


def test_requests_that_nobody_has_left_are_not_created_by_looking(owner: SqliteRequests) -> None:
    owner.sweep()
    owner.respond(done("a"))

    assert (owner.arrived(), owner.refusals(), owner.pending_count()) == ([], [], 0)
    assert (owner.take_response("a"), owner.read("a")) == (None, None)
    assert not owner.path.exists()


def test_a_file_that_was_only_just_created_is_as_good_as_none(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, owner: SqliteRequests
) -> None:
    """Its sender was killed, or has not come further yet."""
    sender.path.touch(mode=0o600)

    assert (owner.arrived(), owner.refusals(), owner.pending_count(), owner.read("a")) == ([], [], 0, None)
    assert sender.pending_count() == 0
    sender.add("a", b"x")
    assert ids_in(owner) == ["a"]
    with contextlib.closing(apsw.Connection(str(sender.path))) as connection:
        assert connection.pragma("journal_mode") == "wal"


def test_whoever_reaches_the_store_by_a_link_uses_the_same_requests(
    opened: Callable[..., SqliteRequests], path: Path, owner: SqliteRequests, tmp_path: Path
) -> None:
    link = tmp_path / "elsewhere.db"
    link.symlink_to(path)
    opened(link).add("a", b"x")
    assert ids_in(owner) == ["a"]


def test_two_stores_in_one_folder_have_requests_of_their_own(
    opened: Callable[..., SqliteRequests], owner: SqliteRequests, path: Path
) -> None:
    other = path.with_name("other.db")
    other.touch()
    opened(other).add("a", b"x")

    assert ids_in(owner) == []
    assert ids_in(opened(other)) == ["a"]


def test_only_the_user_of_the_store_can_reach_what_is_in_it(sender: SqliteRequests) -> None:
    before = os.umask(0)
    try:
        sender.add("a", b"x")
    finally:
        os.umask(before)

    files = sorted(sender.path.parent.glob("*-requests*"))
    assert [file.name for file in files] == [sender.path.name + suffix for suffix in ("", "-shm", "-wal")]
    assert {oct(stat.S_IMODE(file.stat().st_mode)) for file in files} == {"0o600"}


def test_nothing_stays_open(sender: SqliteRequests, open_files: Callable[[Path], list[str]]) -> None:
    sender.add("a", b"x")
    sender.close()
    assert open_files(sender.path.parent) == []


def test_a_forked_child_leaves_the_requests_to_its_parent(sender: SqliteRequests) -> None:
    sender.add("a", b"x")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            try:
                sender.add("b", b"x")
            except StoreHalted as error:
                os.write(write, str(error).encode())
            sender.close()
        os._exit(0)
    os.waitpid(child, 0)

    assert b"this process was forked" in os.read(read, 1000)
    sender.add("c", b"x")
    assert ids_in(sender) == ["a", "c"]
    for descriptor in (read, write):
        os.close(descriptor)


def test_what_a_forked_child_has_inherited_is_neither_used_nor_closed(sender: SqliteRequests) -> None:
    sender.add("a", b"x")
    inherited = sender._connection
    sender.die_after_fork()
    with pytest.raises(StoreHalted, match="this process was forked"):
        sender.arrived()
    sender.close()

    assert inherited is not None
    assert inherited.pragma("user_version") == 1
    inherited.close()


# Durability


def note_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that becomes longer with each file or folder that is synced."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    return synced


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_the_name_of_the_file_is_durable_before_any_sender_is_told_that_his_request_is(
    opened: Callable[..., SqliteRequests], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes second cannot know whether the first has come that far."""
    synced = note_syncs(monkeypatch)
    for number in range(2):
        sender = opened()
        sender.add(str(number), b"x")
        assert synced == [sender.path.parent] * (number + 1)
        sender.add(f"{number} again", b"x")
    assert len(synced) == 2


def test_nothing_that_was_acknowledged_is_lost_or_comes_back_when_the_power_fails(
    opened: Callable[..., SqliteRequests], recorder: Recorder, tmp_path: Path
) -> None:
    sender, owner = (opened(vfs=recorder.vfs_name) for _ in range(2))
    added: set[str] = set()
    responded: set[str] = set()
    taken: set[str] = set()

    def told() -> None:
        recorder.mark((frozenset(added), frozenset(responded), frozenset(taken)))

    for number in range(12):
        sender.add(str(number), b"%d" % number * (1 + 700 * (number % 3)))
        added.add(str(number))
        told()
        if number % 2:
            owner.respond([*done(str(number)), *refused(str(number - 1))])
            responded.update((str(number), str(number - 1)))
            told()
        if number % 4 == 3:
            # Whoever has taken a response may find it once more.
            taken.add(str(number))
            told()
            sender.take_response(str(number))
    image = tmp_path / "image" / "flows.db-requests"
    image.parent.mkdir()
    (image.parent / "flows.db").touch()
    platter, known, judged = Platter(), (frozenset[str](), frozenset[str](), frozenset[str]()), 0
    for number, operation in enumerate(recorder.log):
        if operation[0] == "mark":
            known = operation[2]
            continue
        platter.apply(operation)
        for one in (platter.without_unsynced(), platter.with_random_sectors(random.Random(number))):
            lay_out(one, image)
            image.with_name(image.name + "-shm").unlink(missing_ok=True)
            image.chmod(0o600)
            judge(image.parent / "flows.db", *known)
            judged += 1
    assert judged > 100


def judge(store: Path, added: frozenset[str], responded: frozenset[str], taken: frozenset[str]) -> None:
    """See that all is there that was acknowledged, and that it can go on."""
    requests = SqliteRequests(store, lambda: 0)
    try:
        waiting = dict(all_of(requests))
        assert all(data.startswith(request_id.encode()) for request_id, data in waiting.items())
        assert waiting.keys().isdisjoint(responded)
        gone = added - waiting.keys() - taken
        answers = {request_id: requests.take_response(request_id) for request_id in gone}
        assert None not in answers.values(), answers
        requests.add("new", b"x")
        assert "new" in ids_in(requests)
    finally:
        requests.close()


def python(code: str, *args: Any) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode in (0, -signal.SIGKILL), ran.stderr
    return ran.stdout


DIES = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from conformance.recorder import Recorder
from persistasaurus.store.sqlite.requests import SqliteRequests
class Deadly(Recorder):
    operations = 0
    def strike(self, file, operation):
        self.operations += 1
        if self.operations == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
recorder = Deadly()
SqliteRequests(sys.argv[1], lambda: 5, vfs=recorder.vfs_name).add(sys.argv[2], b"second" * 1_000)
print("acknowledged")
"""


def test_a_sender_that_is_killed_at_any_moment_leaves_all_or_nothing(
    opened: Callable[..., SqliteRequests], path: Path
) -> None:
    """It is the first one, who creates the file; and the next ones find it in order."""
    tests = Path(__file__).parents[1]
    seen: set[tuple[bool, bool]] = set()
    for moment in count(1):
        for file in path.parent.glob("*-requests*"):
            file.unlink()
        acknowledged = python(DIES, path, moment, tests) != ""
        found = all_of(opened())
        assert found in ([], [StoredRequest(str(moment), b"second" * 1_000)])
        seen.add((acknowledged, bool(found)))
        opened().add("next", b"x")
        assert ids_in(opened())[-1] == "next"
        if acknowledged:
            break
    assert seen >= {(False, False), (True, True)}
    assert moment > 10


# Bounds


def test_a_request_that_is_too_large_is_refused_where_it_is_left(sender: SqliteRequests) -> None:
    with pytest.raises(RecordTooLarge, match="limit of 16,777,216"):
        sender.add("a", b"x" * (16 * 1024 * 1024 + 1))
    assert not sender.path.exists()


def test_what_is_larger_than_it_may_be_is_not_read(
    sender: SqliteRequests, owner: SqliteRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has put it there."""
    sender.add("a", b"x" * (16 * 1024 * 1024))
    sender.add("b", b"x")
    change(sender, "UPDATE request SET data = zeroblob(length(data) + 1) WHERE id = 'a'")
    assert all_of(owner) == [StoredRequest("a", b""), StoredRequest("b", b"x")]
    assert owner.read("a") == b""


def test_not_more_is_read_at_once_than_fits(sender: SqliteRequests, owner: SqliteRequests) -> None:
    for number in range(3):
        sender.add(str(number), b"x" * (9 << 20))
    for number in range(20):
        sender.add(f"small {number}", b"x")

    assert [len(owner.arrived()) for _ in range(4)] == [2, 16, 5, 0]


def test_more_requests_than_anybody_will_take_are_refused(
    sender: SqliteRequests, owner: SqliteRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PENDING_MAX", 3)
    for number in range(3):
        sender.add(str(number), b"x")
    with pytest.raises(RequestsFull, match=r"3 requests wait in .*; nothing was written"):
        sender.add("more", b"x")
    assert ids_in(owner) == ["0", "1", "2"]
    owner.respond(done("0"))
    sender.add("more", b"x")
    assert ids_in(owner) == ["more"]


@pytest.mark.parametrize("response", [None, b"{}"], ids=["that waits", "that was answered"])
def test_a_row_with_the_last_number_is_damage_that_the_owner_mends_and_not_a_full_disk(
    sender: SqliteRequests, owner: SqliteRequests, response: bytes | None
) -> None:
    sender.add("a", b"{}")
    assert ids_in(owner) == ["a"]
    with contextlib.closing(apsw.Connection(str(sender.path))) as somebody:
        somebody.execute(
            "INSERT INTO request (number, id, at, data, response) VALUES (?, 'last', 1, x'', ?)",
            (2**63 - 1, response),
        )
    with pytest.raises(RequestsDamaged, match=r"-requests is damaged: .*no.* left for another request"):
        sender.add("b", b"{}")
    with pytest.raises(RequestsDamaged, match="left for another request"):
        owner.arrived()
    owner.set_aside()
    sender.add("b", b"{}")
    assert ids_in(owner) == ["b"]


def test_what_nobody_comes_back_for_is_swept_after_an_hour_and_the_newest_refusals_stay(
    sender: SqliteRequests, owner: SqliteRequests, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFUSALS_MAX", 2)
    for number in range(4):
        sender.add(f"refused {number}", b"r")
        owner.respond(refused(f"refused {number}"))
    for number in range(3):
        sender.add(f"done {number}", b"x" * 100_000)
        owner.respond(done(f"done {number}"))
    sender.add("waits", b"x")
    clock.advance(HOUR - 1)
    owner.sweep()
    assert [refusal.id for refusal in sender.refusals()] == ["refused 2", "refused 3"]
    assert sender.take_response("done 0") == b"done"
    clock.advance(2)
    owner.sweep()

    assert [sender.take_response(f"done {number}") for number in (1, 2)] == [None, None]
    assert sender.take_response("refused 3") == b"no"
    assert ids_in(owner) == ["waits"]
    with contextlib.closing(apsw.Connection(str(sender.path))) as connection:
        assert connection.pragma("freelist_count") == 0


# Locks


HOLDS = """
import sys
import apsw
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder() -> Iterator[Callable[[SqliteRequests], subprocess.Popen[str]]]:
    """Have another process stop while it writes."""
    started: list[subprocess.Popen[str]] = []

    def hold(requests: SqliteRequests) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(requests.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 30)[0]
        assert process.stdout.readline() == "holds\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate(timeout=30)


def test_who_is_stopped_while_he_writes_keeps_nobody_from_reading_and_who_writes_gives_up(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, owner: SqliteRequests, holder: Any
) -> None:
    sender.add("a", b"x")
    sender.add("b", b"x")
    owner.respond(done("b"))
    stopped = holder(sender)

    assert ids_in(opened()) == ["a"]
    assert owner.read("a") == b"x"
    assert sender.take_response("b") == b"done"
    for write in (lambda: sender.add("c", b"x"), lambda: owner.respond(done("a"))):
        with pytest.raises(StoreHalted, match=r"another process keeps .* locked, nothing was written"):
            write()
    stopped.kill()
    stopped.wait(30)

    owner.respond(done("a"))
    sender.add("c", b"x")
    assert ids_in(opened()) == ["c"]


# A disk that is full, and what else a disk may do


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_full_disk_refuses_a_request_and_nothing_is_left_of_it(
    opened: Callable[..., SqliteRequests], recorder: Recorder, operation: str
) -> None:
    sender = opened(vfs=recorder.vfs_name)
    sender.add("a", b"x")
    recorder.fail("wal", operation, full)
    with pytest.raises(StoreFull, match=r"the disk is full: nothing was written to .*flows\.db-requests"):
        sender.add("b", b"x")
    sender.add("c", b"x")
    assert ids_in(opened()) == ["a", "c"]


def test_a_full_disk_loses_no_request_that_cannot_be_responded_to(
    opened: Callable[..., SqliteRequests], recorder: Recorder
) -> None:
    owner = opened(vfs=recorder.vfs_name)
    owner.add("a", b"x")
    recorder.fail("wal", "write", full)
    with pytest.raises(StoreFull):
        owner.respond(done("a"))
    assert owner.read("a") == b"x"
    owner.respond(done("a"))
    assert owner.take_response("a") == b"done"


def test_a_response_is_told_also_when_the_disk_is_too_full_to_forget_it(
    opened: Callable[..., SqliteRequests], recorder: Recorder
) -> None:
    sender = opened(vfs=recorder.vfs_name)
    sender.add("a", b"x")
    sender.respond(done("a"))
    recorder.fail("wal", "write", full)

    assert [sender.take_response("a") for _ in range(3)] == [b"done", b"done", None]


@pytest.mark.parametrize("error", [sync_error, write_error])
def test_it_is_not_known_whether_a_request_is_there_when_its_commit_fails_and_to_repeat_it_is_safe(
    opened: Callable[..., SqliteRequests], recorder: Recorder, error: Any
) -> None:
    sender = opened(vfs=recorder.vfs_name)
    sender.add("a", b"x")
    recorder.fail("wal", "sync" if error is sync_error else "write", error)
    with pytest.raises(CommitUnknown, match="may be on disk or not"):
        sender.add("b", b"x")
    sender.add("b", b"x")
    assert ids_in(opened()) == ["a", "b"]


def test_a_file_that_cannot_be_set_up_now_is_set_up_later(
    opened: Callable[..., SqliteRequests], recorder: Recorder
) -> None:
    sender = opened(vfs=recorder.vfs_name)
    recorder.fail("db", "write", write_error)
    with pytest.raises(StoreHalted, match=r"cannot be used \(yet\)"):
        sender.add("a", b"x")
    sender.add("a", b"x")
    assert ids_in(opened()) == ["a"]


@pytest.mark.parametrize(
    ("error", "kind"), [(apsw.IOError, StoreHalted), (apsw.CantOpenError, StoreUnusable)]
)
def test_what_cannot_be_opened_now_is_opened_later(
    opened: Callable[..., SqliteRequests],
    recorder: Recorder,
    error: type[Exception],
    kind: type[StoreError],
) -> None:
    sender, owner = opened(), opened(vfs=recorder.vfs_name)
    sender.add("a", b"x")
    recorder.fail("db", "open", lambda: error("injected"))
    with pytest.raises(kind, match="injected"):
        owner.arrived()
    assert ids_in(owner) == ["a"]


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [(errno.ENOSPC, StoreFull, "the disk is full"), (errno.EACCES, StoreUnusable, "Permission denied")],
)
def test_a_file_that_cannot_be_created_leaves_nothing_behind(
    sender: SqliteRequests, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], text: str
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("persistasaurus.store.sqlite.requests.os.open", fail)
        with pytest.raises(kind, match=text):
            sender.add("a", b"x")
    assert not list(sender.path.parent.glob("*-requests*"))
    sender.add("a", b"x")
    assert ids_in(sender) == ["a"]


def test_requests_for_a_store_that_is_not_there_are_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(StoreUnusable, match=r"cannot use .*No such file"):
        SqliteRequests(tmp_path / "none.db", clock).add("a", b"x")
    assert list(tmp_path.iterdir()) == []


WITHOUT_RIGHTS = """
import os, sys
from persistasaurus.store import StoreUnusable
from persistasaurus.store.sqlite.requests import SqliteRequests
os.seteuid(int(sys.argv[2]))
requests = SqliteRequests(sys.argv[1], lambda: 5)
print(requests.pending_count())
try:
    requests.add("a", b"x")
except StoreUnusable as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_a_folder_that_cannot_be_written_to_takes_no_requests_and_says_so(
    opened: Callable[..., SqliteRequests], path: Path
) -> None:
    for folder in (path.parent, *path.parent.parents[:3]):
        folder.chmod(0o755)
    os.chown(path, 12345, -1)

    waiting, error = python(WITHOUT_RIGHTS, path, 12345).splitlines()

    assert waiting == "0"
    assert error.startswith("cannot use")


# What others may have put there


EVERYTHING: dict[str, Callable[[SqliteRequests], object]] = {
    "add": lambda r: r.add("b", b"x"),
    "take_response": lambda r: r.take_response("a"),
    "pending_count": SqliteRequests.pending_count,
    "refusals": SqliteRequests.refusals,
    "arrived": SqliteRequests.arrived,
    "read": lambda r: r.read("a"),
    "respond": lambda r: r.respond(done("a")),
    "sweep": SqliteRequests.sweep,
}


@pytest.mark.parametrize("call", EVERYTHING)
def test_a_file_that_others_may_write_to_is_not_used(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, call: str
) -> None:
    sender.add("a", b"x")
    sender.path.chmod(0o660)
    with pytest.raises(StoreUnusable, match=r"can be written by others: .* chmod 600 it"):
        EVERYTHING[call](opened())


STRANGE: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to(path.parent / "elsewhere"),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_is_neither_followed_nor_waited_for(sender: SqliteRequests, kind: str) -> None:
    STRANGE[kind](sender.path)
    for call in EVERYTHING.values():
        with pytest.raises(StoreUnusable, match="is not a file: remove it"):
            call(sender)
    assert not (sender.path.parent / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_requests_of_another_user_are_not_used(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, path: Path
) -> None:
    sender.add("a", b"x")
    os.chown(sender.path, 12345, -1)
    with pytest.raises(StoreUnusable, match=r"belongs to another user \(12345\): be that user, or remove it"):
        opened().arrived()
    os.chown(path, 12345, -1)
    with pytest.raises(StoreUnusable, match=r"belongs to another user .*: write as that user to it"):
        sender.add("b", b"x")


def test_a_file_that_is_removed_is_made_again(sender: SqliteRequests, owner: SqliteRequests) -> None:
    sender.add("a", b"x")
    assert ids_in(owner) == ["a"]
    for file in sender.path.parent.glob("*-requests*"):
        file.unlink()
    assert owner.arrived() == []
    sender.add("b", b"y")
    assert all_of(owner) == [StoredRequest("b", b"y")]


def test_a_request_whose_file_is_removed_while_it_is_written_is_written_to_the_next_one(
    sender: SqliteRequests, owner: SqliteRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, removals = SqliteRequests._insert, 1

    def insert(self: SqliteRequests, *args: Any) -> None:
        nonlocal removals
        real(self, *args)
        if removals:
            removals -= 1
            for file in sender.path.parent.glob("*-requests*"):
                file.unlink()

    monkeypatch.setattr(SqliteRequests, "_insert", insert)
    sender.add("a", b"x")
    assert ids_in(owner) == ["a"]

    removals = 2
    with pytest.raises(StoreHalted, match="removed again and again"):
        sender.add("b", b"x")


# Damage


def change(requests: SqliteRequests, *statements: str) -> None:
    """Change the file as somebody with another SQLite would."""
    with contextlib.closing(apsw.Connection(str(requests.path))) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.pragma("wal_checkpoint", "TRUNCATE")


def spoil(requests: SqliteRequests, offset: int, data: bytes) -> None:
    """Write over a part of the file, when all of it is in there and nobody has it open."""
    change(requests)
    with requests.path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


DAMAGE: dict[str, Callable[[SqliteRequests], object]] = {
    "its head": lambda r: (remove_logs(r), spoil(r, 0, b"x" * 100)),
    "all of it": lambda r: (change(r), r.path.write_bytes(b"hello " * 2_000), remove_logs(r)),
    "too short": lambda r: (change(r), r.path.write_bytes(b"hello"), remove_logs(r)),
    "a page": lambda r: (change(r), spoil(r, 4096, b"\xff" * (r.path.stat().st_size - 4096))),
    "no table": lambda r: change(r, "DROP TABLE request"),
    "a column": lambda r: change(r, "ALTER TABLE request RENAME COLUMN data TO body"),
    "another database": lambda r: change(r, "PRAGMA application_id = 7"),
    "a wrong type": lambda r: change(
        r,
        "DROP TABLE request",
        "CREATE TABLE request (number INTEGER PRIMARY KEY, id, at, data, response, responded_at, refusal)",
        "INSERT INTO request (id, at, data) VALUES ('a', 1, 'text')",
    ),
    "no text": lambda r: change(r, "UPDATE request SET id = CAST(x'ff' AS TEXT)"),
}


def remove_logs(requests: SqliteRequests) -> None:
    for suffix in ("-wal", "-shm"):
        requests.path.with_name(requests.path.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_reported_as_that_kept_aside_and_begun_anew(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, clock: Clock, kind: str
) -> None:
    sender.add("a", b"x")
    sender.close()
    DAMAGE[kind](sender)
    before = sender.path.read_bytes()
    owner = opened()
    with pytest.raises(RequestsDamaged):
        all_of(owner)

    kept = Path(owner.set_aside())

    assert kept.name == f"flows.db-requests-damaged-{clock.now}"
    assert kept.read_bytes() == before
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert owner.arrived() == []
    opened().add("b", b"y")
    assert all_of(owner) == [StoredRequest("b", b"y")]


def test_senders_that_have_the_file_open_go_on_when_it_is_begun_anew(
    sender: SqliteRequests, owner: SqliteRequests
) -> None:
    sender.add("a", b"x")
    change(sender, "PRAGMA application_id = 7")
    with pytest.raises(RequestsDamaged):
        owner.arrived()
    with pytest.raises(RequestsDamaged):
        sender.add("b", b"x")
    owner.set_aside()

    sender.add("c", b"x")
    assert ids_in(owner) == ["c"]


def test_what_is_in_the_log_is_kept_aside_as_well(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests
) -> None:
    sender.add("a", b"x")
    sender.close()
    with contextlib.closing(apsw.Connection(str(sender.path))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("PRAGMA application_id = 7")
    log = sender.path.with_name(sender.path.name + "-wal").read_bytes()

    kept = Path(opened().set_aside())

    assert kept.with_name(kept.name + "-wal").read_bytes() == log
    with contextlib.closing(apsw.Connection(str(kept))) as connection:
        assert connection.execute("SELECT id FROM request").get == "a"


def test_what_cannot_be_begun_anew_leaves_no_copies(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, holder: Any
) -> None:
    sender.add("a", b"x")
    holder(sender)
    with pytest.raises(StoreHalted, match="locked"):
        opened().set_aside()
    assert not list(sender.path.parent.glob("*damaged*"))
    assert ids_in(opened()) == ["a"]


def test_requests_of_a_newer_version_are_left_alone(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests
) -> None:
    sender.add("a", b"x")
    sender.close()
    change(sender, "PRAGMA user_version = 2")
    for call in EVERYTHING.values():
        with pytest.raises(StoreUnusable, match="have schema 2, this code knows up to 1") as told:
            call(opened())
        assert not isinstance(told.value, RequestsDamaged)


def test_nothing_in_the_file_is_executed(
    opened: Callable[..., SqliteRequests], sender: SqliteRequests, owner: SqliteRequests
) -> None:
    sender.add("a", b"x")
    change(
        sender,
        "CREATE TRIGGER evil AFTER INSERT ON request BEGIN DELETE FROM request; END",
    )
    opened().add("b", b"x")
    assert ids_in(owner) == ["a", "b"]
