"""The commands under `demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich_click import RichCommand, RichGroup

from ..demo.watched_store import StorePath
from ..options import STORE
from ..output.exit_codes import CODES
from ..output.outcome import telling_errors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["demo"]


@click.group(cls=RichGroup, epilog=CODES)
def demo() -> None:
    """Watch a flow survive kills."""


@demo.command(cls=RichCommand, epilog=CODES)
@click.option("--store", type=STORE, help="The store's file; by default one in a temporary folder.")
@telling_errors
def crash(store: Path | None) -> int:
    """Run a sign-up in a process that is killed again and again, until it completes."""
    from ..demo.crash import run  # noqa: PLC0415 - it loads what no other command needs

    with StorePath(store) as path:
        return run(path)
