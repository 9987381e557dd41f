"""A link is known to who has it, and to nobody who reads logs, histories, exports or the store's files."""

from __future__ import annotations

import http.client
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import pytest
import uvicorn
from links.people import Post, token_of
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.links.routes import HidesLinks
from persistasaurus.flows import events
from system.doubles import DEAD_MAN_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCESS = '%s - "%s %s HTTP/%s" %d'


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Post]:
    post = Post(tmp_path / "flows.db")
    post.open()
    yield post
    post.close()


@contextmanager
def talkative_server(app: Any) -> Iterator[str]:
    """Serve as a host application might that knows nothing of links: with uvicorn's log of requests."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=True, log_level="debug"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEAD_MAN_S)


def call(url: str, method: str, path: str, body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=DEAD_MAN_S)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    finally:
        connection.close()


def secrets_of(token: str) -> list[str]:
    """Return the parts of a token that nobody else may know: its nonce and its seal."""
    parts = token.split(".")
    return [parts[6], parts[8]]


def test_nobody_reads_a_link_anywhere(
    disk: Post, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    handle = disk.start()
    token = token_of(disk.outbox[0])
    assert disk.system is not None
    with talkative_server(asgi_app(disk.system, access=lambda scope: None, links=disk.links)) as url:
        path = f"/links/{token}"
        answered = [
            call(url, method, path) for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "POST")
        ]
        answered += [
            call(url, "GET", f"{path}?x=1"),
            call(url, "POST", path, b"x" * 5000),
            call(url, "GET", path[:-1]),
        ]
        with monkeypatch.context() as broken:
            broken.setattr("persistasaurus.api.links.routes.refused_page", lambda *_: 1 / 0)
            answered.append(call(url, "GET", path))
    handle.result(DEAD_MAN_S)
    history = b"".join(events.encode(recorded.event) for recorded in handle.events())
    listed = msgspec.json.encode(disk.system.flows()) + msgspec.json.encode(disk.system.store.dead_letters())
    disk.close()

    assert answered[0:2] == [200, 200]
    assert answered[5:8] == [303, 404, 404]
    assert answered[-1] == 503
    logs = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records) + caplog.text
    files = b"".join(
        file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".keys"
    )
    assert '"GET /links/... HTTP/1.1" 200' in logs
    assert b"confirm_email_address" in files
    for secret in secrets_of(token):
        assert secret not in logs
        assert secret.encode() not in files + history + listed


def test_the_keys_are_in_no_log_and_in_no_store(
    disk: Post, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    disk.start()
    disk.close()
    secret = (tmp_path / "flows.db.keys").read_text(encoding="utf-8").split()[1]
    others = [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".keys"]

    assert others
    assert secret not in caplog.text
    assert all(secret.encode() not in file.read_bytes() for file in others)


@pytest.mark.parametrize(
    ("shown", "args"),
    [
        ('1.2.3.4:5 - "GET /links/... HTTP/1.1" 200', ("1.2.3.4:5", "GET", "/links/v1.a.b", "1.1", 200)),
        ('1.2.3.4:5 - "GET /x/links/... HTTP/1.1" 200', ("1.2.3.4:5", "GET", "/x/links/v1.a.b", "1.1", 200)),
        (
            '1.2.3.4:5 - "GET /links/...?a=b HTTP/1.1" 200',
            ("1.2.3.4:5", "GET", "/links/done/d1?a=b", "1.1", 200),
        ),
        ('1.2.3.4:5 - "GET /flows/links HTTP/1.1" 200', ("1.2.3.4:5", "GET", "/flows/links", "1.1", 200)),
    ],
)
def test_a_log_of_requests_shows_that_links_are_used_and_not_which(shown: str, args: tuple[Any, ...]) -> None:
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, ACCESS, args, None)

    assert HidesLinks().filter(record)
    assert record.getMessage() == shown
    assert isinstance(record.args, tuple)
    assert len(record.args) == len(args)  # uvicorn's own formatter takes them apart


def test_a_message_without_arguments_is_hidden_too() -> None:
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, 'GET "/links/v1.a.b"', None, None)

    assert HidesLinks().filter(record)
    assert record.getMessage() == 'GET "/links/..."'
