"""The command `completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ..options import command
from ..output.exit_codes import DONE

_PROGRAM, _VARIABLE = "persistasaurus", "_PERSISTASAURUS_COMPLETE"


@command("completion", example="persistasaurus completion bash", on_store=False)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
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
