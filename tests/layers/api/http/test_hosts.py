"""The server answers under its own names, to programs and to pages of its own origin: on any path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from persistasaurus.api.http.access import OpenToAll
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.middleware.hosts import Hosts
from persistasaurus.api.http.middleware.problem import ProblemError
from persistasaurus.api.http.server import Server
from serving.doubles import BEARER, Effects, Wire, asked, protected_application, scope_of, tokens

if TYPE_CHECKING:
    from persistasaurus import FlowSystem
    from persistasaurus.api.http.middleware.asgi import ASGIScope

EVERYWHERE = [
    ("GET", "/flows"),
    ("POST", "/flows"),
    ("POST", "/flows/a/signals"),
    ("POST", "/flows/a/pause"),
    ("GET", "/health"),
    ("GET", "/links/abc"),
    ("GET", "/stream"),
    ("OPTIONS", "/flows"),
    ("HEAD", "/flows"),
    ("DELETE", "/flows"),
    ("GET", "/nowhere"),
    ("GET", "/"),
]


def status(hosts: Hosts | None, host: str, method: str = "GET", path: str = "/flows", **headers: str) -> int:
    app = protected_application(hosts=hosts)
    extra = {name.replace("_", "-"): value for name, value in headers.items()}
    return asked(app, method, path, {"Host": host, **BEARER, **extra}).status


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
@pytest.mark.parametrize("access", ["known", "unknown", "open"])
def test_a_foreign_host_is_refused_everywhere(method: str, path: str, access: str) -> None:
    effects = Effects()
    options = {"access": OpenToAll()} if access == "open" else {}
    headers = {"Host": "evil.test", **(BEARER if access == "known" else {})}

    heard = asked(protected_application(effects, **options), method, path, headers)

    assert heard.status == 403
    assert heard.headers["content-type"] == "application/problem+json"
    assert "evil" not in heard.body.decode()
    assert effects.done == []


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "localhost:8716",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8716",
        "[0:0:0:0:0:0:0:1]:80",
    ],
)
def test_loopback_is_allowed_by_default(host: str) -> None:
    assert status(None, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "localhost.evil.test",
        "evil.localhost",
        "127.0.0.1.evil.test",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "::1",
        "[::1",
        "[:::]",
        "[::2]",
        "[::ffff:127.0.0.1]",
        "localhost:80:80",
        "localhost:abc",
        "localhost:",
        "localhost:123456",
        "localhost/",
        "localhost@evil.test",
        "evil.test@localhost",
        "localhost, evil.test",
        "localhost\x00",
        " localhost.evil",
    ],
)
def test_what_only_looks_like_loopback_is_refused(host: str) -> None:
    assert status(None, host) == 403


def test_a_name_with_a_port_is_allowed_on_that_port_only() -> None:
    hosts = Hosts(["api.example.org:8443", "other.example.org", "2001:db8::7", "[2001:db8::8]:90"])

    assert status(hosts, "api.example.org:8443") == 200
    assert status(hosts, "API.Example.org:8443") == 200
    assert status(hosts, "api.example.org") == 403
    assert status(hosts, "api.example.org:80") == 403
    assert status(hosts, "other.example.org") == 200
    assert status(hosts, "other.example.org:99") == 200
    assert status(hosts, "[2001:db8:0::7]:99") == 200
    assert status(hosts, "[2001:db8::8]:90") == 200
    assert status(hosts, "[2001:db8::8]:91") == 403
    assert status(hosts, "localhost") == 403


def test_two_hosts_or_none_are_refused() -> None:
    app = protected_application()

    assert asked(app, "GET", "/links/a", [("Host", "localhost"), ("Host", "localhost")]).status == 403
    assert asked(app, "GET", "/links/a", [("Host", "localhost"), ("Host", "evil.test")]).status == 403


def test_forwarded_headers_are_believed_by_nobody() -> None:
    forged = {"X_Forwarded_Host": "localhost", "Forwarded": "host=localhost", "X_Forwarded_For": "127.0.0.1"}

    assert status(None, "evil.test", **forged) == 403
    assert status(None, "localhost", X_Forwarded_Host="evil.test", X_Original_URL="/admin") == 200


@pytest.mark.parametrize(
    "name", ["*", "*.example.org", "", "http://example.org", "a b", "example.org/", "[::1"]
)
def test_a_name_that_can_never_match_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        Hosts([name])


@pytest.mark.parametrize(
    "origin", ["*", "null", "example.org", "https://example.org/", "ftp://a", "https://a b"]
)
def test_an_origin_that_can_never_match_is_refused_at_once(origin: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        Hosts(origins=[origin])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "https://localhost"},
        {"Origin": "http://localhost:8716.evil.test"},
        {"Origin": "http://evil.test", "Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://localhost:8716", "Sec_Fetch_Site": "cross-site"},
        {"Origin": ""},
    ],
)
def test_a_page_of_another_origin_changes_nothing(method: str, headers: dict[str, str]) -> None:
    assert status(None, "localhost:8716", method, "/nowhere", **headers) == 403


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("localhost:8716", {}),
        ("localhost:8716", {"Origin": "http://localhost:8716"}),
        ("localhost:8716", {"Origin": "HTTP://LocalHost:8716"}),
        ("localhost", {"Origin": "http://localhost"}),
        ("localhost:80", {"Origin": "http://localhost"}),
        ("localhost", {"Origin": "https://localhost"}),
        ("[::1]:8716", {"Origin": "http://[0:0::1]:8716"}),
        ("localhost:8716", {"Origin": "null", "Sec_Fetch_Site": "same-origin"}),
        ("localhost:8716", {"Sec_Fetch_Site": "none"}),
    ],
)
def test_programs_and_pages_of_the_same_origin_may_send(host: str, headers: dict[str, str]) -> None:
    assert status(None, host, "POST", "/nowhere", **headers) == 404


def test_a_foreign_origin_may_send_when_it_is_listed() -> None:
    hosts = Hosts(origins=["https://console.example.org"])

    listed = {"Origin": "https://console.example.org", "Sec_Fetch_Site": "cross-site"}
    assert status(hosts, "localhost", "POST", "/nowhere", **listed) == 404
    assert status(hosts, "localhost", "POST", "/nowhere", Origin="https://console.example.org") == 404
    assert status(hosts, "localhost", "POST", "/nowhere", Origin="http://console.example.org") == 403
    assert (
        status(hosts, "localhost", "POST", "/nowhere", Origin="https://console.example.org.evil.test") == 403
    )


def test_what_changes_nothing_may_come_from_any_page_and_cannot_be_read_by_it() -> None:
    app = protected_application()

    heard = asked(
        app, "GET", "/flows", {**BEARER, "Origin": "http://evil.test", "Sec-Fetch-Site": "cross-site"}
    )

    assert heard.status == 200
    assert not [name for name in heard.headers if name.startswith("access-control")]
    assert heard.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["http://evil.test/flows", "*", "", "flows", "evil.test@"])
def test_a_target_that_is_no_path_is_refused(path: str) -> None:
    assert status(None, "localhost", "GET", path) == 400


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("host", ["10.1.2.3:8716", "[2001:db8::7]:8716", "flows.svc.cluster.local", ""])
def test_health_is_told_under_any_name(system: FlowSystem, method: str, host: str) -> None:
    app = asgi_app(system, access=tokens())

    assert asked(app, method, "/health", {"Host": host}).status == 200
    assert asked(app, method, "/flows", {"Host": host, **BEARER}).status == 403
    assert asked(app, "POST", "/health", {"Host": host, **BEARER}).status in (403, 405)


def test_health_is_told_to_http_1_0_which_needs_no_name(system: FlowSystem) -> None:
    with Server(asgi_app(system, access=tokens())) as server, Wire(server.url) as wire:
        wire.send(b"GET /health HTTP/1.0\r\n\r\n")
        assert b" 200 OK" in wire.rest()


def test_an_origin_that_the_browser_hides_is_taken_where_no_authority_can_be_borrowed() -> None:
    hosts = Hosts()

    def sent(**headers: str) -> ASGIScope:
        pairs = {name.replace("_", "-"): value for name, value in headers.items()}
        return scope_of("POST", "/links/a", pairs.items())

    hosts.check(sent(Origin="null"), hidden_origin=True)
    for headers in (
        {"Origin": "http://evil.test"},
        {"Origin": "null", "Sec_Fetch_Site": "cross-site"},
        {"Host": "evil.test", "Origin": "null"},
    ):
        with pytest.raises(ProblemError):
            hosts.check(sent(**headers), hidden_origin=True)
    with pytest.raises(ProblemError):
        hosts.check(sent(Origin="null"))
    with pytest.raises(ProblemError):
        hosts.check(sent(Host="", Origin="http://localhost"), any_host=True)
