"""Where an application is mounted: paths without the host's prefix, with any id in them.

A server decodes a path before the application sees it, which makes `orders%2F1` look like two segments. Here
a slash within a segment stays encoded, and so does the percent sign; `segment` decodes both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .asgi import ASGIApp, ASGIScope, Message, Receive, Send

_PREFIX: Final = "persistasaurus.prefix"
_ALLOW: Final = b"allow"


class MountedApp:
    """An application under its own paths. It answers HEAD wherever it answers GET."""

    def __init__(self, app: ASGIApp, allowed: Callable[[str], str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Handle a request under the path that the application itself has for it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A host that uses the same framework keeps its own data about the request in `state`.
        own: dict[str, Any] = {
            "path": _own_path(scope),
            "root_path": "",
            _PREFIX: scope.get("root_path", ""),
            "state": {},
        }
        inner: ASGIScope = {**scope, **own}
        if scope["method"] == "HEAD":
            head = _Head(receive, send)
            inner["method"], receive, send = "GET", head.receive, head.send
        try:
            await self._app(inner, receive, self._allowing(inner, send))
        finally:
            if "path_template" in inner:
                scope["path_template"] = inner["path_template"]

    def _allowing(self, scope: ASGIScope, send: Send) -> Send:
        """Complete the header `Allow`; the framework omits some methods."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] != _ALLOW]
                if len(headers) < len(message["headers"]):
                    allowed = self._allowed(scope["path"])
                    message = {**message, "headers": [*headers, (_ALLOW, allowed.encode())]}
            await send(message)

        return sending


def link(scope: Mapping[str, Any], *segments: str) -> str:
    """Return the path at which clients find something of the application."""
    prefix: str = scope.get(_PREFIX, "").rstrip("/")
    return "/".join((quote(prefix), *(quote(segment, safe="") for segment in segments)))


def segment(encoded: str) -> str:
    """Decode a segment of the application's own path."""
    return unquote(encoded) if "%" in encoded else encoded


def _own_path(scope: ASGIScope) -> str:
    """Remove the prefix, unless the host has done so, and keep slashes in segments encoded."""
    path: str = scope["path"]
    raw: bytes = scope.get("raw_path") or quote(path).encode()
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")) and unquote(raw.decode("latin-1")) == path:
        path = path[len(root) :] or "/"
    if b"%2f" in raw.lower():
        return _with_encoded_slashes(path, raw.decode("latin-1"))
    return path.replace("%", "%25")


def _with_encoded_slashes(path: str, raw: str) -> str:
    """Return the end of the raw path that means the same as `path`."""
    segments = raw.split("/")
    for first in range(1, len(segments)):
        decoded = [unquote(part) for part in segments[first:]]
        if "/".join(["", *decoded]).rstrip("/") == path.rstrip("/"):
            return "/".join(["", *(part.replace("%", "%25").replace("/", "%2F") for part in decoded)])
    return path.replace("%", "%25")


class _Head:
    """Lets an application answer as to GET, and withholds the body."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_answered = False

    async def receive(self) -> Message:
        # A stream would continue forever; it ends when its client has gone.
        return {"type": "http.disconnect"} if self._is_answered else await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            self._is_answered = True
