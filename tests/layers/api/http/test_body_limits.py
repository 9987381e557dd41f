"""A body ends where it should: too large, encoded or ambiguous ones are refused, however they are framed."""

from __future__ import annotations

import asyncio
import gzip
import logging
from typing import TYPE_CHECKING

import pytest
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.server import Server
from serving.doubles import BEARER, Effects, Wire, asked, protected_application, request, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from persistasaurus.api.http.middleware.asgi import ASGIApp, ASGIScope, Message

MIB = 1024 * 1024
LIMITS = ServerLimits(body_bytes=1000, head_bytes=4096, headers=20)
CHUNKED = "Transfer-Encoding: chunked"


def json_of(size: int) -> bytes:
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


@pytest.fixture(scope="module")
def url(effects: Effects) -> Iterator[str]:
    with Server(protected_application(effects, limits=LIMITS)) as server:
        yield server.url


@pytest.mark.parametrize(("size", "status"), [(MIB, 201), (MIB + 1, 413)])
def test_a_body_has_one_mebibyte_at_most(size: int, status: int) -> None:
    effects = Effects()
    app = protected_application(effects)
    pieces = [json_of(size)[start : start + 65536] for start in range(0, size, 65536)]

    assert asked(app, "POST", "/flows", BEARER, pieces).status == status
    assert asked(app, "POST", "/flows", {**BEARER, "Transfer-Encoding": "chunked"}, pieces).status == status
    assert effects.done == ["start"] * (2 if status == 201 else 0)


@pytest.mark.parametrize("framing", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
def test_a_client_that_leaves_within_its_body_changes_nothing_and_is_no_failure_of_the_server(
    framing: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    effects = Effects()

    scope = scope_of("POST", "/flows", [*BEARER.items(), *framing.items()])
    heard = asyncio.run(left_within_the_body(protected_application(effects), scope))

    assert (heard, effects.done) == ([400], [])
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def left_within_the_body(app: ASGIApp, scope: ASGIScope) -> list[int]:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"a":', "more_body": True},
        {"type": "http.disconnect"},
    ]
    heard: list[int] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            heard.append(message["status"])

    await app(scope, receive, send)
    return heard


def test_a_body_that_lies_about_its_length_is_counted() -> None:
    heard = asked(
        protected_application(), "POST", "/flows", {**BEARER, "Content-Length": "5"}, [b"x" * MIB] * 3
    )

    assert heard.status == 413


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(wire: Wire) -> None:
    wire.send(request("POST", "/flows", "Content-Length: 1001", "Expect: 100-continue"))

    heard = wire.answer()

    assert heard.status == 413
    assert heard.headers["connection"] == "close"
    assert heard.json()["detail"] == "the body may have at most 1000 bytes"
    wire.socket.shutdown(1)
    assert wire.rest() == b""


def test_who_sends_it_all_the_same_still_hears_why(url: str) -> None:
    size = 3 * MIB
    for _ in range(25):  # a connection that is closed at once is reset in one case of three
        with Wire(url) as wire:
            wire.send(request("POST", "/flows", f"Content-Length: {size}"))
            wire.send(b"x" * size)

            assert wire.answer().status == 413


def test_a_chunked_body_is_counted_while_it_is_read(wire: Wire, effects: Effects) -> None:
    wire.send(request("POST", "/flows", CHUNKED))
    for _ in range(3):
        wire.send(b"190\r\n" + b"x" * 400 + b"\r\n")

    heard = wire.answer()

    assert heard.status == 413
    assert heard.headers["connection"] == "close"
    assert effects.done == []


def test_a_chunk_that_never_ends_is_cut_off(wire: Wire, effects: Effects) -> None:
    wire.send(request("POST", "/flows", CHUNKED) + b"ffffffff\r\n" + b"x" * 2000)

    assert wire.answer().status == 413
    wire.socket.shutdown(1)
    assert wire.rest() == b""
    assert effects.done == []


def test_a_chunked_body_within_the_limit_is_as_good_as_any(wire: Wire, effects: Effects) -> None:
    wire.send(request("POST", "/flows", CHUNKED, "Content-Type: application/json"))
    wire.send(b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n')

    assert wire.answer().json() == {"a": 1}
    assert effects.done == ["start"]


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "identity, gzip", "x-anything"])
def test_an_encoded_body_is_not_unpacked(coding: str) -> None:
    effects = Effects()
    bomb = gzip.compress(b"0" * 10 * MIB)

    heard = asked(
        protected_application(effects), "POST", "/flows", {**BEARER, "Content-Encoding": coding}, bomb
    )

    assert heard.status == 415
    assert heard.headers["accept-encoding"] == "identity"
    assert effects.done == []


def test_a_body_that_is_encoded_as_nothing_is_fine() -> None:
    headers = {**BEARER, "Content-Encoding": "identity"}

    assert asked(protected_application(), "POST", "/flows", headers, b'{"a":1}').status == 201


def test_headers_may_be_many_but_not_too_many(wire: Wire) -> None:
    wire.send(request("GET", "/flows", *[f"X-{n}: 1" for n in range(18)]))
    assert wire.answer().status == 200

    wire.send(request("GET", "/flows", *[f"X-{n}: 1" for n in range(19)]))
    assert wire.answer().status == 431


def test_ten_thousand_headers_end_the_connection(wire: Wire) -> None:
    wire.send(request("GET", "/flows", *[f"X-{n}: 1" for n in range(10_000)]))

    heard = wire.answer()

    assert heard.status == 431
    assert heard.headers["connection"] == "close"


@pytest.mark.parametrize("where", ["header", "path", "query", "method", "unfinished"])
def test_a_large_head_is_refused(wire: Wire, where: str) -> None:
    large = "x" * 6000
    wire.send(
        {
            "header": request("GET", "/flows", f"X-Large: {large}"),
            "path": request("GET", f"/{large}"),
            "query": request("GET", f"/flows?{large}"),
            "method": request(large, "/flows"),
            "unfinished": b"GET /flows HTTP/1.1\r\nX-Large: " + large.encode(),
        }[where]
    )

    # A head that has not come to its end, when it is too large, is no request for which there are words.
    assert wire.answer().status in {"method": (400, 405, 431), "unfinished": (400,)}.get(where, (431,))


def test_an_answer_that_comes_before_the_body_leaves_the_connection_usable(wire: Wire) -> None:
    wire.send(request("POST", "/nowhere", body=b"x" * 900))
    assert wire.answer().status == 404
    wire.send(request("GET", "/flows"))
    assert wire.answer().status == 200
