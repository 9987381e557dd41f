"""The command line's commands. The module of a command is loaded when that command is used."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click
from rich_click import RichCommand, RichGroup

from .output.exit_codes import CODES
from .output.spelling import did_you_mean


class LazyCommand(NamedTuple):
    """A command that is not loaded yet: its module, and a short help text."""

    module: str
    help: str

    def load(self, name: str) -> click.Command:
        module = import_module(f".commands.{self.module}", __package__)
        return next(c for c in vars(module).values() if isinstance(c, click.Command) and c.name == name)


COMMANDS = {
    "run": LazyCommand("run", "Run the flows of a module until Ctrl-C."),
    "serve": LazyCommand("serve", "Run the flows of a module, and serve them over HTTP."),
    "list": LazyCommand("list", "List flows, oldest first by default."),
    "show": LazyCommand("show", "Show the status of a flow, and its steps."),
    "explain": LazyCommand("explain", "Explain why a flow is not running, and what to do."),
    "events": LazyCommand("events", "Show the recorded events of a flow."),
    "follow": LazyCommand("follow", "Show events as they happen."),
    "diagram": LazyCommand("diagram", "Draw a flow's execution as a sequence diagram."),
    "signal": LazyCommand("requests", "Send a signal to a flow."),
    "pause": LazyCommand("requests", "Pause a flow: it starts no more steps until it is resumed."),
    "resume": LazyCommand("requests", "Resume a paused flow."),
    "retry": LazyCommand("requests", "Continue a failed or parked flow from where it stopped."),
    "verify": LazyCommand("verify", "Check a whole store for damage."),
    "check": LazyCommand("check", "Check that unfinished flows can continue with the current code."),
    "backup": LazyCommand("backup", "Copy a store, even while an engine writes to it."),
    "export": LazyCommand("transfer", "Write a store's flows as JSON lines."),
    "import": LazyCommand("transfer", "Read flows from JSON lines into a store."),
    "dead-letters": LazyCommand("dead_letters", "List acknowledged signals that cannot be delivered."),
    "projections": LazyCommand("projections", "Show how far the projections of a store are."),
    "sql": LazyCommand("sql", "Query a store in SQL, read-only."),
    "doctor": LazyCommand("doctor", "Check the installation and the store."),
    "error": LazyCommand("error", "Explain the code of an error, and what to do about it."),
    "completion": LazyCommand("completion", "Print a shell completion script."),
    "demo": LazyCommand("demo", "Watch a flow survive kills."),
}


class LazyGroup(RichGroup):
    """A group that knows the names and short help of its commands, and loads only the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return what the list of commands needs: a name and a short help."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else RichCommand(name=cmd_name, help=entry.help)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            meant = did_you_mean(args[0], COMMANDS)
            if not meant or "Did you mean" in error.message:  # as newer versions of click say
                raise
            raise click.UsageError(f"{error.message}{meant}", ctx) from error
        entry = COMMANDS.get(name or "")
        if name is not None and entry is not None:
            command = entry.load(name)
        return name, command, rest


@click.group(cls=LazyGroup, epilog=CODES)
@click.version_option(None, "-V", "--version", package_name="persistasaurus")
def persistasaurus() -> None:
    """Durable flows for Python, in your process, in one SQLite file.

    Most commands read a store, or leave a request for the engine that has it open; they do not disturb
    it. Choose the store with `--store FILE`, or with PERSISTASAURUS_STORE.
    """
