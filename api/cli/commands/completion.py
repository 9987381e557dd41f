"""The command `completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class
from rich_click import RichCommand

from ..output.exit_codes import CODES, DONE
from ..output.outcome import telling_errors

__all__ = ["completion"]

_PROGRAM, _VARIABLE = "persistasaurus", "_PERSISTASAURUS_COMPLETE"


@click.command("completion", cls=RichCommand, epilog=CODES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
@telling_errors
def completion(ctx: click.Context, shell: str) -> int:
    """Print a shell completion script; it also completes flows and types from the store.

    In ~/.bashrc or ~/.zshrc: eval "$(persistasaurus completion bash)", or zsh. In fish's config.fish:
    persistasaurus completion fish | source.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, _PROGRAM, _VARIABLE).source())
    return DONE
