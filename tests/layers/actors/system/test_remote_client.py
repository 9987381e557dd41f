"""The remote client: what another process leaves is durable, and done now or at the engine's next start."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    FlowEnded,
    FlowNotFound,
    FlowSystem,
    NondeterminismError,
    Overloaded,
    PersistasaurusError,
    SignalRejected,
    StoreUnavailable,
)
from persistasaurus.actors.remote.client import RemoteClient
from persistasaurus.actors.remote.protocol import RetryRequest, SignalRequest, response_of
from persistasaurus.actors.runtime.primitives import ManualClock, SystemClock
from persistasaurus.store import SqliteStore, StoreError, StoreHalted, StoreLimits, StoreUnusable
from persistasaurus.store.requests import StoredResponse
from persistasaurus.store.sqlite.requests import SqliteRequests
from system.doubles import DEAD_MAN_S, kinds, wait_until
from system.requesting import (
    FLOWS,
    Declares,
    Fails,
    Hears,
    leave,
    opened,
    pause,
    requests_of,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET = Path(__file__).with_name("sender_target.py")


@pytest.fixture
def make(make_system: Callable[..., FlowSystem], path: Path) -> Callable[..., FlowSystem]:
    return lambda **options: make_system(*FLOWS, **{"path": path, **options})


@pytest.fixture
def client_of() -> Iterator[Callable[[Path], RemoteClient]]:
    made: list[RemoteClient] = []

    def open_one(path: Path) -> RemoteClient:
        made.append(RemoteClient(path))
        return made[-1]

    yield open_one
    for client in made:
        client.close()


@pytest.fixture
def client(make: Callable[..., FlowSystem], path: Path, client_of: Any) -> RemoteClient:
    """Return the client of a store that no engine has open."""
    with make() as system:
        system.start(Hears.main, 2, flow_id="hears")
        system.start(Declares.main, flow_id="declares")
        handle = system.start(Fails.main, flow_id="fails")
        wait_until(lambda: handle.status == "failed")
        assert system.run(Hears.main, 0, flow_id="over") == []
    return client_of(path)


def result(posted: Any) -> Any:
    answered = posted.wait(DEAD_MAN_S)
    assert answered is not None
    return answered.result(posted.flow_id)


# ------------------------------------------------------------------------------------------- promises
def test_whoever_waits_for_a_response_takes_his_time_between_looks(
    make: Callable[..., FlowSystem], client: RemoteClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(SqliteRequests, "take_response", lambda _, name: looks.append(name))
    with make():
        assert client.pause("hears").wait(0.1) is None

    assert 0 < len(looks) <= 0.1 / 0.005 + 2


def test_a_signal_posted_while_the_engine_runs_is_response_of_its_receipt(
    make: Callable[..., FlowSystem], client: RemoteClient
) -> None:
    system = make()
    first = client.signal("hears", "word", b'{"a": 1}', signal_id="one", by="ada")
    receipt = result(first)
    again = result(client.signal("hears", "word", b'{"a":1}', signal_id="one"))
    result(client.signal("hears", "word", b"[2]"))

    assert (receipt.signal_id, receipt.duplicate, again.duplicate) == ("one", False, True)
    assert again.at == receipt.at
    assert system.flow("hears").result(20) == [{"a": 1}, [2]]
    assert client.pending_count() == 0
    assert client.refused() == []


def test_what_is_posted_while_no_engine_runs_waits_for_nothing_and_is_done_at_the_next_start(
    make: Callable[..., FlowSystem], client: RemoteClient
) -> None:
    began = monotonic()
    posted = [
        client.signal("hears", "word", b"1"),
        client.pause("hears", by="ada", why="lunch"),
        client.signal("hears", "word", b"2"),
    ]
    assert [p.wait(DEAD_MAN_S) for p in posted] == [None] * 3
    assert monotonic() - began < DEAD_MAN_S
    assert client.pending_count() == 3

    system = make()
    assert [result(p) is None for p in posted] == [False, True, False]
    handle = system.flow("hears")
    assert handle.status == "paused"
    result(client.resume("hears"))
    assert handle.result(20) == [1, 2]


def test_it_takes_less_than_a_tenth_of_a_second(
    make: Callable[..., FlowSystem], client: RemoteClient
) -> None:
    system = make()
    system.start(Hears.main, 50, flow_id="busy")
    took: list[float] = []
    for n in range(50):
        began = monotonic()
        result(client.signal("busy", "word", b"%d" % n))
        took.append(monotonic() - began)
    assert system.flow("busy").result(20) == list(range(50))
    print(f"request to response: median {statistics.median(took) * 1e3:.1f} ms, max {max(took) * 1e3:.1f} ms")  # noqa: T201
    assert statistics.median(took) < 0.1
    assert max(took) < 2


def test_pause_resume_and_retry_do_what_a_handle_does(
    make: Callable[..., FlowSystem], client: RemoteClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make()
    hears, fails = system.flow("hears"), system.flow("fails")
    result(client.pause("hears", by="ada", why="lunch"))
    assert hears.status == "paused"
    [event] = [e.event for e in hears.events() if type(e.event).__name__ == "Paused"]
    assert (event.by, event.why) == ("ada", "lunch")  # type: ignore[union-attr]
    result(client.resume("hears"))
    assert hears.status == "waiting"
    monkeypatch.setattr(Fails, "is_down", False)
    result(client.retry("fails", by="ada", why="it is back"))
    assert fails.result(20) == "up"


def test_a_failure_is_retried_once_however_many_ask_for_it(
    make: Callable[..., FlowSystem], client: RemoteClient
) -> None:
    posted = [client.retry("fails") for _ in range(3)]
    system = make()
    assert [result(p) for p in posted] == [None] * 3
    handle = system.flow("fails")
    wait_until(lambda: handle.status == "failed")
    assert kinds(handle).count("repaired") == 1
    result(client.retry("fails"))
    assert kinds(handle).count("repaired") == 2


def test_a_client_lets_go_of_its_store_when_its_block_ends_and_what_was_posted_stays(
    client: RemoteClient, path: Path
) -> None:
    with RemoteClient(path) as entered:
        entered.pause("hears")

    assert client.pending_count() == 1
    with pytest.raises(StoreError):
        entered.pause("hears")


def test_two_stores_have_nothing_to_do_with_each_other(
    make: Callable[..., FlowSystem], client: RemoteClient, tmp_path: Path, client_of: Any
) -> None:
    one, two = make(), make(path=tmp_path / "other.db")
    two.start(Hears.main, 2, flow_id="hears")
    other = client_of(tmp_path / "other.db")
    for n in range(2):
        result(client.signal("hears", "word", b"%d" % n))
        result(other.signal("hears", "word", b"1%d" % n))
    assert (one.flow("hears").result(20), two.flow("hears").result(20)) == ([0, 1], [10, 11])


# --------------------------------------------------------------------------------------- many, and dead
def test_a_thousand_signals_of_eight_processes_come_once_each_sender_s_in_order(
    make: Callable[..., FlowSystem], path: Path
) -> None:
    system = make()
    handles = [system.start(Hears.main, 200, flow_id=f"hears-{n}") for n in range(5)]
    senders = [subprocess.Popen([sys.executable, TARGET, path, "125", "5"]) for _ in range(8)]
    assert [sender.wait(60) for sender in senders] == [0] * 8

    heard = [word for handle in handles for word in handle.result(60)]
    assert Counter(map(tuple, heard)) == Counter({(s.pid, n): 1 for s in senders for n in range(125)})
    for handle in handles:
        for sender in senders:
            numbers = [n for pid, n in handle.result(5) if pid == sender.pid]
            assert numbers == sorted(numbers)


def test_senders_that_are_killed_or_stopped_hold_up_no_flow_and_leave_nothing_half(
    make: Callable[..., FlowSystem], client: RemoteClient, path: Path
) -> None:
    system = make()
    system.start(Hears.main, 10_000, flow_id="hears-0")
    senders = [subprocess.Popen([sys.executable, TARGET, path, "100000", "1"]) for _ in range(3)]
    handle = system.flow("hears-0")
    wait_until(lambda: {pid for pid, _ in handle.query(Hears.so_far)} == {s.pid for s in senders})
    stopped, *killed = senders
    os.kill(stopped.pid, signal.SIGSTOP)
    for sender in killed:
        sender.kill()
        sender.wait(20)
    began = monotonic()
    try:
        result(client.signal("hears", "word", b"1"))
    except StoreHalted:  # it was stopped while it wrote: others give up, and nothing was written
        system.flow("hears").signal("word", 1)
    system.flow("hears").signal("word", 2)
    assert system.flow("hears").result(20) == [1, 2]
    assert monotonic() - began < 10
    stopped.kill()
    stopped.wait(20)

    wait_until(lambda: not client.pending_count())
    heard = handle.query(Hears.so_far)
    for sender in senders:
        assert [n for pid, n in heard if pid == sender.pid] == list(
            range(sum(pid == sender.pid for pid, _ in heard))
        )
    assert client.refused() == []


# ---------------------------------------------------------------------------------- refused at the door
def refused(post: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        post()


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", r"at \$ "),
        (b"nope", r"at \$ "),
        (b"1 2", r"at \$ "),
        (b"\xff", r"at \$ "),
        (b"NaN", r"at \$ "),
        (b"[" * 300 + b"]" * 300, "nested more than 200"),
        (b'"' + b"x" * (16 << 20) + b'"', "exceed the limit"),
        (b'{"a": [{"b": 1, "b": 2}]}', r"\$\.a\[0\] .*has the field 'b' twice"),
    ],
)
def test_a_payload_that_is_no_json_is_refused_where_it_is_posted(
    client: RemoteClient, path: Path, payload: bytes, text: str
) -> None:
    refused(lambda: client.signal("hears", "word", payload), SignalRejected, text)
    assert not requests_of(path).path.exists()


def test_what_can_not_come_true_is_refused_where_it_is_posted(client: RemoteClient, path: Path) -> None:
    for post in (client.pause, client.resume, client.retry, lambda f: client.signal(f, "word")):
        refused(lambda post=post: post("nobody"), FlowNotFound, "no flow 'nobody'")  # type: ignore[misc]
        refused(lambda post=post: post("no\nbody"), ValueError, "is not a valid flow id")  # type: ignore[misc]
    for post in (client.pause, client.resume, lambda f: client.signal(f, "word")):
        refused(lambda post=post: post("over"), FlowEnded, "has ended")  # type: ignore[misc]
    refused(lambda: client.retry("hears"), PersistasaurusError, "there is nothing to retry")
    refused(lambda: client.signal("hears", ""), ValueError, "name of a signal")
    refused(lambda: client.signal("hears", "word", "true"), TypeError, "as bytes, and not str")  # type: ignore[arg-type]
    refused(lambda: client.signal("hears", "word", signal_id="x" * 300), ValueError, "signal id")
    refused(lambda: client.pause("hears", by="\udcff"), ValueError, "not text that can be stored")
    assert not requests_of(path).path.exists()


def test_too_many_requests_for_an_engine_that_is_down_are_refused(
    client: RemoteClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.store.sqlite.requests._PENDING_MAX", 2)
    client.pause("hears")
    client.resume("hears")
    refused(lambda: client.pause("hears"), Overloaded, "2 requests wait")


def test_a_request_that_is_larger_than_the_engine_would_read_is_refused(client: RemoteClient) -> None:
    refused(lambda: client.pause("hears", why="x" * (16 << 20)), SignalRejected, "exceed the limit")
    assert client.pending_count() == 0


def test_a_store_that_is_not_there_has_no_client(tmp_path: Path) -> None:
    refused(lambda: RemoteClient(tmp_path / "none.db"), StoreUnusable, "no store at")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------- refused by the engine
def test_the_engine_s_refusal_is_raised_as_the_handle_would_and_kept_for_who_did_not_wait(
    make: Callable[..., FlowSystem], client: RemoteClient
) -> None:
    unheard = client.signal("declares", "confirm", b'{"amount": "much"}', signal_id="s", by="ada")
    late = client.signal("over", "word", b"1", signal_id="never-came-before")
    make()
    for payload, text in (
        (b'{"amount": "much"}', r"\$\.amount "),
        (b'{"amount": 1, "more": 2}', "more"),
        (b"{}", "amount"),
    ):
        posted = client.signal("declares", "confirm", payload)
        refused(lambda posted=posted: result(posted), SignalRejected, text)  # type: ignore[misc]
    wait_until(lambda: not client.pending_count())

    one, two = client.refused()
    assert isinstance(one.request, SignalRequest)
    assert (one.request.flow_id, one.request.signal_id, one.request.by) == ("declares", "s", "ada")
    assert "$.amount" in one.reason
    assert isinstance(two.request, SignalRequest)
    assert two.request.flow_id == "over"
    refused(lambda: result(late), FlowEnded, r"flow 'over' has ended \(completed\)")
    refused(lambda: result(unheard), SignalRejected, r"\$\.amount ")
    assert client.refused() == []


def test_a_flow_that_takes_no_more_signals_says_so_and_what_was_left_is_kept(
    client: RemoteClient, path: Path
) -> None:
    """Its code is gone, so they pile up."""
    posted = [client.signal("hears", "word", b"1"), client.signal("hears", "word", b"2")]
    store = SqliteStore.open(path, now=SystemClock().now, limits=StoreLimits(inbox=1))
    with FlowSystem(store=store):
        assert result(posted[0]).duplicate is False
        wait_until(lambda: not client.pending_count())
        assert ["1 unconsumed signals" in u.reason for u in client.refused()] == [True]
        refused(lambda: result(posted[1]), Overloaded, "which is the limit")


def test_a_signal_that_came_before_its_flow_ended_is_answered_the_same_after(
    make: Callable[..., FlowSystem], client: RemoteClient
) -> None:
    with make() as system:
        first = result(client.signal("declares", "confirm", b"7", signal_id="mail-1"))
        assert system.flow("declares").result(20) == 7
    posted = client.signal("declares", "confirm", b'{"amount":7}', signal_id="mail-1")
    other = client.signal("declares", "confirm", b"8", signal_id="mail-1")
    make()
    again = result(posted)
    assert (again.at, again.duplicate) == (first.at, True)
    refused(lambda: result(other), SignalRejected, "with another name or payload")


@pytest.mark.parametrize(
    "error",
    [
        FlowNotFound("f"),
        FlowEnded("f", "failed"),
        SignalRejected("a"),
        Overloaded("b"),
        NondeterminismError("c"),
        PersistasaurusError("d"),
    ],
)
def test_each_error_comes_out_of_a_response_as_it_went_in(error: PersistasaurusError) -> None:
    with pytest.raises(type(error)) as raised:
        response_of(error).result("f")
    assert type(raised.value) is type(error)
    assert str(raised.value) == str(error)


def test_an_error_that_is_not_public_comes_as_the_public_one_that_it_is() -> None:
    for error in (ValueError("x"), type("Mine", (SignalRejected,), {})("x")):
        with pytest.raises(PersistasaurusError, match=r"^x$"):
            response_of(error).result("f")


# -------------------------------------------------------------------------------------------- waiting
def test_whoever_is_not_answered_in_time_hears_so_and_the_request_stays(
    client: RemoteClient, path: Path
) -> None:
    """Somebody owns the store, and does not take anything: an engine that hangs."""
    clock = ManualClock()
    owner = SqliteStore.open(path, now=clock.now)
    try:
        impatient = RemoteClient(path, clock=clock)
        posted = impatient.pause("hears")
        assert posted.wait(0) is None
        clock.advance(5)
        assert posted.wait(-1) is None
        assert impatient.pending_count() == 1
        impatient.close()
    finally:
        owner.close()


def test_a_response_that_makes_no_sense_is_not_known_and_told_once(client: RemoteClient, path: Path) -> None:
    posted = client.pause("hears")
    with opened(path) as store:
        store.respond([StoredResponse(posted.id, b'{"kind": 1')])

    refused(lambda: posted.wait(0), StoreUnavailable, f"the response to {posted.id} cannot be read")
    assert posted.wait(0) is None


def test_a_response_is_found_by_whoever_knows_the_id_of_the_request(
    make: Callable[..., FlowSystem], client: RemoteClient, path: Path, client_of: Any
) -> None:
    request_id = client.pause("hears").id
    client.close()
    make()

    response = client_of(path).response(request_id, DEAD_MAN_S)
    assert response is not None
    assert response.is_done


def test_requests_that_can_not_be_read_say_so(client: RemoteClient, path: Path) -> None:
    posted = client.pause("hears")
    requests_of(path).path.chmod(0o666)
    impatient = RemoteClient(path)
    for look in (impatient.pending_count, impatient.refused, lambda: impatient.pause("hears")):
        refused(look, StoreUnusable, "can be written by others")
    refused(lambda: impatient.response(posted.id, 0), StoreUnavailable, "can be written by others")
    impatient.close()


def test_a_request_that_makes_no_sense_to_the_engine_is_listed_as_what_it_was(
    make: Callable[..., FlowSystem], client: RemoteClient, path: Path
) -> None:
    with opened(path) as store:
        store.add("a", json.dumps({"kind": "cancel", "flow_id": "x"}).encode())
    leave(path, word("nobody", 1), pause("nobody"), RetryRequest("hears", "", why="", version=99))
    make()
    wait_until(lambda: len(client.refused()) == 4)
    assert [type(u.request).__name__ for u in client.refused()] == [
        "NoneType",
        "SignalRequest",
        "PauseRequest",
        "RetryRequest",
    ]
    assert "cancel" in client.refused()[0].reason
