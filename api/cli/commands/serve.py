"""The command `serve`."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ....flows.errors import PersistasaurusError
from ....flows.examples import HelloWorldFlow, SignupFlow
from ..engine import Engine, Verbosity
from ..flow_modules import flows_of
from ..options import FILE, command
from ..output.exit_codes import UNREAD
from ..output.outcome import MissingExtra, notify
from ..stopping import Stopping
from .run import introduce, until_stopped, verbosity_options

if TYPE_CHECKING:
    from collections.abc import Generator

    from ....actors import FlowSystem
    from ...http.server import Server

_PORT = 8716
_SERVER = {"h11", "litestar", "uvicorn"}


@command("serve", example="persistasaurus serve order.py --store orders.db --port 8716")
@click.argument("modules", nargs=-1, metavar="[MODULE[:NAME]]...")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65_535),
    default=_PORT,
    show_default=True,
    help="The port to listen on; 0 means any free port.",
)
@click.option("--uds", type=click.Path(path_type=Path), help="Listen on this unix socket instead.")
@click.option("--tokens", type=FILE, help="A file of named tokens.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A name by which clients call the server.")
@verbosity_options
def serve(  # noqa: PLR0913 - click gives them by name
    *,
    modules: tuple[str, ...],
    host: str,
    port: int,
    uds: Path | None,
    tokens: Path | None,
    allow_host: tuple[str, ...],
    verbose: bool,
    quiet: bool,
    store: Path,
    as_json: bool,
) -> int:
    """Run the flows of a module like `run`, and serve them over HTTP.

    Without MODULE, the example application is served: HelloWorldFlow and SignupFlow, and their own
    endpoints. Every request needs a token. The server creates one that allows everything, in
    STORE.token beside the store; it is valid on this machine only.
    """
    _check_extra()
    flows = flows_of(modules) if modules else [HelloWorldFlow, SignupFlow]
    examples = not modules
    with Stopping() as stopping:
        with (
            Engine(flows, store, Verbosity(as_json, verbose, quiet), stopping.ask) as engine,
            _served(engine.system, store, tokens, allow_host, (host, port, uds), examples=examples) as server,
        ):
            introduce(flows, store)
            _invite(server.url, store, tokens)
            code = until_stopped(engine, stopping)
        return UNREAD if engine.is_unread else code


def _check_extra() -> None:
    """Check that the server is installed, before anything is opened."""
    try:
        from ...http import app, server  # noqa: F401, PLC0415  # pyright: ignore[reportUnusedImport] - an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _SERVER:
            raise MissingExtra("serve", error.name or "", "server") from error
        raise


@contextmanager
def _served(  # noqa: PLR0913 - the options of one command
    system: FlowSystem,
    store: Path,
    tokens: Path | None,
    allowed: tuple[str, ...],
    place: tuple[str, int, Path | None],
    *,
    examples: bool,
) -> Generator[Server]:
    from ...examples.routes import EXAMPLE_ROUTES  # noqa: PLC0415 - an extra
    from ...http.app import asgi_app  # noqa: PLC0415
    from ...http.middleware.hosts import LOOPBACK, Hosts  # noqa: PLC0415
    from ...http.server import CannotServe, Server  # noqa: PLC0415
    from ...http.tokens import Tokens  # noqa: PLC0415

    host, port, uds = place
    try:
        access = Tokens.beside(store) if tokens is None else Tokens.read(tokens)
        routes = EXAMPLE_ROUTES if examples else ()
        app = asgi_app(system, access=access, hosts=Hosts((*LOOPBACK, *allowed)), routes=routes)
        server = Server(app, host=host, port=port, uds=uds).start()
    except CannotServe as error:
        raise CannotServe(f"{error} (see --host, --port, --tokens, --allow-host)") from error
    except ValueError as error:
        raise PersistasaurusError(str(error)) from error
    try:
        yield server
    finally:
        server.stop()


def _invite(url: str, store: Path, tokens: Path | None) -> None:
    from ...http.tokens import token_path  # noqa: PLC0415 - an extra

    beside = token_path(store)
    token = f"$(cat {shlex.quote(str(beside))})" if tokens is None else "TOKEN"
    notify(f"Serving at {url}; the token is in {beside if tokens is None else tokens}. For example:")
    socket = url.removeprefix("http+unix://")
    at = shlex.quote(f"{url}/flows")
    where = f"--unix-socket {shlex.quote(socket)} http://localhost/flows" if socket != url else at
    notify(f'  curl -H "Authorization: Bearer {token}" {where}')
