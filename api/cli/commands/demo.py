"""The commands under `demo`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich_click import RichGroup

from ..options import FILE, command
from ..output.exit_codes import CODES


@click.group(cls=RichGroup, epilog=CODES)
def demo() -> None:
    """Watch a flow survive kills."""


@command("crash", example="persistasaurus demo crash", on_store=False)
@click.option("--store", type=FILE, help="The store's file; by default one in a temporary folder.")
def crash(store: Path | None) -> int:
    """Run a sign-up in a process that is killed again and again, until it completes."""
    from ..demo.crash import run  # noqa: PLC0415 - it loads what no other command needs

    if store is not None:
        return run(store)
    with TemporaryDirectory(prefix="persistasaurus-", ignore_cleanup_errors=True) as folder:
        return run(Path(folder) / "demo.db", is_temporary=True)


demo.add_command(crash)
