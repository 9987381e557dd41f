"""The floor of the engine: the rows that it wrote, written again by SQLite alone, in as many commits."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import apsw
from persistasaurus import Durability

if TYPE_CHECKING:
    from pathlib import Path

TABLES = {
    "record": "position > ?",
    "stream": "id IN (SELECT stream FROM record WHERE position > ?)",
    "inbox": "stream IN (SELECT stream FROM record WHERE position > ?)",
}


def last_position(path: Path) -> int:
    """Return the number of the newest event in a store, which may be in use."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as sql:
        return sql.execute("SELECT ifnull(max(position), 0) FROM record").fetchall()[0][0]


def replay(path: Path, after: int, commits: int, durability: Durability) -> float:
    """Write all rows of a closed store that are newer than an event into a new file; return the seconds.

    One thread, statements prepared once, rows in memory: what is left is SQLite, its indexes and the disk.
    """
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as sql:
        rows = {
            table: sql.execute(f"SELECT * FROM {table} WHERE {newer} ORDER BY 1", (after,)).fetchall()
            for table, newer in TABLES.items()
        }
        schema = sql.execute(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND type IN ('table', 'index')"
            " AND tbl_name IN ('record', 'stream', 'inbox')"
        ).fetchall()
    target = path.with_name("bare.db")
    target.unlink(missing_ok=True)
    with closing(apsw.Connection(str(target))) as sql:
        sql.pragma("journal_mode", "wal")
        sql.pragma("synchronous", "full" if durability is Durability.FULL else "normal")
        for (statement,) in schema:
            sql.execute(statement)
        shares = [_shares(rows[table], table, commits) for table in TABLES]
        began = time.perf_counter()
        for batches in zip(*shares, strict=True):
            sql.execute("BEGIN IMMEDIATE")
            for insert, batch in batches:
                sql.executemany(insert, batch)
            sql.execute("COMMIT")
        return time.perf_counter() - began


def _shares(rows: list[tuple[object, ...]], table: str, commits: int) -> list[tuple[str, list[object]]]:
    """Distribute the rows of a table evenly over the commits."""
    insert = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})" if rows else ""
    bounds = [len(rows) * number // commits for number in range(commits + 1)]
    return [(insert, rows[a:b]) for a, b in pairwise(bounds)]
