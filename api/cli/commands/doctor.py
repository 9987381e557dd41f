"""The command `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..options import command
from ..output.exit_codes import DONE, FAILED
from ..output.screen import Screen, StyledText
from ..reports.checkup import check_all

if TYPE_CHECKING:
    from pathlib import Path

_STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}


@command("doctor", example="persistasaurus doctor --store orders.db")
def doctor(*, store: Path, as_json: bool) -> int:
    """Check the installation and the store, and suggest what to do about each problem.

    It checks versions, permissions, the disk and its sync time, the engine, and pending work.
    The exit code is 1 when a check is bad.
    """
    screen = Screen()
    code = DONE
    for check in check_all(store):
        if check.state == "bad":
            code = FAILED
        if as_json:
            screen.json(check)
        else:
            screen.line(
                StyledText(f"{check.state:<4}", _STYLES[check.state]), f"  {check.name:<16}  {check.text}"
            )
            if check.todo and check.state != "ok":
                screen.line(StyledText(f"      {'':<16}  → {check.todo}", "dim"))
        screen.flush()
    return code
