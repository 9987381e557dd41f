"""The command `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..options import command, open_reader
from ..output.damage import Damage, damages, show_damages
from ..output.exit_codes import DONE, FAILED
from ..output.progress import progress
from ..output.quantities import counted
from ..output.screen import Screen, StyledText

if TYPE_CHECKING:
    from pathlib import Path


class Verified(msgspec.Struct, frozen=True):
    store: str
    is_intact: bool
    findings: list[Damage]


@command("verify", example="persistasaurus verify --store orders.db")
def verify(*, store: Path, as_json: bool) -> int:
    """Check a whole store: pages, checksums, chains, headers and signals.

    The engine may keep writing meanwhile. The exit code is 1 when something is damaged.
    """
    with open_reader(store) as reader, progress("Verifying") as on_progress:
        found = reader.verify(on_progress)
    screen = Screen()
    if as_json:
        screen.json(Verified(str(store), not found, damages(found)))
    elif found:
        screen.line(StyledText(f"{counted(len(found), 'finding')}: the store is damaged.", "bold red"))
        show_damages(screen, found)
    else:
        screen.line(StyledText("Intact", "green"), ": every record is as it was written.")
    return FAILED if found else DONE
