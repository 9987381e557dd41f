"""A client of the API in the same process: plain requests, many at once, and streams of events."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import httpx
from persistasaurus.api.examples.routes import EXAMPLE_ROUTES
from persistasaurus.api.http.access import EVERYTHING, Access, Scope
from persistasaurus.api.http.app import asgi_app
from persistasaurus.api.http.tokens import Tokens
from serving.doubles import PATIENCE, scope_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from persistasaurus import FlowSystem
    from persistasaurus.api.http.middleware.asgi import ASGIApp, Message

TOKEN, OTHER_TOKEN, READER_TOKEN = ("pst_" + digit * 60 for digit in "012")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TOKENS = Tokens.of(
    {
        TOKEN: Access("ada", EVERYTHING),
        OTHER_TOKEN: Access("bob", EVERYTHING),
        READER_TOKEN: Access("eve", frozenset({Scope.READ})),
    }
)


class Client:
    """Asks an application. Each request has an event loop of its own, so nothing can be kept on one."""

    def __init__(self, app: ASGIApp, token: str = TOKEN, prefix: str = "") -> None:
        self.app = app
        self.token = token
        self.prefix = prefix

    @classmethod
    def of(cls, system: FlowSystem, **options: Any) -> Self:
        return cls(asgi_app(system, **{"access": TOKENS, "routes": EXAMPLE_ROUTES, **options}))

    def with_token(self, token: str) -> Client:
        return Client(self.app, token, self.prefix)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self.asking(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("POST", path, **options)

    def together(self, *requests: Coroutine[Any, Any, httpx.Response]) -> list[httpx.Response]:
        """Ask at once, on one event loop."""

        async def all_of_them() -> list[httpx.Response]:
            return await asyncio.gather(*requests)

        return asyncio.run(all_of_them())

    async def asking(
        self, method: str, path: str, *, key: str | None = None, headers: Any = None, **options: Any
    ) -> httpx.Response:
        given = [*(headers.items() if isinstance(headers, dict) else headers or ())]
        given += [("Authorization", f"Bearer {self.token}")] if self.token else []
        given += [] if key is None else [("Idempotency-Key", key)]
        transport = httpx.ASGITransport(self.app, root_path=self.prefix)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            async with asyncio.timeout(PATIENCE):
                return await client.request(method, self.prefix + path, headers=given, **options)


class Frame(dict[str, str]):
    """One server-sent event; a comment is under ""."""

    @property
    def data(self) -> Any:
        return json.loads(self["data"])


class Stream:
    """A stream of events, as the client sees it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.sent = 0
        self._messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)
        self._gone = asyncio.Event()
        self._begun = False
        self._frames: list[Frame] = []
        self._text = b""
        self._is_over = False

    async def receive(self) -> Message:
        if not self._begun:
            self._begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take what is sent; like a socket with a small buffer, only when the client reads."""
        await self._messages.put(message)
        self.sent += 1

    def go_away(self) -> None:
        self._gone.set()

    async def _more(self) -> None:
        async with asyncio.timeout(PATIENCE):
            message = await self._messages.get()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self._is_over = not message.get("more_body", False)
        *whole, self._text = (self._text + message["body"]).split(b"\n\n")
        self._frames += [frame_of(text.decode()) for text in whole]

    async def begin(self) -> None:
        while not self.status:
            await self._more()

    async def next(self) -> Frame | None:
        """Return the next event, whatever it is; None: the stream is over."""
        while not self._frames and not self._is_over:
            await self._more()
        return self._frames.pop(0) if self._frames else None

    async def until(self, kind: str) -> Frame:
        """Return the next event of the log of that type."""
        while (frame := await self.next()) is not None:
            if "data" in frame and frame.data.get("event", {}).get("type") == kind:
                return frame
        raise AssertionError(f"the stream ended without {kind}")

    async def rest(self) -> list[Frame]:
        """Return what comes until the stream is over."""
        frames: list[Frame] = []
        while (frame := await self.next()) is not None:
            frames.append(frame)
        return frames


def frame_of(text: str) -> Frame:
    return Frame(line.split(": ", 1) if ": " in line else ("", line) for line in text.split("\n"))


@asynccontextmanager
async def stream(client: Client, path: str, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream of events, and close it as a client does that goes away."""
    path, _, query = path.partition("?")
    pairs = [("Authorization", f"Bearer {client.token}"), *headers.items()]
    scope = scope_of("GET", path, pairs, query_string=query.encode())
    opened = Stream()
    task = asyncio.create_task(client.app(scope, opened.receive, opened.send))  # type: ignore[arg-type]
    try:
        await opened.begin()
        yield opened
    finally:
        opened.go_away()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
