"""What attackers try, by the numbers of the CWE list: over real sockets where framing is what counts."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING

import pytest
from persistasaurus import FlowSystem
from persistasaurus.actors.runtime.primitives import ManualClock
from persistasaurus.api.examples.routes import EXAMPLE_ROUTES
from persistasaurus.api.http.access import Access, OpenToAll, Scope
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.middleware.limits import ServerLimits
from persistasaurus.api.http.repeated_warnings import RepeatedWarnings
from persistasaurus.api.http.server import Server
from persistasaurus.api.http.tokens import Tokens, token_path
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow
from serving.doubles import BEARER, TOKEN, Effects, Wire, asked, protected_application, request, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from persistasaurus.api.http.middleware.protection import Protected

SECRETS = [TOKEN, "pst_" + "7" * 60, "v1.linklinklinklink", "hunter2hunter2"]


@pytest.fixture(scope="module")
def url(effects: Effects) -> Iterator[str]:
    with Server(protected_application(effects)) as server:
        yield server.url


@pytest.fixture(scope="module")
def engine() -> Iterator[Protected]:
    with FlowSystem(":memory:", flows=[HelloWorldFlow, SignupFlow]) as system:
        yield asgi_app(system, routes=EXAMPLE_ROUTES, access=tokens())


HIDDEN = request("POST", "/flows/hidden/pause", "Connection: close")
SIZE = f"Content-Length: {len(HIDDEN)}"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([SIZE, CHUNKED], b"0\r\n\r\n"),
        ([CHUNKED, SIZE], b"0\r\n\r\n"),
        (["Content-Length: 0", CHUNKED], b"0\r\n\r\n"),
        ([SIZE, "Content-Length: 0"], b""),
        (["Content-Length: 0", SIZE], b""),
        (["Content-Length: 0, 5"], b""),
        (["Content-Length: +0"], b""),
        (["Content-Length: -1"], b""),
        (["Content-Length: 0x0"], b""),
        (["Content-Length: 1e1"], b""),
        (["Content-Length: "], b""),
        (["Content-Length: " + "9" * 40], b""),
        (["Content-Length : 0"], b""),
        (["Transfer-Encoding : chunked"], b"0\r\n\r\n"),
        (["Transfer-Encoding: identity"], b""),
        (["Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
        (["Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"),
        (["Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n"),
        (["Transfer-Encoding: \x0bchunked"], b"0\r\n\r\n"),
        ([CHUNKED, CHUNKED], b"0\r\n\r\n"),
        ([CHUNKED, "Transfer-Encoding: identity"], b"0\r\n\r\n"),
        ([CHUNKED], b"0x0\r\n\r\n"),
        ([CHUNKED], b"-1\r\n\r\n"),
        ([CHUNKED], b"+0\r\n\r\n"),
        ([CHUNKED], b"\r\n\r\n"),
        ([CHUNKED], b"zz\r\n\r\n"),
        ([CHUNKED], b"f" * 40 + b"\r\n"),
        # h11 before 0.16 took any two bytes for the end of a chunk: CVE-2025-43859.
        ([CHUNKED], b"5\r\nAAAAAXX0\r\n\r\n"),
        ([CHUNKED], b"5\r\nAAAAA\n\n0\r\n\r\n"),
        (["X: a\rb"], b""),
        (["X: a\x00b"], b""),
        (["X\rY: a"], b""),
        (["X Y: a"], b""),
        ([": a"], b""),
        (["no colon"], b""),
    ],
)
def test_cwe_444_what_two_servers_might_end_elsewhere_is_refused(
    wire: Wire, effects: Effects, headers: list[str], body: bytes
) -> None:
    wire.send(request("POST", "/flows", *headers) + body + HIDDEN)

    heard = wire.rest()

    assert effects.done == []
    assert heard.count(b"HTTP/1.1 ") == 1
    assert heard.startswith(b"HTTP/1.1 400 ")


def test_cwe_444_chunks_are_not_for_http_1_0(wire: Wire, effects: Effects) -> None:
    wire.send(request("POST", "/flows", CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n" + HIDDEN)

    assert wire.rest().startswith(b"HTTP/1.1 400 ")
    assert effects.done == []


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_cwe_444_a_bare_line_feed_ends_a_line_and_never_more(
    wire: Wire, effects: Effects, end: bytes
) -> None:
    first = request("POST", "/flows", f"Content-Length: {len(HIDDEN)}", "Connection: close")
    wire.send(first.replace(b"\r\n", end) + HIDDEN)

    assert wire.rest().count(b"HTTP/1.1 ") == 1
    assert "pause hidden" not in effects.done


@pytest.mark.parametrize(
    "start",
    [
        b"GET /flows\r\n\r\n",
        b"GET  /flows HTTP/1.1\r\n\r\n",
        b"GET /flows HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET /flows HTTP/1.1\r\n\r\n",
        b"GET /flows HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n",
        b"GE\x00T /flows HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /fl\xffows HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_once_and_the_connection_closed(wire: Wire, start: bytes) -> None:
    wire.send(start + request("GET", "/flows"))

    heard = wire.rest()

    assert heard.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
    assert heard.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in heard.lower()


def test_an_absolute_target_does_not_replace_the_host(wire: Wire) -> None:
    wire.send(request("GET", "http://evil.test/flows"))

    assert wire.answer().status == 400


def test_an_upgrade_is_not_taken(wire: Wire) -> None:
    wire.send(
        request("GET", "/flows", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    )
    assert wire.answer().status == 200
    wire.send(request("GET", "/flows", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"))
    assert wire.answer().status == 200


def test_strangers_do_not_fill_the_log_with_what_the_server_warns_of(
    engine: Protected, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade = request(
        "GET", "/flows", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"
    )
    with caplog.at_level(logging.INFO), Server(engine) as server:
        for _ in range(20):
            with Wire(server.url) as wire:
                wire.send(upgrade)
                wire.answer()
            with Wire(server.url) as wire:
                wire.send(b"nonsense\r\n\r\n")
                wire.rest()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == len(set(warnings)) <= 3


def test_a_warning_that_was_left_out_is_counted_in_the_next_one() -> None:
    clock = ManualClock()
    limit = RepeatedWarnings(clock)

    def logged(text: str, level: int = logging.WARNING) -> str | None:
        record = logging.LogRecord("server", level, __file__, 1, text, (), None)
        return record.getMessage() if limit.filter(record) else None

    assert logged("strange") == "strange"
    assert [logged("strange") for _ in range(1234)] == [None] * 1234
    assert logged("broken", logging.ERROR) == logged("broken", logging.ERROR) == "broken"
    assert logged("another") == "another"
    clock.advance(61)
    assert logged("strange") == "strange (1,234 more since this was last logged)"
    assert logged("another") == "another"
    assert logged("another") is None
    for n in range(200):
        assert logged(f"kind {n}") == f"kind {n}"


def test_an_empty_line_before_the_first_request_is_ignored(wire: Wire) -> None:
    wire.send(b"\r\n" + request("GET", "/flows"))
    assert wire.answer().status == 200


def test_a_body_that_begins_with_an_empty_line_keeps_it(wire: Wire, effects: Effects) -> None:
    head = request("POST", "/flows", f"Content-Length: {len(HIDDEN) + 2}", "Connection: close")
    wire.send(head)
    wire.send(b"\r\n" + HIDDEN)
    assert wire.rest().count(b"HTTP/1.1 ") == 1
    assert "pause hidden" not in effects.done


@pytest.mark.parametrize(
    "injected", ["%0d%0aX-Injected:%201", "%0aX-Injected:%201", "%0d%0a%0d%0a<html>", "%00"]
)
def test_cwe_113_and_117_an_id_writes_neither_a_header_nor_a_line_of_the_log(
    engine: Protected, caplog: pytest.LogCaptureFixture, injected: str
) -> None:
    with caplog.at_level(logging.DEBUG), Server(engine) as server, Wire(server.url) as wire:
        for method, path in [
            ("GET", "/flows/{}"),
            ("POST", "/flows/{}/pause"),
            ("POST", "/signups/{}/confirm"),
            ("GET", "/{}"),
        ]:
            wire.send(request(method, path.format(injected)))
            heard = wire.answer()
            assert 400 <= heard.status < 500
            assert "x-injected" not in heard.headers
            assert heard.headers["content-type"] == "application/problem+json"

    assert not [record for record in caplog.records if re.search(r"[\r\n\x00]", record.getMessage())]


def test_cwe_117_the_log_is_not_filled_by_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "persistasaurus.http"):
        asked(protected_application(), "X" * 5000, "/" + "\u202e" * 5000, BEARER)

    assert max(len(record.getMessage()) for record in caplog.records) < 2000
    assert all(record.getMessage().isascii() for record in caplog.records)


def test_cwe_200_and_532_no_secret_gets_into_a_log_or_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    token, wrong, link, password = SECRETS
    answers = b""
    with caplog.at_level(logging.DEBUG), Server(protected_application()) as server:
        for one in [
            request("GET", "/flows"),
            request("GET", "/flows", token=wrong),
            request("GET", f"/flows?token={wrong}&access_token={token}", token=""),
            request("GET", f"/links/{link}", token=""),
            request("GET", f"/links/{link}"),
            request("GET", f"/lnks/{link}", token=""),
            request("POST", "/flows", body=json.dumps({"password": password}).encode()[:-1]),
            request("GET", "/broken", f"X-Password: {password}"),
            request("GET", "/flows", f"Authorization: Basic {password}", token=""),
            request("GET", "/flows", f"Cookie: session={password}", "Content-Length: x"),
        ]:
            with Wire(server.url) as wire:
                wire.send(one)
                answers += json.dumps([(heard := wire.answer()).headers]).encode() + heard.body

    text = caplog.text + answers.decode()
    assert "GET /links/{link}: 200" in caplog.text
    assert [secret for secret in SECRETS if secret in text] == []


def test_cwe_209_a_failure_tells_nothing_and_the_log_everything(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_arguments: object) -> None:
        raise RuntimeError("SELECT secret FROM /var/lib/store.db")

    app = protected_application()
    app._app = broken
    with caplog.at_level(logging.ERROR):
        heard = asked(app, "GET", "/flows", BEARER)

    assert heard.status == 500
    assert heard.json()["detail"] == "this failed; the log of the server says why"
    assert "SELECT secret" in caplog.text


def test_cwe_276_files_are_private_whatever_the_umask_of_the_process(tmp_path: Path) -> None:
    Tokens.beside(tmp_path / "flows.db")

    assert token_path(tmp_path / "flows.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "POST"},
        {"X-Method-Override": "POST"},
        {"X-Original-URL": "/flows/a/pause"},
        {"X-Rewrite-URL": "/flows/a/pause"},
        {"X-Forwarded-User": "admin"},
        {"X-Remote-User": "admin"},
        {"X-Forwarded-Prefix": "/health"},
    ],
)
def test_cwe_285_no_header_changes_what_is_asked_or_who_asks(headers: dict[str, str]) -> None:
    effects = Effects()
    app = protected_application(effects)

    assert asked(app, "GET", "/flows", headers).status == 401
    assert asked(app, "GET", "/flows/a/pause", {**BEARER, **headers}).status == 405
    assert effects.done == []


@pytest.mark.parametrize(
    "path",
    [
        "/health/../flows",
        "/./flows",
        "//flows",
        "/flows/",
        "/FLOWS",
        "/flows;a=b",
        "/%66lows",
        "/health%2f..%2fflows",
        "/health/..%2fflows",
        "/links/../flows",
        "/links/..%2f..%2fflows",
        "/flows%00",
        "/flows?public=true",
        "/health#/flows",
    ],
)
def test_cwe_22_and_288_no_path_leads_around_the_guard(wire: Wire, path: str) -> None:
    wire.send(request("GET", path, token=""))

    heard = wire.answer()

    assert b'["a"]' not in heard.body
    assert heard.status in (200, 401)
    assert heard.status == 401 or heard.json() in ({"status": "ok"}, {"letters": len(path[7:])})


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", None])
def test_cwe_290_nobody_is_believed_for_the_address_that_they_come_from(address: str | None) -> None:
    client = (address, 1) if address else None

    assert asked(protected_application(), "GET", "/flows", client=client).status == 401


def test_cwe_348_nobody_gets_a_share_of_their_own_for_an_address_that_they_make_up() -> None:
    app = protected_application(limits=ServerLimits(stranger_burst=3, stranger_rate=0.01))
    with Server(app) as server, Wire(server.url) as wire:
        statuses = []
        for n in range(5):
            wire.send(request("GET", "/flows", f"X-Forwarded-For: 10.0.0.{n}", token=""))
            statuses.append(wire.answer().status)

    assert statuses == [401, 401, 401, 429, 429]


def test_cwe_352_without_authentication_a_page_elsewhere_still_changes_nothing() -> None:
    effects = Effects()
    app = protected_application(effects, access=OpenToAll())

    for headers in (
        {"Origin": "http://evil.test", "Content-Type": "text/plain"},
        {"Origin": "null", "Content-Type": "application/x-www-form-urlencoded"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert asked(app, "POST", "/flows/a/pause", headers, b"{}").status == 403
    assert effects.done == []


@pytest.mark.parametrize("wire_format", ["arrays", "objects"])
def test_cwe_674_depth_does_not_crash_the_server(engine: Protected, wire_format: str) -> None:
    deep = b"[" * 300_000 if wire_format == "arrays" else b'{"a":' * 100_000
    for path in ("/flows", "/signups", "/flows/a/signals/b", "/flows/a/queries/b"):
        heard = asked(engine, "POST", path, {**BEARER, "Content-Type": "application/json"}, deep)
        assert 400 <= heard.status < 500, path

    assert asked(engine, "GET", "/health").status == 200


def test_cwe_613_a_token_that_was_taken_back_is_worth_nothing(tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    Tokens.beside(store)
    old = token_path(store).read_text().strip()
    token_path(store).unlink()

    app = protected_application(access=Tokens.beside(store))

    assert asked(app, "GET", "/flows", {"Authorization": f"Bearer {old}"}).status == 401


def test_cwe_639_what_a_caller_may_is_not_for_the_caller_to_say(engine: Protected) -> None:
    app = protected_application(access=tokens(Scope.READ))
    claims = {"X-Scopes": "admin", "X-Access": json.dumps(["admin"]), **BEARER}

    assert asked(app, "POST", "/flows/a/pause", claims, b'{"scopes":["admin"]}').status == 403
    assert not Access("a", frozenset()).scopes


@pytest.mark.parametrize(("method", "path"), [("GET", "/flows"), ("GET", "/nowhere"), ("GET", "/health")])
@pytest.mark.parametrize("headers", [{}, BEARER])
def test_cwe_1021_and_693_each_answer_says_what_browsers_may_do_with_it(
    method: str, path: str, headers: dict[str, str]
) -> None:
    heard = asked(protected_application(), method, path, headers)

    assert heard.headers["x-content-type-options"] == "nosniff"
    assert heard.headers["cache-control"] == "no-store"
    assert heard.headers["referrer-policy"] == "no-referrer"
    assert heard.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert not [name for name in heard.headers if name.startswith(("access-control-", "set-cookie"))]
