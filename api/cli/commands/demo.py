"""The commands under `demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich_click import RichGroup

from ..demo.watched_store import StorePath
from ..options import FILE, command
from ..output.exit_codes import CODES

if TYPE_CHECKING:
    from pathlib import Path


@click.group(cls=RichGroup, epilog=CODES)
def demo() -> None:
    """Watch a flow survive kills."""


@command("crash", example="persistasaurus demo crash", on_store=False)
@click.option("--store", type=FILE, help="The store's file; by default one in a temporary folder.")
def crash(store: Path | None) -> int:
    """Run a sign-up in a process that is killed again and again, until it completes."""
    from ..demo.crash import run  # noqa: PLC0415 - it loads what no other command needs

    with StorePath(store) as path:
        return run(path)


demo.add_command(crash)
