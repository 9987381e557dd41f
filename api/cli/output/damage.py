"""Damage in a store, as JSON and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .screen import Column, Screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ....store import Corruption


class Damage(msgspec.Struct, frozen=True):
    """Something that differs from what was written. Without a `flow_id` it concerns the file."""

    flow_id: str | None
    version: int | None
    reason: str


def damages(found: Sequence[Corruption]) -> list[Damage]:
    return [Damage(one.stream, one.version, one.reason) for one in found]


def show_damages(screen: Screen, found: Sequence[Corruption]) -> None:
    columns = (Column("flow"), Column("event", is_number=True), Column("what", gives_way=True))
    rows = [[one.stream or "", "" if one.version is None else str(one.version), one.reason] for one in found]
    screen.table(columns, rows)
