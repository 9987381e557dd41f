"""One link, one wait, one use: whatever comes at once, again, late, early, or after a restart."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from links.people import ACTIONS, BASE, DecisionFlow, Post, press, signals, token_of
from persistasaurus import SignalRejected
from persistasaurus.api.links.action import Action
from persistasaurus.api.links.keys import KeyFile, KeyRing
from persistasaurus.api.links.links import Links, link_signal_id
from persistasaurus.flows.errors import StoreUnavailable
from persistasaurus.flows.examples import SignupFlow
from persistasaurus.store import InboxEntry
from system.doubles import DEAD_MAN_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIRMED_A_MINUTE_LATER = b'{"confirmed_at":"2023-11-14T22:14:20Z"}'
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Post]:
    post = Post(tmp_path / "flows.db")
    yield post
    post.close()


def look(post: Post, token: str) -> int:
    with post.client() as client:
        return client.get(f"/links/{token}").status_code


# ----------------------------------------------------------------------------------------------- use
def test_a_link_confirms_when_its_button_is_pressed_and_the_flow_goes_on(post: Post) -> None:
    handle = post.start()
    post.clock.advance(60)

    with post.client() as client:
        answer = client.post(f"/links/{token_of(post.outbox[0])}")

    assert answer.status_code == 200
    assert "Your address is confirmed" in answer.text
    assert signals(handle) == {link_signal_id("confirm_email_address"): CONFIRMED_A_MINUTE_LATER}
    assert 1000 <= handle.result(DEAD_MAN_S) <= 9999


def test_the_answer_comes_when_the_signal_is_durable(post: Post) -> None:
    handle = post.start()
    handle.pause()

    assert press(post, token_of(post.outbox[0])) == 303
    assert list(signals(handle)) == ["link:1:confirm_email_address"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_following_a_link_confirms_nothing_however_often_it_is_done(post: Post, method: str) -> None:
    handle = post.start()
    before = len(handle.events())

    with post.client() as client:
        answers = {
            client.request(method, f"/links/{token_of(post.outbox[0])}").status_code for _ in range(20)
        }

    assert answers == {200}
    assert signals(handle) == {}
    assert len(handle.events()) >= before
    assert handle.status == "waiting"


def test_a_link_is_used_once(post: Post) -> None:
    handle = post.start()
    token = token_of(post.outbox[0])

    assert [press(post, token) for _ in range(3)] == [303, 404, 404]
    assert look(post, token) == 404
    handle.result(DEAD_MAN_S)
    assert [press(post, token), look(post, token)] == [404, 404]
    assert len(signals(handle)) == 1


def test_of_a_hundred_who_press_at_once_exactly_one_confirms(post: Post) -> None:
    handle = post.start()
    token = token_of(post.outbox[0])

    async def all_at_once() -> list[int]:
        transport = httpx.ASGITransport(post.app())  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            answers = await asyncio.gather(*(client.post(f"/links/{token}") for _ in range(100)))
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(all_at_once())

    assert sorted(statuses) == [303] + [404] * 99
    handle.result(DEAD_MAN_S)
    assert len(signals(handle)) == 1


def test_links_for_the_same_wait_exclude_each_other(post: Post) -> None:
    handle = post.ask()
    again = post.token("order-1", "approve")

    assert press(post, post.token("order-1", "approve")) == 303
    assert press(post, post.token("order-1", "reject")) == 404
    assert press(post, again) == 404
    assert len(signals(handle)) == 1


def test_of_those_who_approve_and_reject_at_once_exactly_one_is_heard(post: Post) -> None:
    handle = post.ask()
    tokens = [post.token("order-1", action) for action in ("approve", "reject") * 20]

    async def all_at_once() -> list[int]:
        transport = httpx.ASGITransport(post.app())  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            answers = await asyncio.gather(*(client.post(f"/links/{token}") for token in tokens))
            return [answer.status_code for answer in answers]

    assert sorted(asyncio.run(all_at_once())) == [303] + [404] * 39
    assert len(signals(handle)) == 1


def test_two_clicks_on_one_page_are_one_answer_told_twice(post: Post) -> None:
    handle = post.start()
    token, visit = token_of(post.outbox[0]), "0123456789abcdef" * 2

    async def double_click() -> list[httpx.Response]:
        transport = httpx.ASGITransport(post.app())  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            clicks = [client.post(f"/links/{token}", data={"visit": visit}) for _ in range(5)]
            answers = await asyncio.gather(*clicks)
            return [*answers, await client.post(f"/links/{token}", data={"visit": visit[::-1]})]

    *mine, other = asyncio.run(double_click())

    assert {(answer.status_code, answer.headers["Location"]) for answer in mine} == {
        (303, mine[0].headers["Location"])
    }
    assert other.status_code == 404
    handle.result(DEAD_MAN_S)
    assert len(signals(handle)) == 1


def test_who_presses_again_on_the_same_page_is_told_the_same_for_ten_minutes(post: Post) -> None:
    post.start()
    token, visit = token_of(post.outbox[0]), "0123456789abcdef" * 2
    with post.client() as client:
        statuses = []
        for seconds in (0, 599, 2):
            post.clock.advance(seconds)
            answer = client.post(f"/links/{token}", data={"visit": visit}, follow_redirects=False)
            statuses.append(answer.status_code)

    assert statuses == [303, 303, 404]


# ------------------------------------------------------------------------------------------- one wait
def test_a_link_may_be_used_before_the_flow_waits(post: Post) -> None:
    post.gate.clear()
    handle = post.start()

    assert press(post, token_of(post.outbox[0])) == 303
    assert "signal_awaited" not in str(handle.events())
    post.gate.set()

    assert handle.result(DEAD_MAN_S)
    assert len(signals(handle)) == 1


def test_a_link_for_a_later_wait_does_not_answer_an_earlier_one(post: Post) -> None:
    handle = post.ask()
    first, second = post.token("order-1", "approve"), post.token("order-1", "reject", wait=2)

    assert [look(post, second), press(post, second)] == [404, 404]
    assert press(post, first) == 303
    assert [look(post, first), look(post, second)] == [404, 200]
    assert press(post, second) == 303

    assert handle.result(DEAD_MAN_S) == [True, False]


def test_a_wait_that_somebody_has_answered_in_another_way_takes_no_link_any_more(post: Post) -> None:
    handle = post.ask()
    first = post.token("order-1", "approve")
    handle.signal(DecisionFlow.decide, False, NOON, signal_id="by-api")

    assert [look(post, first), press(post, first)] == [404, 404]
    assert press(post, post.token("order-1", "approve", wait=2)) == 303
    assert handle.result(DEAD_MAN_S) == [False, True]


def test_what_is_sent_under_the_id_of_links_excludes_them_and_they_it(post: Post) -> None:
    shared = link_signal_id("confirm_email_address")
    ada, bob = post.start("ada"), post.start("bob")
    ada.signal(SignupFlow.confirm_email_address, NOON, signal_id=shared)

    assert press(post, token_of(post.outbox[0])) == 404
    assert press(post, token_of(post.outbox[1])) == 303
    with pytest.raises(SignalRejected):
        bob.signal(SignupFlow.confirm_email_address, NOON, signal_id=shared)


def test_signals_that_the_flow_has_not_taken_yet_count_as_those_that_it_has(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = post.ask()
    handle.signal(DecisionFlow.decide, True, NOON, signal_id="first")
    wait_until(lambda: "SignalReceived" in str(handle.events()))
    second = post.token("order-1", "reject", wait=2)
    assert post.system is not None

    def waiting(*entries: tuple[str, str]) -> None:
        inbox = [InboxEntry(number, 0, name, key, b"{}") for number, (name, key) in enumerate(entries)]
        monkeypatch.setattr(post.system.store, "inbox", lambda *_, **__: inbox)

    waiting(("other", "x"), ("decide", "first"))  # read from the inbox just before it moved into the history
    assert look(post, second) == 200
    waiting(("decide", "another"))
    assert look(post, second) == 404


def test_signals_of_other_names_do_not_count(post: Post) -> None:
    handle = post.ask()
    handle.signal(DecisionFlow.remark, "by the way")
    wait_until(lambda: "SignalReceived" in str(handle.events()))

    assert press(post, post.token("order-1", "approve")) == 303


def test_a_link_to_one_flow_is_worth_nothing_for_another(post: Post) -> None:
    ada, bob = post.start("ada"), post.start("bob")

    assert press(post, token_of(post.outbox[0])) == 303

    ada.result(DEAD_MAN_S)
    assert bob.status == "waiting"
    assert signals(bob) == {}


def test_a_link_for_a_flow_that_never_asks_does_not_pretend_to_work(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    post.ask()
    token = post.token("order-1", "confirm")

    assert [look(post, token), press(post, token)] == [404, 404]
    assert "flow 'order-1' (decision) never waits for what action 'confirm' sends" in caplog.text


def test_signals_known_by_name_alone_can_be_asked_for_too(post: Post) -> None:
    by_name = Action(name="yes", signal="decide", title="Yes?", send=lambda at: "not a decision")
    post.links = Links(KeyRing.fresh(), BASE, [*ACTIONS, by_name], clock=post.clock)
    handle = post.ask()

    # The flow declares what fits, and this does not: nothing is recorded, and the wait is still open.
    assert press(post, post.token("order-1", "yes")) == 404
    assert press(post, post.token("order-1", "approve")) == 303
    assert len(signals(handle)) == 1


# ------------------------------------------------------------------------------------ across restarts
def test_a_link_outlives_the_process_that_made_it(disk: Post) -> None:
    disk.start()
    disk.open()
    disk.links = Links(KeyFile.beside(disk.path), BASE, ACTIONS, clock=disk.clock)

    assert press(disk, token_of(disk.outbox[0])) == 303
    assert disk.system is not None
    disk.system.flow("ada").result(DEAD_MAN_S)


def test_a_used_link_is_used_after_a_restart_too(disk: Post) -> None:
    disk.ask()
    first = disk.token("order-1", "approve")
    assert press(disk, first, "ab" * 16) == 303

    disk.open()

    assert press(disk, first, "ab" * 16) == 404
    assert press(disk, disk.token("order-1", "reject")) == 404


def test_two_servers_of_one_system_agree_which_link_is_used(post: Post) -> None:
    post.start()
    token = token_of(post.outbox[0])
    with post.client() as one, post.client() as other:
        statuses = [
            client.post(f"/links/{token}", follow_redirects=False).status_code for client in (one, other)
        ]

    assert statuses == [303, 404]


# ------------------------------------------------------------------------------ expired, and revoked
def test_a_link_works_until_its_time_has_come_and_not_longer(post: Post) -> None:
    post.start()
    token = post.token("ada", "confirm", expires_in=timedelta(hours=1))

    post.clock.advance(3599)
    assert look(post, token) == 200
    post.clock.advance(1)
    assert [look(post, token), press(post, token)] == [404, 404]


def test_a_link_of_an_older_key_works_until_that_key_is_removed(disk: Post) -> None:
    disk.start("ada")
    disk.start("bob")
    keys = disk.links.keys
    assert isinstance(keys, KeyFile)
    keys.rotate()
    old = keys.keys[1]

    assert press(disk, token_of(disk.outbox[0])) == 303
    keys.remove(old.id)
    assert [look(disk, token_of(disk.outbox[1])), press(disk, token_of(disk.outbox[1]))] == [404, 404]
    assert press(disk, disk.token("bob", "confirm")) == 303


def test_a_link_is_worth_nothing_when_its_flow_has_ended(post: Post) -> None:
    post.start()
    unused = post.token("ada", "confirm", wait=2)
    assert press(post, token_of(post.outbox[0])) == 303
    assert post.system is not None
    post.system.flow("ada").result(DEAD_MAN_S)

    assert [look(post, unused), press(post, unused)] == [404, 404]


def test_a_link_for_what_is_asked_no_more_is_worth_nothing(post: Post) -> None:
    post.start()
    keys = post.links.keys
    moved = Action(name="confirm", signal=DecisionFlow.decide, title="Else", send=ACTIONS[1].send)
    for actions in ([ACTIONS[1]], [moved]):
        post.links = Links(keys, BASE, actions, clock=post.clock)
        assert post.links.read(token_of(post.outbox[0])) is None
        assert press(post, token_of(post.outbox[0])) == 404


# ------------------------------------------------------------------------------------------- failures
def test_a_link_stays_good_when_its_use_could_not_be_recorded(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    post.start()
    token = token_of(post.outbox[0])

    async def unavailable(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("persistasaurus.actors.handle.FlowHandle.signal_async", unavailable)
        with post.client() as client:
            answer = client.post(f"/links/{token}", data={"visit": "ab" * 16})

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "60"
    assert "Your link stays as it is" in answer.text
    assert "StoreUnavailable: the disk is full" in caplog.text
    assert press(post, token, "ab" * 16) == 303


def test_what_fails_unexpectedly_is_logged_without_the_link(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    post.start()
    token = token_of(post.outbox[0])
    monkeypatch.setattr("persistasaurus.api.links.routes.ask_page", lambda *_: 1 / 0)

    assert look(post, token) == 503
    ours = [record for record in caplog.records if record.name.startswith("persistasaurus")]
    assert "ZeroDivisionError" in caplog.text
    assert token not in " ".join(str(record.__dict__) for record in ours)


def test_a_closed_system_says_so_and_changes_nothing(post: Post) -> None:
    post.start()
    with post.client() as client:
        post.close()
        assert client.post(f"/links/{token_of(post.outbox[0])}").status_code == 503
