"""What is damaged in a store, for programs and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .screen import Column, Screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ....store import Corruption

__all__ = ["Damage", "damages", "show_damages"]


class Damage(msgspec.Struct, frozen=True):
    """One thing that is not as it was written. Without a `flow_id` it is the file that is meant."""

    flow_id: str | None
    version: int | None
    reason: str


def damages(found: Sequence[Corruption]) -> list[Damage]:
    """Tell of what was found."""
    return [Damage(one.stream, one.version, one.reason) for one in found]


def show_damages(screen: Screen, found: Sequence[Corruption]) -> None:
    """Show what was found, a line each."""
    columns = (Column("flow"), Column("event", is_number=True), Column("what", gives_way=True))
    rows = [[one.stream or "", "" if one.version is None else str(one.version), one.reason] for one in found]
    screen.table(columns, rows)
