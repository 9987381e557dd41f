"""Shell completion: of commands and options, and of what is in the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class
from rich_click import RichCommand

from .codes import CODES, DONE

if TYPE_CHECKING:
    from ...store import Header

__all__ = ["complete_flows", "complete_types", "completion"]

_PROGRAM, _VARIABLE = "persistasaurus", "_PERSISTASAURUS_COMPLETE"
_LOOKED_AT = 2_000
_PROPOSED = 50


@click.command("completion", cls=RichCommand, epilog=CODES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print what makes a shell complete this command, flows and types of the store included.

    In ~/.bashrc or ~/.zshrc: eval "$(persistasaurus completion bash)", or zsh. In fish's config.fish:
    persistasaurus completion fish | source.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE).source())
    return DONE


def complete_flows(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Propose flows of the store that the command line names."""
    return [h.stream for h in _headers(ctx) if h.stream.startswith(incomplete)][:_PROPOSED]


def complete_types(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Propose types of flows of that store."""
    return list(dict.fromkeys(h.type for h in _headers(ctx) if h.type.startswith(incomplete)))


def _headers(ctx: click.Context) -> list[Header]:
    """Read flows; none, whatever is the matter: this is no place to tell of it."""
    from ...actors.listing import flows_of  # noqa: PLC0415 - only for whoever presses the key
    from ...store import StoreReader  # noqa: PLC0415

    store = ctx.params.get("store") or os.environ.get("PERSISTASAURUS_STORE") or "flows.db"
    try:
        with StoreReader.open(Path(store)) as reader:
            return flows_of(reader, type=None, status=None, after=None, limit=_LOOKED_AT)
    except Exception:  # noqa: BLE001 - this is no place to tell of it
        return []
