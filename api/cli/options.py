"""How a command is declared, the options that several commands share, and how a command opens its store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from rich_click import RichCommand

from ...actors.flows.admission import is_text
from ...actors.persistence.persistent_actor import ACTOR_STATUS
from ...flows.errors import FlowNotFound
from ...store import StoreReader, StoreUnusable
from .output.exit_codes import CODES
from .output.outcome import reporting_errors
from .shell_completion import complete_flows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...store import Header

FILE = click.Path(dir_okay=False, path_type=Path)


class Command(RichCommand):
    """A command that takes text, and files of any name. Other bytes are refused before it runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
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


_STORE = click.Option(
    ["--store"],
    type=FILE,
    envvar="PERSISTASAURUS_STORE",
    show_envvar=True,
    default="flows.db",
    show_default=True,
    help="The store's file.",
)
_JSON = click.Option(
    ["--json", "as_json"], is_flag=True, help="Print one JSON document a line, with times in UTC."
)


def command(
    name: str, *, example: str, on_store: bool = True
) -> Callable[[Callable[..., int]], click.Command]:
    """Make a command of a function that returns its exit code. Its errors are reported in one line.

    After its own options, a command that works `on_store` has `--store` and `--json`.
    """

    def declared(function: Callable[..., int]) -> click.Command:
        epilog = f"Example: {example}\n\n{CODES}"
        made = click.command(name, cls=Command, epilog=epilog)(reporting_errors(function))
        made.params += [_STORE, _JSON] if on_store else []
        return made

    return declared


flow_argument = click.argument("flow", shell_complete=complete_flows)

# A file of the store itself is never replaced.
force_option = click.option(
    "--force", "--overwrite", "overwrite", is_flag=True, help="Replace an existing file."
)
limit_option = click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="The maximum number to show.",
)


def open_reader(store: Path) -> StoreReader:
    """Open a store for reading, whichever process owns it.

    Raises:
        StoreUnusable: it does not exist, or is not a store.
    """
    check_exists(store)
    return StoreReader.open(store)


def check_exists(store: Path) -> None:
    if not store.exists():
        raise StoreUnusable(f"there is no store at {store}: give --store FILE, or set PERSISTASAURUS_STORE")


def header_of(reader: StoreReader, flow_id: str) -> Header:
    """Return a flow's header. Raises FlowNotFound: there is no such flow."""
    header = reader.header(flow_id)
    if header is None or header.status == ACTOR_STATUS:
        raise FlowNotFound(flow_id)
    return header
