"""The commands under `demo`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click
from rich_click import RichCommand, RichGroup

from ...demo.place import Place
from ..options import STORE
from ..output.exit_codes import CODES
from ..output.outcome import telling_errors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["demo"]

# ruff: noqa: PLC0415 - each command loads what it needs


_store_option = click.option(
    "--store", type=STORE, help="The file to keep flows in; without it, one in a temporary folder."
)


@click.group(cls=RichGroup, epilog=CODES)
def demo() -> None:
    """See flows run, wait, and survive."""


@demo.command(cls=RichCommand, epilog=CODES)
@_store_option
@telling_errors
def hello(store: Path | None) -> int:
    """Run five steps, and show what is on record of them.

    On a store that was used before the answer comes from the log, and no step is run.
    """
    from ...demo.hello import run

    with Place(store) as place:
        return run(place)


@demo.command(cls=RichCommand, epilog=CODES)
@click.option(
    "--delay",
    type=click.FloatRange(0, 3600),
    default=10.0,
    show_default=True,
    help="Seconds until the e-mail goes out.",
)
@click.option("--flow-id", default="signup-ada", show_default=True, help="Which sign-up it is.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the confirmation; exit code 4.")
@_store_option
@telling_errors
def signup(*, store: Path | None, delay: float, flow_id: str, no_wait: bool) -> int:
    """Sign somebody up: a record, an e-mail after a while, and the confirmation of a person.

    Press Enter to confirm, or do it from another terminal: `persistasaurus demo confirm`. Ctrl-C
    leaves the sign-up as it is; the same command with the same `--store` goes on where it stopped.
    """
    from ...demo.signup import run

    with Place(store) as place:
        return run(place, timedelta(seconds=delay), flow_id, wait=not no_wait)


@demo.command(cls=RichCommand, epilog=CODES)
@click.argument("flow")
@click.option("--store", type=STORE, required=True, help="The sign-up's store.")
@telling_errors
def confirm(flow: str, store: Path) -> int:
    """Confirm the e-mail address of the sign-up FLOW, from another terminal.

    It goes the way of `persistasaurus signal`. A running `demo signup` takes it at once; when no process
    has the store open, the confirmation is put on record, and taken at the next run.
    """
    from ...demo.confirmation import run

    return run(flow, store)


@demo.command(cls=RichCommand, epilog=CODES)
@_store_option
@telling_errors
def crash(store: Path | None) -> int:
    """Run a sign-up in a process that is killed again and again, and see it come to its end."""
    from ...demo.crash import run

    with Place(store) as place:
        return run(place)
