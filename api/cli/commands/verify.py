"""The commands `verify` and `backup`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from ....store.tools.backup import backup as back_up
from ..options import check_exists, command, force_option, json_option, open_reader, store_option
from ..output.exit_codes import DONE, FAILED
from ..output.outcome import telling_errors
from ..output.progress import progress
from ..output.screen import Cell, Column, Screen
from ..output.sizes import counted, size

if TYPE_CHECKING:
    from ....store import Corruption

__all__ = ["backup", "verify"]


class Damage(msgspec.Struct, frozen=True):
    """One thing that is not as it was written. Without a `flow_id` it is the file that is meant."""

    flow_id: str | None
    version: int | None
    reason: str


class Verified(msgspec.Struct, frozen=True):
    """What a look at a whole store has found."""

    store: str
    is_intact: bool
    findings: list[Damage]


class BackedUp(msgspec.Struct, frozen=True):
    """A copy that is complete and durable; `findings` tell of damage that it has from its source."""

    backup: str
    size: int
    findings: list[Damage]


@command("verify", example="persistasaurus verify --store orders.db")
@store_option
@json_option
@telling_errors
def verify(*, store: Path, as_json: bool) -> int:
    """Check every byte of a store that matters: pages, checksums, chains, headers, signals.

    The engine may go on writing meanwhile. The exit code is 1 when something is not as it was written.
    """
    with open_reader(store) as reader, progress("Verifying") as told:
        found = reader.verify(told)
    screen = Screen()
    if as_json:
        screen.json(Verified(str(store), not found, _damages(found)))
    elif found:
        screen.line(
            Cell(f"{counted(len(found), 'finding')}: not everything is as it was written.", "bold red")
        )
        _show(screen, found)
    else:
        screen.line(Cell("Intact", "green"), ": every record is as it was written.")
    return FAILED if found else DONE


@command("backup", example="persistasaurus backup orders-monday.db --store orders.db")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@force_option
@store_option
@json_option
@telling_errors
def backup(*, target: Path, overwrite: bool, store: Path, as_json: bool) -> int:
    """Copy a store as it is now into the file TARGET, also while an engine writes to it.

    TARGET takes its name when it is complete, checked and synced; Ctrl-C before that leaves nothing of it.
    Open a copy only where the original does not go on as well, or what is owed is done twice.
    """
    check_exists(store)
    with progress("Copying") as told:
        made = back_up(store, target, overwrite=overwrite, on_progress=told)
    screen = Screen()
    if as_json:
        screen.json(BackedUp(str(target), made.size, _damages(made.findings)))
    else:
        screen.line(f"{target}: {size(made.size)}, complete and synced.")
        if made.findings:
            screen.line(Cell("The copy has damage that its source has, too:", "bold red"))
            _show(screen, made.findings)
    return FAILED if made.findings else DONE


def _damages(found: list[Corruption] | tuple[Corruption, ...]) -> list[Damage]:
    return [Damage(one.stream, one.version, one.reason) for one in found]


def _show(screen: Screen, found: list[Corruption] | tuple[Corruption, ...]) -> None:
    columns = (Column("flow"), Column("event", is_number=True), Column("what", gives_way=True))
    rows = [[one.stream or "", "" if one.version is None else str(one.version), one.reason] for one in found]
    screen.table(columns, rows)
