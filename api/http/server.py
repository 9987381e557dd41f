"""Serves a protected application with uvicorn: where it may listen, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from importlib import metadata
from typing import TYPE_CHECKING, Final, Self

import uvicorn

from ...actors.runtime.primitives import Event, Thread, is_main_thread, start_thread
from .connections import Connections
from .listener import CannotServe, ServerSocket, TcpListener, UnixListener
from .middleware.identity import OpenToAll
from .repeated_warnings import few_warnings
from .tokens import Tokens

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator
    from types import FrameType

    from .middleware.protection import Protected

__all__ = ["DEFAULT_PORT", "CannotServe", "Server", "serve"]

DEFAULT_PORT: Final = 8716

# CVE-2025-43859. The package requires it, but the environment may have been changed since.
_OLDEST_H11: Final = (0, 16)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# How often to check whether a server has started: uvicorn does not report it.
_STARTING_SECONDS: Final = 0.01


def serve(
    app: Protected,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    uds: str | os.PathLike[str] | None = None,
    on_bound: Callable[[str], None] | None = None,
) -> int | None:
    """Serve until SIGINT or SIGTERM, and return which one it was. Call it on the main thread.

    After the signal no connection is accepted, streams end, and requests in progress have `drain_seconds` to
    finish; a second signal ends them at once. The process continues, so a `FlowSystem` around this call is
    closed in order.

    Args:
        app: what `protected` or `asgi_app` returned.
        host: an address, or a name for one. Any but loopback needs tokens that you chose, and the names under
            which clients call the server.
        port: 0 lets the system choose.
        uds: the path of a unix socket, to be used instead of an address.
        on_bound: called with the server's URL once it accepts connections.

    Raises:
        CannotServe: it may not or cannot listen there, or the application does not start.
    """
    server = Server(app, host=host, port=port, uds=uds)
    with _signals_to(server) as received:
        server.start()
        if on_bound is not None:
            on_bound(server.url)
        server.join()
    return received[0] if received else None


class Server:
    """A server on a thread of its own, for tests and for programs that also do something else.

    The arguments are those of `serve`; by default the system chooses the port.
    """

    def __init__(
        self,
        app: Protected,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        uds: str | os.PathLike[str] | None = None,
    ) -> None:
        self._app = app
        self._place = (host, port, uds)
        self.connections = Connections(app, app.rules.limits)
        self._uvicorn = uvicorn.Server(_config(app, self.connections))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._settled = Event()
        self._thread: Thread | None = None
        self._failure: BaseException | None = None
        self.url = ""
        """Where the server is, once it was started."""

    def start(self) -> Self:
        """Start, and return when connections are accepted. A server is started once.

        Raises:
            CannotServe: as in `serve`.
            RuntimeError: it was started before.
        """
        if self._thread is not None:
            raise RuntimeError("the server was started before: make another one")
        host, port, uds = self._place
        listener = _listen(self._app, host, port, uds)
        self.url = listener.url
        self._thread = start_thread(lambda: self._run(listener), "persistasaurus-http", daemon=True)
        self._settled.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def begin_stop(self) -> None:
        """Stop as `serve` does, without waiting. A second call ends requests in progress at once."""
        self._uvicorn.force_exit = self._uvicorn.should_exit
        self._uvicorn.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has stopped already
                self._loop.call_soon_threadsafe(self._app.rules.streams.end)

    def join(self) -> None:
        """Return when the server has stopped."""
        if self._thread is not None:
            self._thread.join()

    def stop(self) -> None:
        """Stop as `serve` does, and return when that is done."""
        if not self._uvicorn.should_exit:
            self.begin_stop()
        self.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _run(self, listener: ServerSocket) -> None:
        try:
            with few_warnings():
                asyncio.run(self._serve(listener))
        except SystemExit as error:
            self._failure = _not_started()
            self._failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - raised by `start`
            self._failure = error
        finally:
            listener.close()
            self._settled.set()

    async def _serve(self, listener: ServerSocket) -> None:
        self._loop = asyncio.get_running_loop()
        self._app.rules.streams.begin()
        serving = asyncio.ensure_future(self._uvicorn.serve([listener.socket]))
        while not self._uvicorn.started:
            await asyncio.wait((serving,), timeout=_STARTING_SECONDS)
            if serving.done() and not self._uvicorn.started:
                await serving
                raise _not_started()
        self._settled.set()
        await serving


@contextlib.contextmanager
def _signals_to(server: Server) -> Generator[list[int]]:
    """Stop the server at a signal, and collect the signals. Only the main thread may do this."""
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        server.begin_stop()

    before = {number: signal.signal(number, stop) for number in _SIGNALS} if is_main_thread() else {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _not_started() -> CannotServe:
    # Versions of uvicorn differ in how they report it; all log the reason.
    return CannotServe("the application did not start; the log says why")


def _config(app: Protected, connections: Connections) -> uvicorn.Config:
    limits = app.rules.limits
    return uvicorn.Config(
        connections.app,
        http=connections.protocol(),
        ws="none",
        loop="asyncio",
        interface="asgi3",
        lifespan="auto",
        log_config=None,
        # It would log query strings and the paths of links.
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=math.ceil(limits.idle_seconds),
        timeout_graceful_shutdown=math.ceil(limits.drain_seconds),
    )


def _listen(app: Protected, host: str, port: int, uds: str | os.PathLike[str] | None) -> ServerSocket:
    found = metadata.version("h11")
    if tuple(map(int, found.split(".")[:2])) < _OLDEST_H11:
        raise CannotServe(f"h11 {found} can take two requests for one: install 0.16 or later")
    listener = TcpListener(host, port) if uds is None else UnixListener(uds)
    try:
        if not listener.is_local:
            _check_exposure(app, host)
    except CannotServe:
        listener.close()
        raise
    return listener


def _check_exposure(app: Protected, host: str) -> None:
    """Refuse to be reachable from other machines without an explicit decision."""
    access = app.rules.access
    where = f"{host} can be reached from other machines"
    if isinstance(access, OpenToAll):
        raise CannotServe(f"{where}: without authentication, only loopback or a unix socket can be served")
    if isinstance(access, Tokens) and not access.chosen:
        raise CannotServe(f"{where}: list the accepted tokens in a file and pass it with `--tokens`")
    if app.rules.hosts.are_local:
        raise CannotServe(f"{where}: pass the host names that clients use with `--allow-host`")
