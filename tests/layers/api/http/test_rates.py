"""Nobody gets more than a share: so many requests a second, so many signals to a flow, so many streams."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from links.people import Post
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.api.http.access import EVERYTHING, Access
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.middleware.problem import ProblemError
from persistasaurus.api.http.middleware.rules import InFlight, Rates, Streams
from persistasaurus.api.http.tokens import Tokens
from serving.doubles import BEARER, TOKEN, Effects, ask, asked, protected_application, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "pst_" + "1" * 60


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def app(clock: ManualClock, effects: Effects | None = None, **limits: Any) -> Any:
    known = Tokens.of({TOKEN: Access("one", EVERYTHING), OTHER: Access("two", EVERYTHING)})
    return protected_application(effects, access=known, clock=clock, limits=ServerLimits(**limits))


def test_as_many_as_allowed_pass_and_the_next_one_is_told_when(clock: ManualClock) -> None:
    around = app(clock, caller_rate=0.5, caller_burst=3)

    assert [asked(around, "GET", "/flows", BEARER).status for _ in range(4)] == [200, 200, 200, 429]

    refused = asked(around, "GET", "/flows", BEARER)
    assert refused.headers["retry-after"] == "2"
    assert refused.json()["status"] == 429
    clock.advance(2)
    assert [asked(around, "GET", "/flows", BEARER).status for _ in range(2)] == [200, 429]


def test_who_waits_as_told_is_served_and_who_does_not_loses_nothing(clock: ManualClock) -> None:
    around = app(clock, caller_rate=0.1, caller_burst=1)
    asked(around, "GET", "/flows", BEARER)

    for _ in range(50):
        wait = int(asked(around, "GET", "/flows", BEARER).headers["retry-after"])
    clock.advance(wait)

    assert asked(around, "GET", "/flows", BEARER).status == 200


def test_one_caller_does_not_use_up_what_is_anothers(clock: ManualClock) -> None:
    around = app(clock, caller_rate=1, caller_burst=1, stranger_rate=1, stranger_burst=1)

    for _ in range(5):
        asked(around, "GET", "/flows", BEARER)
        asked(around, "GET", "/flows")

    assert asked(around, "GET", "/flows", BEARER).status == 429
    assert asked(around, "GET", "/health").status == 429
    assert asked(around, "GET", "/flows", {"Authorization": f"Bearer {OTHER}"}).status == 200
    assert asked(around, "GET", "/health", client=("10.0.0.9", 1)).status == 200


def test_guessing_tokens_is_slow_and_does_not_lock_out_who_knows_one(clock: ManualClock) -> None:
    around = app(clock, stranger_rate=1, stranger_burst=10)
    guesses = [
        asked(around, "GET", "/flows", {"Authorization": f"Bearer {'x' * 40}{n}"}).status for n in range(100)
    ]

    assert guesses == [401] * 10 + [429] * 90
    assert asked(around, "GET", "/flows", BEARER).status == 200


def test_a_flow_is_sent_so_many_signals_by_all_callers_together(clock: ManualClock) -> None:
    effects = Effects()
    around = app(clock, effects, flow_signal_rate=1, flow_signal_burst=2)
    other = {"Authorization": f"Bearer {OTHER}"}

    statuses = [
        asked(around, "POST", "/flows/a/signals", one).status for one in (BEARER, other, BEARER, other)
    ]

    assert statuses == [201, 201, 429, 429]
    assert asked(around, "POST", "/flows/b/signals", BEARER).status == 201
    assert asked(around, "POST", "/flows/a/pause", BEARER).status == 201
    clock.advance(1)
    assert asked(around, "POST", "/flows/a/signals", BEARER).status == 201
    assert effects.done.count("signal a") == 3


def test_a_storm_passes_at_the_rate_that_was_set(clock: ManualClock) -> None:
    rates = Rates(clock, rate=50, burst=100, remembered=10)
    seed = 7
    chance, passed, seconds = random.Random(seed), 0, 0.0
    while seconds < 60:
        passed += not rates.wait("stormy")
        step = chance.expovariate(1000)
        clock.advance(step)
        seconds += step

    assert 100 + 60 * 50 - 2 <= passed <= 100 + 60 * 50 + 2, f"seed {seed}"


def test_a_long_pause_saves_up_no_more_than_a_burst(clock: ManualClock) -> None:
    rates = Rates(clock, rate=10, burst=5, remembered=10)
    rates.wait("a")
    clock.advance(1_000_000)

    assert sum(not rates.wait("a") for _ in range(100)) == 5


def test_a_clock_on_the_wall_that_jumps_changes_nothing(clock: ManualClock) -> None:
    rates = Rates(clock, rate=1, burst=1, remembered=10)
    rates.wait("a")

    clock.jump_wall(1_000_000)
    assert rates.wait("a") == 1
    clock.jump_wall(-2_000_000)
    assert rates.wait("a") == 1


def test_memory_is_bounded_however_many_flows_are_named(clock: ManualClock) -> None:
    rates = Rates(clock, rate=1, burst=1, remembered=100)
    for n in range(10_000):
        rates.wait(f"flow-{n}")

    assert len(rates) == 100
    assert rates.wait("flow-9999") > 0
    assert rates.wait("flow-0") == 0


def test_each_caller_has_so_many_streams_and_gets_them_back() -> None:
    streams = Streams(2)
    one, _two = streams.enter("a"), streams.enter("a")

    with pytest.raises(ProblemError, match="too many open streams") as raised:
        streams.enter("a")
    assert raised.value.status_code == 429
    assert raised.value.headers == {"Retry-After": "1"}
    streams.enter("b")
    streams.leave(one)
    streams.enter("a")
    assert len(streams) == 3


def test_each_caller_has_so_many_requests_under_way_and_leaves_nothing_behind() -> None:
    in_flight = InFlight(2)
    in_flight.enter("a")
    in_flight.enter("a")

    with pytest.raises(ProblemError, match="too many requests") as raised:
        in_flight.enter("a")
    assert raised.value.status_code == 429
    in_flight.enter("b")
    in_flight.leave("a")
    in_flight.enter("a")
    for name in "aab":
        in_flight.leave(name)
    assert len(in_flight) == 0
    assert vars(in_flight)["_of"] == {}


def test_a_request_is_under_way_until_it_is_answered_or_has_failed(clock: ManualClock) -> None:
    around = app(clock)

    for path in ("/flows", "/nowhere", "/broken", "/stream"):
        asked(around, "GET", path, BEARER, leaves=True)
        asked(around, "GET", path, leaves=True)

    assert len(around.rules.in_flight) == 0
    assert len(around.rules.streams) == 0


def test_long_polls_of_one_caller_leave_room_for_others(clock: ManualClock) -> None:
    around = app(clock, in_flight=2)
    other = {"Authorization": f"Bearer {OTHER}"}

    async def poll() -> list[int]:
        waiting = [
            asyncio.ensure_future(ask(around, scope_of("GET", "/slow", [*BEARER.items()]))) for _ in range(2)
        ]
        while len(around.rules.in_flight) < 2:  # noqa: ASYNC110 - nobody tells when a request has begun
            await asyncio.sleep(0)
        refused = await ask(around, scope_of("GET", "/flows", [*BEARER.items()]))
        served = await ask(around, scope_of("GET", "/flows", [*other.items()]))
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return [refused.status, served.status]

    assert asyncio.run(poll()) == [429, 200]
    assert len(around.rules.in_flight) == 0


def test_a_server_that_stops_ends_its_streams_and_opens_no_more() -> None:
    streams = Streams(2)
    stream = streams.enter("a")

    streams.end()

    assert stream.ended.is_set()
    with pytest.raises(ProblemError, match="stopping") as raised:
        streams.enter("b")
    assert raised.value.status_code == 503
    streams.begin()
    assert not streams.enter("b").ended.is_set()


@pytest.mark.parametrize("name", ServerLimits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"the limit {name} must be a number above zero"):
        ServerLimits(**{name: value})


# ------------------------------------------------------------------- who shares an address with strangers
@pytest.fixture
def post() -> Iterator[Post]:
    opened = Post()
    opened.open()
    yield opened
    opened.close()


NOISE = [
    ("GET", "/x"),
    ("GET", "/flows"),
    ("GET", "/links/x"),
    ("GET", "/links/done/x"),
    ("POST", "/links/x"),
    ("DELETE", "/health"),
]


@pytest.mark.parametrize("noise", NOISE, ids=" ".join)
def test_one_stranger_locks_out_neither_links_nor_who_watches_over_the_server(
    post: Post, noise: tuple[str, str]
) -> None:
    assert post.system is not None
    limits = ServerLimits(stranger_rate=0.001, stranger_burst=5, in_flight=3)
    around = asgi_app(
        post.system, access=Tokens.of({TOKEN: Access("one", EVERYTHING)}), links=post.links, limits=limits
    )
    post.ask()
    used, open_ = (post.token("order-1", "approve") for _ in range(2))

    loud = [asked(around, *noise).status for _ in range(20)]
    assert loud[-1] == 429

    assert [asked(around, "GET", "/health").status for _ in range(20)] == [200] * 20
    assert asked(around, "GET", f"/links/{open_}").status == 200
    done = asked(around, "POST", f"/links/{used}", {"Origin": "null"})
    assert done.status == 303
    assert asked(around, "GET", f"/links/{done.headers['location']}").status == 200


def test_one_who_has_a_link_has_a_share_of_their_own_and_no_more(post: Post) -> None:
    assert post.system is not None
    limits = ServerLimits(stranger_rate=0.001, stranger_burst=3)
    around = asgi_app(
        post.system, access=Tokens.of({TOKEN: Access("one", EVERYTHING)}), links=post.links, limits=limits
    )
    post.ask()
    one, two = (post.token("order-1", "approve") for _ in range(2))

    assert [asked(around, "GET", f"/links/{one}").status for _ in range(5)] == [200, 200, 200, 429, 429]
    assert asked(around, "GET", f"/links/{two}").status == 200
    assert asked(around, "GET", "/links/x").status == 404


@pytest.mark.parametrize(
    ("one", "other", "second"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 429),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 401),
        ("fe80::1%eth0", "fe80::2%eth0", 429),
        ("::ffff:10.0.0.1", "10.0.0.1", 429),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", 401),
        ("10.0.0.1", "10.0.0.2", 401),
        ("::1", "::2", 401),
        ("testclient", "testclient", 429),
    ],
)
def test_a_share_is_that_of_all_addresses_that_one_sender_has(
    clock: ManualClock, one: str, other: str, second: int
) -> None:
    around = app(clock, stranger_rate=0.001, stranger_burst=1)

    assert asked(around, "GET", "/flows", client=(one, 1)).status == 401
    assert asked(around, "GET", "/flows", client=(other, 1)).status == second


# ----------------------------------------------------------------------------------------------- waiting
def test_a_wait_ends_with_its_answer_and_with_the_server() -> None:
    streams = Streams(1)

    async def scenario() -> None:
        assert await streams.wait(asyncio.sleep(0, "answered")) == "answered"
        with pytest.raises(ZeroDivisionError):
            await streams.wait(_failing())
        waiting = asyncio.ensure_future(streams.wait(asyncio.Event().wait()))
        given_up = asyncio.ensure_future(streams.wait(asyncio.Event().wait()))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        streams.end()
        for wait in (waiting, streams.wait(asyncio.Event().wait())):
            with pytest.raises(TimeoutError):
                await wait
        assert vars(streams)["_waits"] == set()

    asyncio.run(scenario())


async def _failing() -> None:
    raise ZeroDivisionError
