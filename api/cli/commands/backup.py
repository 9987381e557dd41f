"""The command `backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from ....store.tools.backup import backup as back_up
from ..options import FILE, check_exists, command, force_option
from ..output.damage import Damage, damages, show_damages
from ..output.exit_codes import DONE, FAILED
from ..output.progress import progress
from ..output.quantities import size
from ..output.screen import Screen, StyledText

if TYPE_CHECKING:
    from pathlib import Path


class BackupDocument(msgspec.Struct, frozen=True):
    """A complete and durable copy. `findings` list damage that it has copied from its source."""

    backup: str
    size: int
    findings: list[Damage]


@command("backup", example="persistasaurus backup orders-monday.db --store orders.db")
@click.argument("target", type=FILE)
@force_option
def backup(*, target: Path, overwrite: bool, store: Path, as_json: bool) -> int:
    """Copy a store to the file TARGET; an engine may be writing to the store meanwhile.

    TARGET appears only when it is complete, checked and synced; Ctrl-C before that leaves no file.
    Never run the original and a copy: both would execute the pending steps.
    """
    check_exists(store)
    with progress("Copying") as on_progress:
        made = back_up(store, target, overwrite=overwrite, on_progress=on_progress)
    screen = Screen()
    if as_json:
        screen.json(BackupDocument(str(target), made.size, damages(made.findings)))
    else:
        screen.line(f"{target}: {size(made.size)}, complete and synced.")
        if made.findings:
            screen.line(StyledText("The copy has the same damage as its source:", "bold red"))
            show_damages(screen, made.findings)
    return FAILED if made.findings else DONE
