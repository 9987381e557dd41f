"""An application with one route of each kind, and ways to ask it: in process, and byte by byte."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from litestar import Litestar, get, post
from litestar.params import FromPath, JSONBody  # noqa: TC002 - Litestar reads it
from litestar.response import ServerSentEvent
from persistasaurus.api.http.access import EVERYTHING, Access, Guarding, Scope
from persistasaurus.api.http.middleware.protection import Protected, protected
from persistasaurus.api.http.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from persistasaurus.api.http.middleware.asgi import ASGIApp, ASGIScope, Message

PATIENCE = 20  # seconds; far more than anything here takes

TOKEN = "pst_" + "0" * 60
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def tokens(*scopes: Scope, token: str = TOKEN, name: str = "somebody") -> Tokens:
    return Tokens.of({token: Access(name, frozenset(scopes) or EVERYTHING)})


@dataclass
class Effects:
    """What the application has done."""

    done: list[str] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


def routes(effects: Effects) -> list[Any]:  # noqa: C901 - one function a route
    @get("/flows", opt={"scope": Scope.READ})
    async def list_flows() -> list[str]:
        return ["a"]

    @post("/flows", opt={"scope": Scope.START})
    async def start(data: JSONBody[dict[str, Any]]) -> dict[str, Any]:
        effects.done.append("start")
        return data

    @post("/flows/{flow_id:str}/signals", opt={"scope": Scope.SIGNAL})
    async def signal(flow_id: FromPath[str]) -> dict[str, str]:
        effects.done.append(f"signal {flow_id}")
        return {"flowId": flow_id}

    @post("/flows/{flow_id:str}/pause", opt={"scope": Scope.ADMIN})
    async def pause(flow_id: FromPath[str]) -> dict[str, str]:
        effects.done.append(f"pause {flow_id}")
        return {"flowId": flow_id}

    @get("/health", opt={"public": True})
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @get("/links/{link:str}", opt={"public": True})
    async def link(link: FromPath[str]) -> dict[str, int]:
        return {"letters": len(link)}

    @get("/stream", opt={"scope": Scope.READ, "stream": True})
    async def stream() -> ServerSentEvent:
        return ServerSentEvent(_events())

    @get("/slow", opt={"scope": Scope.READ})
    async def slow() -> str:
        effects.opened.set()
        await asyncio.sleep(PATIENCE)
        return "at last"

    @get("/large", opt={"scope": Scope.READ})
    async def large() -> bytes:
        return b"x" * 30_000_000

    @get("/broken", opt={"scope": Scope.READ})
    async def broken() -> None:
        raise RuntimeError("SELECT secret FROM /var/lib/store.db")

    return [list_flows, start, signal, pause, health, link, stream, slow, large, broken]


async def _events() -> AsyncIterator[dict[str, str]]:
    yield {"data": "first"}
    await asyncio.Event().wait()


def application(effects: Effects | None = None, extra: Iterable[Any] = ()) -> Litestar:
    return Litestar(
        [*routes(effects or Effects()), *extra],
        plugins=[Guarding()],
        openapi_config=None,
        logging_config=None,
    )


def protected_application(effects: Effects | None = None, **options: Any) -> Protected:
    return protected(application(effects), **{"access": tokens(), "guarded": True, **options})


# What is nobody's business outside: stack traces, places in the source, statements, paths, and tokens.
_INSIDE = re.compile(
    rb"Traceback|File \"|\.py\b|site-packages|[Ll]itestar|[Uu]vicorn|msgspec|[Ss][Qq][Ll]ite|apsw|Errno"
    rb"|[A-Za-z](?:Error|Exception)\b|\b0x[0-9a-f]{6}|\b(?:SELECT|INSERT|UPDATE|PRAGMA)\b"
    rb"|/(?:home|root|tmp|usr|var|opt|etc)/|pst_"
)


@dataclass
class Heard:
    """An answer. One that refuses must tell nothing of the inside, in whichever test it is heard."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def checked(self) -> Heard:
        told = _INSIDE.search(self.body) if self.status >= 400 else None
        assert told is None, f"{self.status} tells {told}: {self.body!r}"
        return self

    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(method: str, path: str, headers: Iterable[tuple[str, str]] = (), **more: Any) -> ASGIScope:
    names = {name.lower() for name, _ in headers}
    pairs = [*headers] if "host" in names else [("Host", "localhost"), *headers]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 80),
        "state": {},
        **more,
    }


async def ask(app: ASGIApp, scope: ASGIScope, body: Iterable[bytes] = (), *, leaves: bool = False) -> Heard:
    """Send one request with the body in these pieces, and hear the answer, or `leave` before all of it."""
    pieces = [*body] or [b""]
    heard = Heard()

    async def receive() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        if not leaves:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            heard.status = message["status"]
            heard.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            heard.body += message.get("body", b"")

    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return heard.checked()


def asked(  # noqa: PLR0913 - what a request is made of
    app: ASGIApp,
    method: str,
    path: str,
    headers: dict[str, str] | Iterable[tuple[str, str]] = (),
    body: Iterable[bytes] | bytes = (),
    *,
    leaves: bool = False,
    **more: Any,
) -> Heard:
    """Ask from outside of any event loop."""
    pairs = list(headers.items() if isinstance(headers, dict) else headers)
    pieces = [body] if isinstance(body, bytes) else [*body]
    framed = {"content-length", "transfer-encoding"} & {name.lower() for name, _ in pairs}
    if pieces and not framed:
        pairs.append(("Content-Length", str(sum(map(len, pieces)))))
    return asyncio.run(ask(app, scope_of(method, path, pairs, **more), pieces, leaves=leaves))


class Wire:
    """A connection to a server, on which any bytes can be sent."""

    def __init__(self, url: str) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until(self, text: bytes) -> bytes:
        """Read until that text has come."""
        while text not in self.received:
            piece = self.socket.recv(65536)
            assert piece, f"closed before {text!r}: {self.received!r}"
            self.received += piece
        return self.received

    def rest(self) -> bytes:
        """Read until the server closes."""
        while piece := self.socket.recv(65536):
            self.received += piece
        return self.received

    def answer(self) -> Heard:
        """Read one answer that says how long it is."""
        head, _, _ = self.until(b"\r\n\r\n").partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        size = len(head) + 4 + int(headers.get("content-length", 0))
        while len(self.received) < size:
            piece = self.socket.recv(65536)
            assert piece, "closed within an answer"
            self.received += piece
        body, self.received = self.received[len(head) + 4 : size], self.received[size:]
        return Heard(int(status.split(" ")[1]), headers, body).checked()


def request(method: str, path: str, *headers: str, body: bytes = b"", token: str = TOKEN) -> bytes:
    """Write a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    lines += [f"Authorization: Bearer {token}"] if token else []
    framed = any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers)
    lines += [f"Content-Length: {len(body)}"] if body and not framed else []
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
