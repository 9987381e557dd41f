"""Serving a protected application with uvicorn: where it may listen, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from importlib import metadata
from typing import TYPE_CHECKING, Final, Self

import uvicorn

from ...actors.runtime.seam import Event, Thread, is_main_thread, start_thread
from .access import OpenToAll
from .connection import Connection, Crowd
from .listener import CannotServe, Listener, TcpListener, UnixListener
from .tokens import Tokens

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator
    from socket import socket
    from types import FrameType

    from .middleware.protection import Protected

__all__ = ["DEFAULT_PORT", "CannotServe", "Server", "serve"]

DEFAULT_PORT: Final = 8716

# CVE-2025-43859. The package asks for it, and an environment may have been changed since.
_OLDEST_H11: Final = (0, 16)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def serve(
    app: Protected,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    uds: str | os.PathLike[str] | None = None,
    on_bound: Callable[[str], None] | None = None,
) -> int | None:
    """Serve until SIGINT or SIGTERM, and return which of them it was. Call it on the main thread.

    Then no connection is accepted any more, streams end, and requests under way have `drain_seconds`
    to finish; a second signal ends them at once. The process goes on, so that a `FlowSystem` around
    this call is closed in order.

    Args:
        app: what `protected` returned.
        host: an address, or a name for one. Other than loopback needs tokens that somebody chose, and
            the names under which clients call it.
        port: 0 lets the system choose.
        uds: the path of a unix socket, to be used instead of an address.
        on_bound: is told where the server is, once it accepts connections.

    Raises:
        CannotServe: it may not, or cannot listen there, or the application does not start.
    """
    listener = _listen(app, host, port, uds)
    engine = _Engine(app, listener, on_bound or (lambda _url: None))
    engine.run_on(listener)
    return engine.signal


class Server:
    """A server on a thread of its own, for tests and for programs that do something else as well.

    Args:
        app: what `protected` returned.
        host: as in `serve`.
        port: as in `serve`; the system chooses by default.
        uds: as in `serve`.
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
        self._settled = Event()
        self._thread: Thread | None = None
        self._engine: _Engine | None = None
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
        engine = self._engine = _Engine(self._app, listener, lambda _url: self._settled.set())
        self._thread = start_thread(lambda: self._run(engine, listener), "persistasaurus-http", daemon=True)
        self._settled.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop as `serve` does, and return when that is done."""
        if self._engine is not None and self._thread is not None:
            self._engine.should_exit = True
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _run(self, engine: _Engine, listener: Listener) -> None:
        try:
            engine.run_on(listener)
        except BaseException as error:  # noqa: BLE001 - who started us is told
            self._failure = error
        finally:
            self._settled.set()


class _Engine(uvicorn.Server):
    """Uvicorn, which sets up no logging here, believes no forwarded header, and resends no signal."""

    def __init__(self, app: Protected, listener: Listener, on_bound: Callable[[str], None]) -> None:
        super().__init__(_config(app))
        self._app = app
        self._url = listener.url
        self._on_bound = on_bound
        self.signal: int | None = None

    def run_on(self, listener: Listener) -> None:
        try:
            asyncio.run(self.serve(sockets=[listener.socket]))
        except SystemExit as error:
            raise _not_started() from error
        finally:
            listener.close()
        if not self.started:
            raise _not_started()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        self._app.gate.streams.begin()
        await super().startup(sockets)
        if self.started:
            self._on_bound(self._url)

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._app.gate.streams.end()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if not is_main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del frame
        self.signal = self.signal or sig
        self.force_exit = self.should_exit
        self.should_exit = True


def _not_started() -> CannotServe:
    # Versions of uvicorn differ in how they say so; all log why.
    return CannotServe("the application did not start; the log says why")


def _config(app: Protected) -> uvicorn.Config:
    limits = app.gate.limits

    class Limited(Connection):
        pass

    Limited.limits, Limited.crowd = limits, Crowd(limits.connections)
    return uvicorn.Config(
        app,
        http=Limited,
        ws="none",
        loop="asyncio",
        interface="asgi3",
        lifespan="auto",
        log_config=None,
        # It would show query strings and the paths of links.
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_keep_alive=math.ceil(limits.idle_seconds),
        timeout_graceful_shutdown=math.ceil(limits.drain_seconds),
    )


def _listen(app: Protected, host: str, port: int, uds: str | os.PathLike[str] | None) -> Listener:
    found = metadata.version("h11")
    if tuple(map(int, found.split(".")[:2])) < _OLDEST_H11:
        raise CannotServe(f"h11 {found} can be told two requests for one: install 0.16 or later")
    listener = TcpListener(host, port) if uds is None else UnixListener(uds)
    try:
        if not listener.is_local:
            _check_exposure(app, host)
    except CannotServe:
        listener.close()
        raise
    return listener


def _check_exposure(app: Protected, host: str) -> None:
    """Refuse to be reached from other machines unless somebody has thought about it."""
    access = app.gate.access
    where = f"{host} can be reached from other machines"
    if isinstance(access, OpenToAll):
        raise CannotServe(f"{where}: without authentication, only loopback or a unix socket is served")
    if isinstance(access, Tokens) and not access.chosen:
        raise CannotServe(f"{where}: name the tokens that are valid there in a file, and set it")
    if app.gate.hosts.are_local:
        raise CannotServe(f"{where}: allow the host names by which clients call it")
