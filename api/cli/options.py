"""Options that most commands have, and what they stand for."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from rich_click import RichCommand

from ...actors.flows.admission import is_text
from ...actors.persistence.event_sourced import ACTOR_STATUS
from ...flows.errors import FlowNotFound
from ...store import StoreReader, StoreUnusable
from .output.exit_codes import CODES
from .shell_completion import complete_flows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store import Header

__all__ = [
    "STORE",
    "by_option",
    "check_exists",
    "command",
    "flow_argument",
    "force_option",
    "header_of",
    "json_option",
    "limit_option",
    "login_name",
    "open_reader",
    "store_option",
    "why_option",
]

F = TypeVar("F", bound="Callable[..., Any]")

STORE = click.Path(dir_okay=False, path_type=Path)


class Command(RichCommand):
    """A command that takes text, and files of any name; bytes that are no text are refused before it runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line.

        Raises:
            UsageError: something on it is no text.
        """
        rest = super().parse_args(ctx, args)
        for parameter in self.get_params(ctx):
            name = parameter.name or ""
            given = ctx.params.get(name)
            try:
                if isinstance(given, tuple):
                    ctx.params[name] = tuple(_as_text(value) for value in cast("tuple[Any, ...]", given))
                elif isinstance(given, str):
                    ctx.params[name] = _as_text(given)
            except UnicodeDecodeError as error:
                raise click.BadParameter(f"{error.object!a} is not UTF-8.", ctx, parameter) from None
        return rest


def _as_text(value: Any) -> Any:
    """Read an argument as UTF-8 where the locale could not: what is stored is UTF-8 in every locale."""
    if not isinstance(value, str) or is_text(value):
        return value
    return os.fsencode(value).decode("utf-8")


def command(name: str, *, example: str) -> Callable[[Callable[..., Any]], RichCommand]:
    """Make a function a command that tells how it is used, and its exit codes."""
    epilog = f"Example: {example}\n\n{CODES}"
    return click.command(name, cls=Command, epilog=epilog)


def store_option(function: F) -> F:
    """Have a command work on a store."""
    return click.option(
        "--store",
        type=STORE,
        envvar="PERSISTASAURUS_STORE",
        show_envvar=True,
        default="flows.db",
        show_default=True,
        help="The store's file.",
    )(function)


def force_option(function: F) -> F:
    """Let a command that writes a file replace one, but never one that belongs to the store that is read."""
    return click.option(
        "--force",
        "--overwrite",
        "overwrite",
        is_flag=True,
        help="Replace an existing file.",
    )(function)


def json_option(function: F) -> F:
    """Let a command tell programs what it tells people."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document a line, with times in UTC."
    )(function)


def limit_option(function: F) -> F:
    """Have a command that lists show so many at most; it says when there are more."""
    return click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(1, 100_000),
        default=50,
        show_default=True,
        help="The maximum number to show.",
    )(function)


def flow_argument(function: F) -> F:
    """Have a command ask for a flow; the shell proposes those of the store."""
    return click.argument("flow", shell_complete=complete_flows)(function)


def by_option(function: F) -> F:
    """Have a command say who wants it."""
    return click.option(
        "--by", default=login_name, show_default="the login name", help="Who asks; recorded."
    )(function)


def why_option(function: F) -> F:
    """Have a command say why it is wanted."""
    return click.option("--why", default="", help="The reason; recorded.")(function)


def login_name() -> str:
    """Return the name of whoever has typed the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def open_reader(store: Path) -> StoreReader:
    """Look at a store, whoever owns it.

    Raises:
        StoreUnusable: it is not there, or no store.
    """
    check_exists(store)
    return StoreReader.open(store)


def check_exists(store: Path) -> None:
    """Say what to do when there is no file where a store should be.

    Raises:
        StoreUnusable: there is none.
    """
    if not store.exists():
        raise StoreUnusable(f"there is no store at {store}: give --store FILE, or set PERSISTASAURUS_STORE")


def header_of(reader: StoreReader, flow_id: str) -> Header:
    """Return a flow's header.

    Raises:
        FlowNotFound: there is no such flow.
    """
    header = reader.header(flow_id)
    if header is None or header.status == ACTOR_STATUS:
        raise FlowNotFound(flow_id)
    return header
