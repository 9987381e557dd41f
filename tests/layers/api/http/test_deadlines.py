"""Nobody holds a connection for ever: not by sending slowly, not by sending nothing, not by not reading."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.server import Server
from serving.doubles import BEARER, PATIENCE, Effects, Wire, asked, protected_application, request
from system.doubles import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus.api.http.middleware.asgi import ASGIScope, Receive, Send

SHORT = 0.3
LIMITS = ServerLimits(
    head_seconds=SHORT,
    idle_seconds=SHORT,
    body_seconds=SHORT,
    request_seconds=2 * SHORT,
    write_seconds=SHORT,
    streams=2,
)


@pytest.fixture(scope="module")
def url(effects: Effects) -> Iterator[str]:
    with Server(protected_application(effects, limits=LIMITS)) as server:
        yield server.url


def dribble(wire: Wire, data: bytes) -> bytes:
    """Send byte by byte, never silent for long, until the server answers; return all that it says."""
    wire.socket.settimeout(SHORT / 10)
    deadline = time.monotonic() + PATIENCE
    for byte in data:
        assert time.monotonic() < deadline, "held open"
        with contextlib.suppress(TimeoutError):
            piece = wire.socket.recv(65536)
            wire.received += piece
            break
        wire.send(bytes([byte]))
    wire.socket.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionResetError):
        return wire.rest()
    return wire.received


def test_headers_that_come_byte_by_byte_run_out_of_time(wire: Wire) -> None:
    began = time.monotonic()

    heard = dribble(wire, b"GET /flows HTTP/1.1\r\nHost: localhost\r\n" + b"X-Slow: " + b"x" * 10_000)

    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b"x-content-type-options: nosniff" in heard
    assert time.monotonic() - began < PATIENCE / 2


def test_so_do_those_of_the_second_request_on_a_connection(wire: Wire) -> None:
    wire.send(request("GET", "/flows"))
    assert wire.answer().status == 200

    assert dribble(wire, b"GET /flows HTTP/1.1\r\nX-Slow: " + b"x" * 10_000).startswith(b"HTTP/1.1 408 ")


def test_so_does_a_request_behind_another_that_was_sent_with_it(wire: Wire) -> None:
    wire.send(request("GET", "/flows") + b"GET /fl")
    assert wire.answer().status == 200

    assert dribble(wire, b"o" * 10_000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("framing", ["Content-Length: 900", "Transfer-Encoding: chunked"])
def test_a_body_that_comes_byte_by_byte_runs_out_of_time(wire: Wire, effects: Effects, framing: str) -> None:
    wire.send(request("POST", "/flows", framing))

    heard = dribble(wire, b"384\r\n" + b"x" * 10_000)

    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in heard
    assert effects.done == []


def test_a_body_that_nobody_waits_for_any_more_runs_out_of_time(wire: Wire) -> None:
    wire.send(request("POST", "/flows", "Content-Length: 60000", token=""))
    assert wire.answer().status == 401

    # Nothing is said of it: the client, or a proxy, would take that for the answer to its next request.
    assert b"HTTP/1.1" not in dribble(wire, b"x" * 10_000)


def test_a_connection_without_a_request_is_closed(wire: Wire) -> None:
    assert wire.rest() == b""


def test_a_connection_is_closed_when_no_further_request_comes(wire: Wire) -> None:
    wire.send(request("GET", "/flows"))
    assert wire.answer().status == 200

    assert wire.rest() == b""


def test_a_body_that_comes_late_does_not_make_an_idle_connection_immortal(wire: Wire) -> None:
    wire.send(request("POST", "/flows", "Content-Length: 4", token=""))
    assert wire.answer().status == 401
    wire.send(b"late")

    assert wire.rest() == b""


def test_a_request_that_takes_too_long_is_given_up(wire: Wire) -> None:
    wire.send(request("GET", "/slow"))

    heard = wire.answer()

    assert heard.status == 503
    assert heard.headers["retry-after"] == "1"
    assert "may still take effect" in heard.json()["detail"]


def test_a_stream_stays_open_beyond_all_deadlines(wire: Wire) -> None:
    wire.send(request("GET", "/stream"))
    wire.until(b"data: first")
    wire.socket.settimeout(4 * SHORT)

    with pytest.raises(TimeoutError):
        wire.socket.recv(1)


def test_a_caller_has_so_many_streams_and_a_place_is_free_when_one_is_left(url: str) -> None:
    with Wire(url) as one, Wire(url) as two, Wire(url) as three:
        for wire in (one, two):
            wire.send(request("GET", "/stream"))
            wire.until(b"data: first")
        three.send(request("GET", "/stream"))
        refused = three.answer()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        one.socket.close()
        wait_until(lambda: opens(url, "/stream"))


def test_a_client_that_does_not_read_is_left() -> None:
    app = protected_application(limits=ServerLimits(write_seconds=SHORT))
    with Server(app) as server, Wire(server.url) as wire:
        wire.send(request("GET", "/large"))
        wire.until(b"200 OK")

        wait_until(lambda: not len(server.connections))
        # What the kernels hold of it still comes; the answer as a whole does not.
        with contextlib.suppress(ConnectionResetError):
            assert len(wire.rest()) < 30_000_000


def test_a_client_that_reads_now_and_then_gets_all_of_it() -> None:
    with Server(protected_application()) as server, Wire(server.url) as wire:
        wire.send(request("GET", "/large", "Connection: close"))
        wire.until(b"200 OK")
        wait_for_request(server.url)

        assert len(wire.rest().partition(b"\r\n\r\n")[2]) == 30_000_000


def test_a_crowd_is_cut_off_and_the_server_goes_on() -> None:
    app = protected_application(limits=ServerLimits(connections=2))
    with Server(app) as server, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Wire(server.url)) for _ in range(100)]
        with contextlib.suppress(ConnectionResetError):
            crowd[-1].rest()
        stack.close()

        wait_until(lambda: opens(server.url, "/flows"))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /flows HTTP/1.1\r\nHost: lo",
        request("GET", "/flows"),
        request("GET", "/flows", token=""),
        request("POST", "/flows", "Content-Length: 60000", token=""),
    ],
    ids=["nothing", "half a head", "a request", "a request of nobody", "no body"],
)
def test_a_crowd_that_asks_for_nothing_keeps_nobody_out(sent: bytes) -> None:
    app = protected_application(limits=ServerLimits(connections=5))
    with Server(app) as server, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(Wire(server.url)) for _ in range(40)]
        for wire in crowd:
            with contextlib.suppress(OSError):
                wire.send(sent)
        for _ in range(10):
            assert opens(server.url, "/flows")


def test_who_has_most_idle_connections_makes_room_and_not_who_has_had_one_for_long() -> None:
    app = protected_application(limits=ServerLimits(connections=5))
    with Server(app) as server, contextlib.ExitStack() as stack:
        port = int(server.url.rpartition(":")[2])
        old = stack.enter_context(Wire(server.url))
        old.send(request("GET", "/flows"))
        assert old.answer().status == 200
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE, ("127.0.0.2", 0)))
        wait_for_request(server.url)

        old.send(request("GET", "/flows"))

        assert old.answer().status == 200


def test_so_many_connections_are_busy_and_the_next_is_told() -> None:
    app = protected_application(limits=ServerLimits(connections=5))
    with Server(app) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            wire = stack.enter_context(Wire(server.url))
            wire.send(request("GET", "/stream"))
            wire.until(b"data: first")
        more = [stack.enter_context(Wire(server.url)) for _ in range(5)]
        answers = [wire.answer() for wire in more]

        assert {heard.status for heard in answers} == {503}
        assert answers[0].headers["connection"] == "close"
        stack.close()
        wait_until(lambda: opens(server.url, "/flows"))


def test_an_application_that_answers_half_and_then_hangs_is_cut_off() -> None:
    async def half(scope: ASGIScope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(PATIENCE)

    app = protected_application(limits=LIMITS)
    app._app = half
    with Server(app) as server, Wire(server.url) as wire:
        wire.send(request("GET", "/"))
        heard = wire.rest()

    assert heard.endswith(b"half")


def test_an_access_check_that_hangs_is_given_up() -> None:
    async def hang(_scope: ASGIScope) -> None:
        await asyncio.sleep(PATIENCE)

    heard = asked(protected_application(access=hang, limits=LIMITS), "GET", "/flows", BEARER)

    assert heard.status == 503


def test_the_time_of_a_timeout_of_the_applications_own_is_a_failure(caplog: Any) -> None:
    async def fail(_scope: ASGIScope) -> None:
        raise TimeoutError("the directory")

    with caplog.at_level(logging.ERROR, "persistasaurus.http"):
        heard = asked(protected_application(access=fail), "GET", "/flows", BEARER)

    assert heard.status == 500
    assert b"directory" not in heard.body


def wait_for_request(url: str) -> None:
    """Return when another request was served, which is after what came before it."""
    with Wire(url) as wire:
        wire.send(request("GET", "/flows"))
        wire.answer()


def opens(url: str, path: str) -> bool:
    with Wire(url) as wire:
        wire.send(request("GET", path))
        with contextlib.suppress(AssertionError, ConnectionError):
            return b"200 OK" in wire.until(b"\r\n\r\n")
    return False
