"""The command `backup`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from ....store.tools.backup import backup as back_up
from ..options import check_exists, command, force_option, json_option, store_option
from ..output.damage import Damage, damages, show_damages
from ..output.exit_codes import DONE, FAILED
from ..output.outcome import telling_errors
from ..output.progress import progress
from ..output.screen import Screen, StyledText
from ..output.sizes import size

__all__ = ["backup"]


class BackupDocument(msgspec.Struct, frozen=True):
    """A copy that is complete and durable; `findings` tell of damage that it has from its source."""

    backup: str
    size: int
    findings: list[Damage]


@command("backup", example="persistasaurus backup orders-monday.db --store orders.db")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@force_option
@store_option
@json_option
@telling_errors
def backup(*, target: Path, overwrite: bool, store: Path, as_json: bool) -> int:
    """Copy a store to the file TARGET; an engine may be writing to the store meanwhile.

    TARGET appears only when it is complete, checked and synced; Ctrl-C before that leaves no file.
    Never run the original and a copy: both would execute the pending steps.
    """
    check_exists(store)
    with progress("Copying") as told:
        made = back_up(store, target, overwrite=overwrite, on_progress=told)
    screen = Screen()
    if as_json:
        screen.json(BackupDocument(str(target), made.size, damages(made.findings)))
    else:
        screen.line(f"{target}: {size(made.size)}, complete and synced.")
        if made.findings:
            screen.line(StyledText("The copy has damage that its source has, too:", "bold red"))
            show_damages(screen, made.findings)
    return FAILED if made.findings else DONE
