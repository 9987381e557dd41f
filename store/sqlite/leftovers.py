"""The readable rows of a damaged store, in another database, for statements that the damage would stop.

SQLite aborts a statement at the first page that it cannot read. So all readable rows are copied, each table
around its damaged pages, into a nameless file with the same views, which is gone when it is closed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import apsw

from ..files.forking import in_sqlite
from . import schema
from .salvage import Gap, around, chunks, highest
from .statements import rows, run

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEYS: Final = {
    "owner": "one",
    "word": "id",
    "stream": "id",
    "record": "position",
    "inbox": "id",
    "dead_letter": "id",
}


class Leftovers:
    """The copy. `lost` counts the rows of each table that could not be read, as far as is known."""

    def __init__(self, source: apsw.Connection, steps: Sequence[str]) -> None:
        self.connection = apsw.Connection("")
        self.lost: dict[str, int] = {}
        try:
            self.connection.pragma("journal_mode", "OFF")
            self.connection.pragma("synchronous", "OFF")
            schema.migrate(self.connection, steps)
            run(self.connection, "BEGIN")
            run(self.connection, "DELETE FROM owner")  # that of the new one
            for table, key in _KEYS.items():
                self._copy(source, table, key)
            run(self.connection, "COMMIT")
            self.connection.pragma("query_only", "ON")
            self.connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
        except BaseException:
            self.connection.close()
            raise

    @property
    def damage(self) -> str:
        lost = ", ".join(f"{count} of {table}" for table, count in self.lost.items())
        return f"the store is damaged: rows that cannot be read are left out ({lost or 'none of the tables'})"

    def _copy(self, source: apsw.Connection, table: str, key: str) -> None:
        columns = [
            name for (name,) in rows(self.connection, "SELECT name FROM pragma_table_info(?)", (table,))
        ]
        # Texts come as bytes: one that is not UTF-8 must not prevent the copy of its row.
        read = ", ".join(
            f"typeof({c}) = 'text', CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END"
            for c in columns
        )
        # The names are ours, and constants.
        question = f"""
            SELECT {read} FROM {table} NOT INDEXED WHERE {key} BETWEEN ?1 AND ?2 LIMIT ?2 - ?1 + 1
        """  # noqa: S608 - see above
        put = ", ".join(
            f"CASE WHEN ?{at} THEN CAST(?{at + 1} AS TEXT) ELSE ?{at + 1} END"
            for at in range(1, 2 * len(columns), 2)
        )
        insert = f"INSERT OR IGNORE INTO {table} VALUES ({put})"  # noqa: S608 - see above
        last = highest(source, _last(table, key))
        for start, end in chunks(1, last):
            in_sqlite.rest()
            for found in around(lambda a, b: rows(source, question, (a, b)), start, end):
                if isinstance(found, Gap):
                    self.lost[table] = self.lost.get(table, 0) + 1
                    continue
                with contextlib.suppress(apsw.ConstraintError):  # a damaged row has the key of another
                    run(self.connection, insert, found)


def _last(table: str, key: str) -> tuple[str, ...]:
    by_table = f"SELECT max({key}) FROM {table}"  # noqa: S608 - of constants
    if table == "owner":
        return (by_table,)
    return by_table, f"{by_table} INDEXED BY sqlite_autoindex_{table}_1"
