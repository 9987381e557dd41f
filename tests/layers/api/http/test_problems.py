"""Bad input: a clear answer each, as problem details, nothing half written, and no secret told."""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import FlowSystem
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.flows.errors import Overloaded
from persistasaurus.flows.examples import HelloWorldFlow, SignupFlow
from persistasaurus.store import CommitUnknown, SqliteStore, StoreFull
from routes.client import BEARER, Client
from routes.flows import Questions
from system.doubles import FaultyStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 5000 + b"]" * 5000


def problem(answer: httpx.Response) -> dict[str, Any]:
    """Check that an answer is a problem, and return it."""
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert {"type", "title", "status", "detail"} <= found.keys()
    assert found["status"] == answer.status_code
    for secret in ("Traceback", "SELECT", "INSERT", ".py", "site-packages", "/tmp"):
        assert secret not in answer.text
    return found


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "JSON"),
        (b"", "JSON"),
        (b'{"userName": "ada", }', "JSON"),
        (b'{"userName": "ada" "email": 1}', "JSON"),
        (b'{"userName": "a\xffb", "email": "a@b"}', "JSON"),
        (b'{"userName": "a\\ud800b", "email": "a@b"}', "JSON"),
        (b'\xef\xbb\xbf{"userName": "ada", "email": "a@b"}', "JSON"),
        (b"NaN", "JSON"),
        (b"[]", "at $"),
        (b"null", "at $"),
        (b'{"userName": "ada"}', "email"),
        (b'{"userName": "ada", "email": 1}', "at $.email"),
        (b'{"userName": "ada", "email": "a@b", "admin": true}', "admin"),
        (b'{"userName": "ada", "email": "a@b", "userName": "eve"}', "the field 'userName' twice"),
        (b'{"userName": "ada", "email": "a@b", "\\u0065mail": "c@d"}', "the field 'email' twice"),
        (b'{"userName": "a\\nb", "email": "a@b"}', "at $.userName"),
        (b'{"userName": "ada", "email": "nobody"}', "at $.email"),
        (DEEP, "200 levels"),
        (b'{"userName": "ada", "email": ' + DEEP + b"}", "200 levels"),
    ],
)
def test_a_body_that_is_not_what_is_described_is_refused_with_its_place(
    client: Client, system: FlowSystem, body: bytes, said: str
) -> None:
    answer = client.post("/signups", content=body, headers=JSON)

    assert answer.status_code == 400
    assert said in problem(answer)["detail"]
    assert system.flows() == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "questions", "args": {"topic": "a", "topic": "b"}}',
        b'{"type": "questions", "args": {"topic": "a", "x": [{"y": 1, "y": 2}]}}',
        b'{"type": "questions", "args": {"topic": ' + b"[" * 250 + b"]" * 250 + b"}}",
    ],
)
def test_what_is_passed_on_to_a_flow_is_looked_at_as_closely(
    client: Client, system: FlowSystem, body: bytes
) -> None:
    answer = client.post("/flows", content=body, headers=JSON)

    assert problem(answer)["status"] == 400
    assert system.flows() == []


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/x-www-form-urlencoded")],
        [("Content-Type", "application/json; charset=utf-16")],
        [("Content-Type", "application/json"), ("Content-Type", "text/plain")],
        [("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
    ],
)
def test_only_json_is_read(client: Client, headers: Any) -> None:
    answer = client.post("/signups", content=b'{"userName": "ada", "email": "a@b"}', headers=headers)

    assert problem(answer)["status"] == 415


def test_json_in_utf_8_may_say_so(client: Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=UTF-8"}

    assert client.post(
        "/signups", content=b'{"userName":"\xc3\xa4","email":"a@b"}', headers=headers
    ).is_success


def test_a_body_that_is_too_large_is_not_read(client: Client) -> None:
    answer = client.post("/signups", content=b" " * (1024 * 1024 + 1), headers=JSON)

    assert problem(answer)["status"] == 413


def test_where_no_body_is_taken_none_is_ignored(client: Client, system: FlowSystem) -> None:
    assert problem(client.post("/flows/hello-world", json={}))["status"] == 400
    assert system.flows() == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("staus=failed", "staus"),
        ("status=lost", "give one of running, waiting, paused, parked, completed, failed), at $.status"),
        ("limit=5&limit=6", "'limit' occurs twice"),
        ("limit=ten", "at $.limit"),
        ("limit=0", "at $.limit"),
        ("limit=501", "at $.limit"),
        ("limit=99999999999999999999", "at $.limit"),
        ("limit=", "at $.limit"),
        ("type=%ff", "UTF-8"),
        ("&".join(f"a{n}=1" for n in range(50)), "too long"),
    ],
)
def test_a_query_that_is_not_what_is_described_is_refused(client: Client, query: str, said: str) -> None:
    answer = client.get(f"/flows?{query}")

    assert answer.status_code == 400
    assert said in problem(answer)["detail"]


def test_there_is_nothing_at_other_paths(client: Client) -> None:
    for path in (
        "/",
        "/nothing",
        "/flows/a/b",
        "/flows/a/events/1",
        "/signups",
        "/openapi.yaml",
        "/..%2fflows",
    ):
        answer = client.get(path)
        assert answer.status_code in (404, 405)
        problem(answer)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/flows", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/flows/a/events", "GET, HEAD, OPTIONS"),
        ("POST", "/flows/a/events", "GET, HEAD, OPTIONS"),
        ("DELETE", "/flows/a", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/flows/a/pause", "OPTIONS, POST"),
        ("HEAD", "/flows/a/pause", "OPTIONS, POST"),
        ("TRACE", "/health", "GET, HEAD, OPTIONS"),
        ("NONSENSE", "/health", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_is_not_allowed_hears_which_are(
    client: Client, method: str, path: str, allowed: str
) -> None:
    answer = client.ask(method, path)
    options = client.ask("OPTIONS", path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")
    if method != "HEAD":
        problem(answer)


def test_head_answers_as_get_does_without_the_body(client: Client) -> None:
    for path in ("/health", "/flows", "/flows/nobody", "/openapi.json"):
        head, get = client.ask("HEAD", path), client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers == get.headers


# -------------------------------------------------------------------------------------- the store, and more
@pytest.fixture
def faulty() -> Iterator[tuple[FaultyStore, Client]]:
    store = FaultyStore(SqliteStore.open(":memory:", now=SystemClock().now))
    with FlowSystem(flows=[HelloWorldFlow, SignupFlow, Questions], store=store) as system:  # type: ignore[arg-type]
        yield store, Client.of(system)


@pytest.mark.parametrize("error", [StoreFull, CommitUnknown])
def test_what_the_store_cannot_confirm_is_unavailable_and_may_be_asked_again(
    faulty: tuple[FaultyStore, Client], error: type[Exception]
) -> None:
    store, client = faulty

    def fail(*_: Any) -> None:
        raise error("SELECT failed on /tmp/secret.db")

    store.fail = fail
    refused = client.post("/signups", json={"userName": "ada", "email": "a@b"}, key="k-1")
    store.fail = None

    found = problem(refused)
    assert (found["status"], refused.headers["retry-after"]) == (503, "1")
    assert "safe" in found["detail"]


def test_when_the_store_takes_no_writes_it_is_not_healthy(client: Client, system: FlowSystem) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    system.close()

    answer = client.get("/health")

    assert (problem(answer)["status"], answer.headers["retry-after"]) == (503, "1")
    for method, path in (
        ("GET", "/flows"),
        ("GET", "/flows/a"),
        ("POST", "/flows/hello-world"),
        ("POST", "/flows/a/pause"),
    ):
        assert problem(client.ask(method, path))["status"] == 503


def test_health_is_open_to_everybody_and_nothing_else_is(client: Client) -> None:
    stranger = client.with_token("")

    assert stranger.get("/health").status_code == 200
    assert stranger.get("/flows").status_code == 401
    assert stranger.get("/openapi.json").status_code == 401


def test_who_asks_too_much_is_told_to_wait(
    client: Client, system: FlowSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_open(_queued: int = 0) -> None:
        raise Overloaded("100,000 writes are queued")

    monkeypatch.setattr(system.client.admission, "check_open", check_open)

    answer = client.post("/flows/hello-world")

    assert (problem(answer)["type"].rpartition(":")[2], answer.headers["retry-after"]) == ("overloaded", "1")
    assert answer.status_code == 503


def test_a_defect_is_told_to_the_log_alone(
    client: Client, system: FlowSystem, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("SELECT secret FROM /tmp/store.db")

    monkeypatch.setattr(system, "flows", broken)

    answer = client.get("/flows")

    assert problem(answer)["status"] == 500
    assert "SELECT secret" in caplog.text


def test_nobody_writes_lines_of_their_own_into_the_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    client.get("/flows/a%0Aforged%20line")
    client.get("/flows/a%0D%0ALocation:%20x")
    client.post("/signups", content=b'{"userName": "a\\nforged line", "email": "a@b"}', headers=JSON)

    assert not [record for record in caplog.records if "\n" in record.getMessage()]


def test_an_id_cannot_break_out_of_a_header(client: Client) -> None:
    answer = client.post("/flows", json={"type": "HelloWorldFlow", "flowId": "a\r\nSet-Cookie: x"})
    assert answer.status_code == 400

    made = client.post("/flows", json={"type": "HelloWorldFlow", "flowId": "//evil.test/%0d%0a"})
    assert made.headers["location"] == "/flows/%2F%2Fevil.test%2F%250d%250a"


def test_a_store_on_disk_is_named_by_no_answer(tmp_path: Path) -> None:
    with FlowSystem(tmp_path / "secret.db", flows=[HelloWorldFlow, SignupFlow]) as system:
        client = Client.of(system)
        answers = [client.get("/flows/nobody"), client.get("/openapi.json"), client.post("/flows", json={})]

    assert not [answer for answer in answers if "secret" in answer.text]
    assert json.dumps(BEARER) not in answers[1].text


def test_who_sends_an_unknown_field_hears_which_are_known(client: Client) -> None:
    client.post("/flows", json={"type": "anything", "flowId": "a-1"})

    for path, sent, known in (
        ("/flows", {"kind": "anything"}, "type, args, flowId"),
        ("/flows/a-1/signals/thing", {"at": 1}, "payload, signalId"),
    ):
        answer = client.post(path, json=sent)
        assert answer.status_code == 400
        assert f"(known are {known})" in answer.json()["detail"]
        assert answer.json()["errors"][0]["path"] == "$"
