"""The command `verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..options import command, json_option, open_reader, store_option
from ..output.damage import Damage, damages, show_damages
from ..output.exit_codes import DONE, FAILED
from ..output.outcome import telling_errors
from ..output.progress import progress
from ..output.screen import Screen, StyledText
from ..output.sizes import counted

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["verify"]


class Verified(msgspec.Struct, frozen=True):
    """What a look at a whole store has found."""

    store: str
    is_intact: bool
    findings: list[Damage]


@command("verify", example="persistasaurus verify --store orders.db")
@store_option
@json_option
@telling_errors
def verify(*, store: Path, as_json: bool) -> int:
    """Check a whole store: pages, checksums, chains, headers and signals.

    The engine may keep writing meanwhile. The exit code is 1 when something is damaged.
    """
    with open_reader(store) as reader, progress("Verifying") as told:
        found = reader.verify(told)
    screen = Screen()
    if as_json:
        screen.json(Verified(str(store), not found, damages(found)))
    elif found:
        screen.line(
            StyledText(f"{counted(len(found), 'finding')}: not everything is as it was written.", "bold red")
        )
        show_damages(screen, found)
    else:
        screen.line(StyledText("Intact", "green"), ": every record is as it was written.")
    return FAILED if found else DONE
