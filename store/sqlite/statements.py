"""Running statements: every answer is read to its end, since an open cursor would hold up checkpoints.

APSW's stubs leave parts of its types open; they are closed here, in one place.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import contextlib
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import apsw

if TYPE_CHECKING:
    from collections.abc import Sequence

Row: TypeAlias = tuple[Any, ...]


def rows(connection: apsw.Connection, statement: str, values: Row = ()) -> list[Row]:
    """Run a statement, and return all rows of its answer.

    A column of a damaged file may hold another type than it was declared with; that a text is not UTF-8,
    which APSW finds out by itself, is told as `apsw.CorruptError`.
    """
    try:
        return connection.execute(statement, values).fetchall()
    except UnicodeDecodeError as error:
        raise apsw.CorruptError(f"a text is not UTF-8: {error.reason}") from error


def value(connection: apsw.Connection, statement: str, values: Row = ()) -> Any:
    """Run a statement, and return the one value of its answer, None when there is no row; see `rows`."""
    found = rows(connection, statement, values)
    return found[0][0] if found else None


def check_order(keys: Sequence[Any]) -> None:
    """Look at keys that an index has told, from the one before them on.

    Raises:
        apsw.CorruptError: they do not rise. Who reads page by page would be led round in a circle.
    """
    try:
        is_in_order = all(before < key for before, key in pairwise(keys))
    except TypeError:
        is_in_order = False
    if not is_in_order:
        raise apsw.CorruptError("the rows are out of order")


def text(stored: bytes | None) -> str:
    """Decode a text that was read as bytes, whatever has become of it."""
    return "?" if stored is None else stored.decode(errors="replace")


def run(connection: apsw.Connection, statement: str, values: Row = ()) -> None:
    """Run a statement that answers nothing."""
    connection.execute(statement, values).fetchall()


def run_for_each(connection: apsw.Connection, statement: str, values: Sequence[Row]) -> None:
    """Run a statement that answers nothing, once for each row of values."""
    connection.executemany(statement, values)


# So many rows go into one statement; each size is a statement of its own in APSW's cache.
_SIZES: Final = (64, 16, 4, 2, 1)


class Insert:
    """An `INSERT ... VALUES (?, ...)` of many rows, with as few statements as can be.

    Between the rows of `executemany` APSW lets go of the GIL, and any thread that computes may then
    keep it for a switch interval: that would cost more than all the rest of a commit.
    """

    def __init__(self, table: str, *columns: str) -> None:
        # The names are ours, and constants.
        head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - no value is put into it
        row = f"({', '.join('?' * len(columns))})"
        self._statements = [(size, head + ", ".join([row] * size)) for size in _SIZES]

    def run(self, connection: apsw.Connection, values: Sequence[Row]) -> None:
        """Insert all rows, in order."""
        done = 0
        for size, statement in self._statements:
            while len(values) - done >= size:
                flat = tuple(chain.from_iterable(values[done : done + size]))
                connection.execute(statement, flat).fetchall()
                done += size


def roll_back(connection: apsw.Connection) -> None:
    """End a transaction that failed, whatever is left of it."""
    # After some errors SQLite has rolled back by itself; a statement more would then commit on its own.
    with contextlib.suppress(apsw.Error):
        if connection.in_transaction:
            run(connection, "ROLLBACK")
