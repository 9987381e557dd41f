"""The postbox: what another process leaves is durable, and done at once, or when the engine comes back."""

from __future__ import annotations

import errno
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
from persistasaurus.actors.remote.client import Postbox
from persistasaurus.actors.remote.protocol import PauseOrder, RetryOrder, SignalOrder, answered_with
from persistasaurus.actors.runtime.primitives import ManualClock, SystemClock
from persistasaurus.store import SqliteStore, StoreError, StoreLimits, StoreUnusable
from persistasaurus.store.files.spool import Spool
from system.doubles import DEAD_MAN_S, kinds, wait_until
from system.spooling import FLOWS, Declares, Fails, Hears, leave, spool_of, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TARGET = Path(__file__).with_name("postbox_target.py")


@pytest.fixture
def make(make_system: Callable[..., FlowSystem], path: Path) -> Callable[..., FlowSystem]:
    return lambda **options: make_system(*FLOWS, **{"path": path, **options})


@pytest.fixture
def postbox_of() -> Iterator[Callable[[Path], Postbox]]:
    made: list[Postbox] = []

    def open_one(path: Path) -> Postbox:
        made.append(Postbox(path))
        return made[-1]

    yield open_one
    for postbox in made:
        postbox.close()


@pytest.fixture
def postbox(make: Callable[..., FlowSystem], path: Path, postbox_of: Any) -> Postbox:
    """Return the postbox of a store that no engine has open."""
    with make() as system:
        system.start(Hears.main, 2, flow_id="hears")
        system.start(Declares.main, flow_id="declares")
        handle = system.start(Fails.main, flow_id="fails")
        wait_until(lambda: handle.status == "failed")
        assert system.run(Hears.main, 0, flow_id="over") == []
    return postbox_of(path)


def result(posted: Any) -> Any:
    answered = posted.wait(DEAD_MAN_S)
    assert answered is not None
    return answered.result(posted.flow_id)


# ------------------------------------------------------------------------------------------- promises
def test_whoever_waits_for_an_answer_takes_his_time_between_looks(
    make: Callable[..., FlowSystem], postbox: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    monkeypatch.setattr(Spool, "take_answer", lambda _, name: looks.append(name))
    with make():
        assert postbox.pause("hears").wait(0.1) is None

    assert 0 < len(looks) <= 0.1 / 0.005 + 2


def test_a_signal_posted_while_the_engine_runs_is_answered_with_its_receipt(
    make: Callable[..., FlowSystem], postbox: Postbox
) -> None:
    system = make()
    first = postbox.signal("hears", "word", b'{"a": 1}', signal_id="one", by="ada")
    receipt = result(first)
    again = result(postbox.signal("hears", "word", b'{"a":1}', signal_id="one"))
    result(postbox.signal("hears", "word", b"[2]"))

    assert (receipt.signal_id, receipt.duplicate, again.duplicate) == ("one", False, True)
    assert again.at == receipt.at
    assert system.flow("hears").result(20) == [{"a": 1}, [2]]
    assert postbox.waiting() == 0
    assert postbox.undelivered() == []


def test_what_is_posted_while_no_engine_runs_waits_for_nothing_and_is_done_at_the_next_start(
    make: Callable[..., FlowSystem], postbox: Postbox
) -> None:
    began = monotonic()
    posted = [
        postbox.signal("hears", "word", b"1"),
        postbox.pause("hears", by="ada", why="lunch"),
        postbox.signal("hears", "word", b"2"),
    ]
    assert [p.wait(DEAD_MAN_S) for p in posted] == [None] * 3
    assert monotonic() - began < DEAD_MAN_S
    assert postbox.waiting() == 3

    system = make()
    assert [result(p) is None for p in posted] == [False, True, False]
    handle = system.flow("hears")
    assert handle.status == "paused"
    result(postbox.resume("hears"))
    assert handle.result(20) == [1, 2]


def test_it_takes_less_than_a_tenth_of_a_second(make: Callable[..., FlowSystem], postbox: Postbox) -> None:
    system = make()
    system.start(Hears.main, 50, flow_id="busy")
    took: list[float] = []
    for n in range(50):
        began = monotonic()
        result(postbox.signal("busy", "word", b"%d" % n))
        took.append(monotonic() - began)
    assert system.flow("busy").result(20) == list(range(50))
    print(f"post to answer: median {statistics.median(took) * 1e3:.1f} ms, max {max(took) * 1e3:.1f} ms")  # noqa: T201
    assert statistics.median(took) < 0.1
    assert max(took) < 2


def test_pause_resume_and_retry_do_what_a_handle_does(
    make: Callable[..., FlowSystem], postbox: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make()
    hears, fails = system.flow("hears"), system.flow("fails")
    result(postbox.pause("hears", by="ada", why="lunch"))
    assert hears.status == "paused"
    [event] = [e.event for e in hears.events() if type(e.event).__name__ == "Paused"]
    assert (event.by, event.why) == ("ada", "lunch")  # type: ignore[union-attr]
    result(postbox.resume("hears"))
    assert hears.status == "waiting"
    monkeypatch.setattr(Fails, "is_down", False)
    result(postbox.retry("fails", by="ada", why="it is back"))
    assert fails.result(20) == "up"


def test_a_failure_is_retried_once_however_many_ask_for_it(
    make: Callable[..., FlowSystem], postbox: Postbox
) -> None:
    posted = [postbox.retry("fails") for _ in range(3)]
    system = make()
    assert [result(p) for p in posted] == [None] * 3
    handle = system.flow("fails")
    wait_until(lambda: handle.status == "failed")
    assert kinds(handle).count("repaired") == 1
    result(postbox.retry("fails"))
    assert kinds(handle).count("repaired") == 2


def test_a_postbox_lets_go_of_its_store_when_its_block_ends_and_what_was_posted_stays(
    postbox: Postbox, path: Path
) -> None:
    with Postbox(path) as entered:
        entered.pause("hears")

    assert postbox.waiting() == 1
    with pytest.raises(StoreError):
        entered.pause("hears")


def test_two_stores_have_nothing_to_do_with_each_other(
    make: Callable[..., FlowSystem], postbox: Postbox, tmp_path: Path, postbox_of: Any
) -> None:
    one, two = make(), make(path=tmp_path / "other.db")
    two.start(Hears.main, 2, flow_id="hears")
    other = postbox_of(tmp_path / "other.db")
    for n in range(2):
        result(postbox.signal("hears", "word", b"%d" % n))
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


def test_senders_that_are_killed_or_stopped_hold_up_nobody_and_leave_nothing_half(
    make: Callable[..., FlowSystem], postbox: Postbox, path: Path
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
    result(postbox.signal("hears", "word", b"1"))
    result(postbox.signal("hears", "word", b"2"))
    assert system.flow("hears").result(20) == [1, 2]
    stopped.kill()
    stopped.wait(20)

    wait_until(lambda: not postbox.waiting())
    heard = handle.query(Hears.so_far)
    for sender in senders:
        assert [n for pid, n in heard if pid == sender.pid] == list(
            range(sum(pid == sender.pid for pid, _ in heard))
        )
    assert postbox.undelivered() == []


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
        (b'"' + b"x" * (16 << 20) + b'"', "more than the limit"),
        (b'{"a": [{"b": 1, "b": 2}]}', r"\$\.a\[0\] .*has the field 'b' twice"),
    ],
)
def test_a_payload_that_is_no_json_is_refused_where_it_is_posted(
    postbox: Postbox, path: Path, payload: bytes, text: str
) -> None:
    refused(lambda: postbox.signal("hears", "word", payload), SignalRejected, text)
    assert not spool_of(path).folder.exists()


def test_what_can_not_come_true_is_refused_where_it_is_posted(postbox: Postbox, path: Path) -> None:
    for post in (postbox.pause, postbox.resume, postbox.retry, lambda f: postbox.signal(f, "word")):
        refused(lambda post=post: post("nobody"), FlowNotFound, "no flow 'nobody'")  # type: ignore[misc]
        refused(lambda post=post: post("no\nbody"), ValueError, "is no flow id")  # type: ignore[misc]
    for post in (postbox.pause, postbox.resume, lambda f: postbox.signal(f, "word")):
        refused(lambda post=post: post("over"), FlowEnded, "has ended")  # type: ignore[misc]
    refused(lambda: postbox.retry("hears"), PersistasaurusError, "there is nothing to retry")
    refused(lambda: postbox.signal("hears", ""), ValueError, "name of a signal")
    refused(lambda: postbox.signal("hears", "word", signal_id="x" * 300), ValueError, "signal id")
    refused(lambda: postbox.pause("hears", by="\udcff"), ValueError, "no text that can be stored")
    assert not spool_of(path).folder.exists()


def test_too_many_orders_for_an_engine_that_is_down_are_refused(
    postbox: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistasaurus.store.files.spool._PENDING_MAX", 2)
    postbox.pause("hears")
    postbox.resume("hears")
    refused(lambda: postbox.pause("hears"), Overloaded, "2 requests wait")


def test_an_order_that_is_larger_than_the_engine_would_read_is_refused(postbox: Postbox) -> None:
    refused(lambda: postbox.pause("hears", why="x" * (16 << 20)), SignalRejected, "more than the limit")
    assert postbox.waiting() == 0


def test_a_store_that_is_not_there_has_no_postbox(tmp_path: Path) -> None:
    refused(lambda: Postbox(tmp_path / "none.db"), StoreUnusable, "no store at")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------- refused by the engine
def test_the_engine_s_refusal_is_raised_as_the_handle_would_and_kept_for_who_did_not_wait(
    make: Callable[..., FlowSystem], postbox: Postbox
) -> None:
    unheard = postbox.signal("declares", "confirm", b'{"amount": "much"}', signal_id="s", by="ada")
    late = postbox.signal("over", "word", b"1", signal_id="never-came-before")
    make()
    for payload, text in (
        (b'{"amount": "much"}', r"\$\.amount "),
        (b'{"amount": 1, "more": 2}', "more"),
        (b"{}", "amount"),
    ):
        posted = postbox.signal("declares", "confirm", payload)
        refused(lambda posted=posted: result(posted), SignalRejected, text)  # type: ignore[misc]
    wait_until(lambda: not postbox.waiting())

    one, two = postbox.undelivered()
    assert isinstance(one.order, SignalOrder)
    assert (one.order.flow_id, one.order.signal_id, one.order.by) == ("declares", "s", "ada")
    assert "$.amount" in one.reason
    assert isinstance(two.order, SignalOrder)
    assert two.order.flow_id == "over"
    refused(lambda: result(late), FlowEnded, r"flow 'over' has ended \(completed\)")
    refused(lambda: result(unheard), SignalRejected, r"\$\.amount ")
    assert postbox.undelivered() == []


def test_a_flow_that_takes_no_more_signals_says_so_and_what_was_left_is_kept(
    postbox: Postbox, path: Path
) -> None:
    """Its code is gone, so they pile up."""
    posted = [postbox.signal("hears", "word", b"1"), postbox.signal("hears", "word", b"2")]
    store = SqliteStore.open(path, now=SystemClock().now, limits=StoreLimits(inbox=1))
    with FlowSystem(store=store):
        assert result(posted[0]).duplicate is False
        wait_until(lambda: not postbox.waiting())
        assert ["1 unconsumed signals" in u.reason for u in postbox.undelivered()] == [True]
        refused(lambda: result(posted[1]), Overloaded, "which is the limit")


def test_a_signal_that_came_before_its_flow_ended_is_answered_the_same_after(
    make: Callable[..., FlowSystem], postbox: Postbox
) -> None:
    with make() as system:
        first = result(postbox.signal("declares", "confirm", b"7", signal_id="mail-1"))
        assert system.flow("declares").result(20) == 7
    posted = postbox.signal("declares", "confirm", b'{"amount":7}', signal_id="mail-1")
    other = postbox.signal("declares", "confirm", b"8", signal_id="mail-1")
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
def test_each_error_comes_out_of_an_answer_as_it_went_in(error: PersistasaurusError) -> None:
    with pytest.raises(type(error)) as raised:
        answered_with(error).result("f")
    assert type(raised.value) is type(error)
    assert str(raised.value) == str(error)


def test_an_error_that_is_not_public_comes_as_the_public_one_that_it_is() -> None:
    for error in (ValueError("x"), type("Mine", (SignalRejected,), {})("x")):
        with pytest.raises(PersistasaurusError, match=r"^x$"):
            answered_with(error).result("f")


# -------------------------------------------------------------------------------------------- waiting
def test_whoever_is_not_answered_in_time_hears_so_and_the_order_stays(postbox: Postbox, path: Path) -> None:
    """Somebody owns the store, and does not take anything: an engine that hangs."""
    clock = ManualClock()
    owner = SqliteStore.open(path, now=clock.now)
    try:
        impatient = Postbox(path, clock=clock)
        posted = impatient.pause("hears")
        assert posted.wait(0) is None
        clock.advance(5)
        assert posted.wait(-1) is None
        assert impatient.waiting() == 1
        impatient.close()
    finally:
        owner.close()


@pytest.fixture
def answers(postbox: Postbox, path: Path) -> Path:
    """Return the folder in which an engine would leave its answers."""
    postbox.pause("hears").wait(0)
    return spool_of(path).folder / "answers"


def test_an_answer_that_makes_no_sense_is_not_known_and_told_once(postbox: Postbox, answers: Path) -> None:
    posted = postbox.pause("hears")
    (answers / posted.name).write_bytes(b'{"kind": 1')

    refused(lambda: posted.wait(0), StoreUnavailable, f"the answer to {posted.name} cannot be read")
    assert posted.wait(0) is None


def test_an_answer_that_can_not_be_read_is_not_known(postbox: Postbox, answers: Path) -> None:
    posted = postbox.pause("hears")
    (answers / posted.name).mkdir()

    refused(lambda: posted.wait(0), StoreUnavailable, "cannot be read")


def test_a_spool_that_can_not_be_looked_into_says_so(
    postbox: Postbox, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worn_out(_: Path) -> list[str]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("persistasaurus.store.files.spool.names_in", worn_out)

    for look in (postbox.waiting, postbox.undelivered):
        refused(look, StoreUnavailable, "the spool cannot be read: Input/output error")


def test_an_order_that_makes_no_sense_to_the_engine_is_listed_as_what_it_was(
    make: Callable[..., FlowSystem], postbox: Postbox, path: Path
) -> None:
    spool_of(path).put(json.dumps({"kind": "cancel", "flow_id": "x"}).encode(), "a")
    leave(path, word("nobody", 1), PauseOrder("nobody", "", ""), RetryOrder("hears", "", "", 99))
    make()
    wait_until(lambda: len(postbox.undelivered()) == 4)
    assert [type(u.order).__name__ for u in postbox.undelivered()] == [
        "NoneType",
        "SignalOrder",
        "PauseOrder",
        "RetryOrder",
    ]
    assert "cancel" in postbox.undelivered()[0].reason
