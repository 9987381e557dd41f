"""The command line: what can be typed. A command's module is loaded when that command is typed."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click
from rich_click import RichCommand, RichGroup

from .output.exit_codes import CODES

__all__ = ["COMMANDS", "persistasaurus"]


class LazyCommand(NamedTuple):
    """A command that is not loaded yet: the module that has it, and what it does in a few words."""

    module: str
    help: str

    def load(self, name: str) -> click.Command:
        """Load the command."""
        module = import_module(f".commands.{self.module}", __package__)
        return next(c for c in vars(module).values() if isinstance(c, click.Command) and c.name == name)


COMMANDS = {
    "run": LazyCommand("run", "Run the flows of a module until Ctrl-C."),
    "serve": LazyCommand("serve", "Run the flows of a module, and serve them over HTTP."),
    "list": LazyCommand("list", "List flows, oldest first unless said otherwise."),
    "show": LazyCommand("show", "Show how a flow stands, with its steps."),
    "explain": LazyCommand("explain", "Say why a flow is not running, and what to do."),
    "events": LazyCommand("events", "Show what is on record of a flow."),
    "follow": LazyCommand("follow", "Show what happens, as it happens."),
    "diagram": LazyCommand("diagram", "Draw a flow's execution as a sequence diagram."),
    "signal": LazyCommand("requests", "Send a flow a signal."),
    "pause": LazyCommand("requests", "Have a flow start nothing more until it is resumed."),
    "resume": LazyCommand("requests", "Have a paused flow go on."),
    "retry": LazyCommand("requests", "Let a failed or parked flow run on from where it failed."),
    "verify": LazyCommand("verify", "Check every byte of a store that matters."),
    "check": LazyCommand("check", "Look whether open flows can go on with the code as it is."),
    "backup": LazyCommand("backup", "Copy a store, also while an engine writes to it."),
    "export": LazyCommand("transfer", "Write a store's flows as JSON lines."),
    "import": LazyCommand("transfer", "Read flows from JSON lines into a store."),
    "dead-letters": LazyCommand("dead_letters", "List what was acknowledged and cannot be delivered."),
    "sql": LazyCommand("sql", "Ask a store in SQL; nothing can be written."),
    "doctor": LazyCommand("doctor", "Look whether everything is in order, and say what to do."),
    "error": LazyCommand("error", "Explain the code of an error, and what to do about it."),
    "completion": LazyCommand("completion", "Print what makes a shell complete this command."),
    "demo": LazyCommand("demo", "See a flow survive."),
}


class LazyGroup(RichGroup):
    """A group that knows its commands' names and a few words on each, and loads those that are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Name the commands, in the order in which they are told of."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return what is needed to tell of a command: its name, and a few words."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else RichCommand(name=cmd_name, help=entry.help)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Load the command that is to be used."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = COMMANDS.get(name or "")
        if name is not None and entry is not None:
            command = entry.load(name)
        return name, command, rest


@click.group(cls=LazyGroup, epilog=CODES)
@click.version_option(None, "-V", "--version", package_name="persistasaurus")
def persistasaurus() -> None:
    """Durable flows for Python, in your process, in one SQLite file.

    Most commands look at a store, or leave a request for the engine that has it open: neither disturbs
    the other. `--store FILE` says which store, or PERSISTASAURUS_STORE does.
    """
