"""What stands around an application holds with any framework, and behind any server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.middleware.protection import protected
from persistasaurus.api.http.middleware.request_context import context_of
from serving.doubles import BEARER, Effects, ask, asked, protected_application, scope_of, tokens

if TYPE_CHECKING:
    from persistasaurus.api.http.middleware.asgi import ASGIScope, Receive, Send

LARGE = 100_000


async def answered(send: Send, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"done"})


async def reader(scope: ASGIScope, receive: Receive, send: Send) -> None:
    """Read the body, and answer; let everything through that happens meanwhile."""
    while (await receive())["more_body"]:
        pass
    await answered(send)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "x"},
        {"Content-Length": "-1"},
        {"Content-Length": "5,5"},
        {"Content-Length": "\u00b2"},
        {"Content-Length": "9" * 16},
        {"Content-Length": "5", "Transfer-Encoding": "chunked"},
        {"Transfer-Encoding": "gzip"},
        {"Transfer-Encoding": "chunked, identity"},
        {"Transfer-Encoding": "identity"},
    ],
)
def test_ambiguous_framing_is_refused_behind_servers_that_let_it_pass(headers: dict[str, str]) -> None:
    effects = Effects()

    heard = asked(protected_application(effects), "POST", "/flows/a/pause", {**BEARER, **headers}, b"hello")

    assert heard.status == 400
    assert heard.headers["connection"] == "close"
    assert effects.done == []


def test_two_lengths_are_refused_and_one_said_twice_is_not() -> None:
    app = protected(reader, access=tokens())
    said = [*BEARER.items(), ("Content-Length", "5")]

    assert asked(app, "POST", "/", [*said, ("Content-Length", "6")], b"hello").status == 400
    assert asked(app, "POST", "/", [*said, ("Content-Length", "5")], b"hello").status == 200


def test_an_application_that_does_not_know_refusals_gives_one_answer() -> None:
    app = protected(reader, access=tokens(), limits=ServerLimits(body_bytes=10))

    heard = asked(app, "POST", "/", {**BEARER, "Transfer-Encoding": "chunked"}, [b"x" * 6, b"x" * 6])

    assert heard.status == 413
    assert heard.body.count(b"status") == 1


def test_an_application_that_answers_all_the_same_is_not_heard() -> None:
    async def stubborn(scope: ASGIScope, receive: Receive, send: Send) -> None:
        try:
            await reader(scope, receive, send)
        except Exception:  # noqa: BLE001 - as stubborn applications do
            await answered(send, 200)

    app = protected(stubborn, access=tokens(), limits=ServerLimits(body_bytes=10))

    heard = asked(app, "POST", "/", {**BEARER, "Transfer-Encoding": "chunked"}, [b"x" * 60])

    assert heard.status == 413
    assert b"done" not in heard.body


@pytest.mark.parametrize("after", ["failure", "deadline", "body"])
def test_half_an_answer_is_cut_off_and_not_completed(after: str) -> None:
    async def half(scope: ASGIScope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if after == "failure":
            raise RuntimeError("in the middle")
        if after == "body":
            await receive()
        await asyncio.Event().wait()

    app = protected(half, access=tokens(), limits=ServerLimits(body_bytes=2, request_seconds=0.1))
    failure = RuntimeError if after == "failure" else ConnectionAbortedError

    with pytest.raises(failure):
        asked(app, "POST", "/", {**BEARER, "Transfer-Encoding": "chunked"}, [b"x" * 60])
    assert len(app.rules.in_flight) == 0


@pytest.mark.parametrize("finishes", [False, True])
def test_a_stream_that_is_told_to_end_is_whole_for_its_client(*, finishes: bool) -> None:
    async def stream(scope: ASGIScope, receive: Receive, send: Send) -> None:
        exchange = context_of(scope)
        assert exchange is not None
        exchange.stream()
        exchange.stream()  # said twice, counted once
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        if finishes:
            await send({"type": "http.response.body", "body": b" last"})

    app = protected(stream, access=tokens(), limits=ServerLimits(streams=1))
    sent: list[Any] = []

    async def serve() -> None:
        async def receive() -> dict[str, Any]:
            if not sent:
                return {"type": "http.request", "body": b"", "more_body": False}
            return await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 2:
                assert len(app.rules.streams) == 1
                app.rules.streams.end()

        async with asyncio.timeout(20):
            await app(scope_of("GET", "/", [*BEARER.items()]), receive, send)

    asyncio.run(serve())

    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * 2]
    assert sent[-1].get("more_body", False) is False
    assert len(app.rules.streams) == 0


def test_a_large_body_that_nobody_read_ends_the_connection_and_a_small_one_does_not() -> None:
    async def early(scope: ASGIScope, receive: Receive, send: Send) -> None:
        await answered(send)

    app = protected(early, access=tokens())

    def connection(headers: dict[str, str], **more: Any) -> str | None:
        heard = asked(app, "POST", "/", {**BEARER, **headers}, **more)
        assert heard.status == 200
        return heard.headers.get("connection")

    assert connection({"Content-Length": str(LARGE)}) == "close"
    assert connection({"Transfer-Encoding": "chunked"}) == "close"
    assert connection({"Content-Length": "10"}) is None
    assert connection({}) is None
    assert connection({"Content-Length": str(LARGE)}, http_version="2") is None


def test_what_the_application_says_of_caching_and_of_itself_is_replaced() -> None:
    async def own(scope: ASGIScope, receive: Receive, send: Send) -> None:
        headers = [
            (b"Cache-Control", b"public"),
            (b"Server", b"secret/1.0"),
            (b"X-Powered-By", b"secret"),
            (b"Content-Security-Policy", b"default-src 'self'"),
        ]
        await answered(send, 200, *headers)

    heard = asked(protected(own, access=tokens()), "GET", "/", BEARER)

    assert heard.headers["cache-control"] == "no-store"
    assert heard.headers["content-security-policy"] == "default-src 'self'"
    assert "secret" not in str(heard.headers)


def test_requests_at_once_do_not_know_of_each_other() -> None:
    seen: list[tuple[str, bool]] = []

    async def app(scope: ASGIScope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        exchange = context_of(scope)
        assert exchange is not None
        assert exchange.access is not None
        seen.append((scope["path"], exchange.is_public))
        await answered(send)

    around = protected(app, access=tokens())

    async def both() -> list[int]:
        known = ask(around, scope_of("GET", "/known", [*BEARER.items()]))
        unknown = ask(around, scope_of("GET", "/unknown"))
        return [heard.status for heard in await asyncio.gather(known, unknown)]

    assert asyncio.run(both()) == [200, 401]
    assert seen == [("/known", False)]
