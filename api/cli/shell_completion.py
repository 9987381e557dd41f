"""Shell completion of names that are in the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

_PROPOSED = 50
# Found by the index on names; of many, the newest are meant.
_FLOWS = """
SELECT s.name FROM stream s JOIN word w ON w.id = s.status
WHERE s.name >= ?1 AND s.name < ?1 || char(1114111) AND w.word <> ?2 ORDER BY s.id DESC LIMIT ?3
"""
_TYPES = """
SELECT DISTINCT t.word FROM stream s JOIN word w ON w.id = s.status JOIN word t ON t.id = s.type
WHERE t.word >= ?1 AND t.word < ?1 || char(1114111) AND w.word <> ?2 LIMIT ?3
"""


def complete_flows(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    return _found(ctx, _FLOWS, incomplete)


def complete_types(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    return _found(ctx, _TYPES, incomplete)


def _found(ctx: click.Context, statement: str, incomplete: str) -> list[str]:
    from ...actors.persistence.persistent_actor import ACTOR_STATUS  # noqa: PLC0415 - loaded only for a completion
    from ...store import StoreReader  # noqa: PLC0415

    store = ctx.params.get("store") or os.environ.get("PERSISTASAURUS_STORE") or "flows.db"
    try:
        with StoreReader.open(Path(store)) as reader:
            found: Sequence[str] = [
                name for (name,) in reader.query(statement, (incomplete, ACTOR_STATUS, _PROPOSED))
            ]
        return sorted(found)
    except Exception:  # noqa: BLE001 - a completion has no place for an error
        return []
