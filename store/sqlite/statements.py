"""Running statements: every answer is read to its end, since an open cursor would delay checkpoints.

APSW's stubs leave parts of its types open; they are closed here, in one place.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import contextlib
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import apsw

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

Row: TypeAlias = tuple[Any, ...]


def rows(connection: apsw.Connection, statement: str, values: Row = ()) -> list[Row]:
    """Run a statement, and return all rows of its answer.

    In a damaged file, a column may hold another type than declared. APSW itself detects text that is not
    UTF-8; it is raised as `apsw.CorruptError`.
    """
    try:
        return connection.execute(statement, values).fetchall()
    except UnicodeDecodeError as error:
        raise apsw.CorruptError(f"a text is not UTF-8: {error.reason}") from error


def value(connection: apsw.Connection, statement: str, values: Row = ()) -> Any:
    """Run a statement, and return the single value of its answer, or None if there is no row; see `rows`."""
    found = rows(connection, statement, values)
    return found[0][0] if found else None


def check_order(keys: Sequence[Any]) -> None:
    """Raise `apsw.CorruptError` unless the keys of an index rise: reading page by page would loop."""
    try:
        is_in_order = all(before < key for before, key in pairwise(keys))
    except TypeError:
        is_in_order = False
    if not is_in_order:
        raise apsw.CorruptError("the rows are out of order")


def text(stored: bytes | None) -> str:
    """Decode a text that was read as bytes, even if it is damaged."""
    return "?" if stored is None else stored.decode(errors="replace")


def run(connection: apsw.Connection, statement: str, values: Row = ()) -> None:
    """Run a statement without an answer."""
    connection.execute(statement, values).fetchall()


def run_for_each(connection: apsw.Connection, statement: str, values: Sequence[Row]) -> None:
    """Run a statement without an answer, once for each row of values."""
    connection.executemany(statement, values)


# The numbers of rows in one statement; each is a statement of its own in APSW's cache.
_SIZES: Final = (64, 16, 4, 2, 1)


class Insert:
    """An `INSERT ... VALUES (?, ...)` of many rows, in as few statements as possible.

    Between the rows of `executemany` APSW releases the GIL, and any computing thread may then keep it for a
    switch interval, which would take longer than the rest of a commit.
    """

    def __init__(self, table: str, *columns: str) -> None:
        # The names are ours, and constants.
        head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - no value is put into it
        row = f"({', '.join('?' * len(columns))})"
        self._statements = [(size, head + ", ".join([row] * size)) for size in _SIZES]

    def run(self, connection: apsw.Connection, values: Sequence[Row]) -> None:
        done = 0
        for size, statement in self._statements:
            while len(values) - done >= size:
                flat = tuple(chain.from_iterable(values[done : done + size]))
                connection.execute(statement, flat).fetchall()
                done += size


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Generator[None]:
    """Write all of a block in one transaction, or nothing; inside another one, as a part of it."""
    if connection.in_transaction:
        yield
        return
    run(connection, "BEGIN IMMEDIATE")
    try:
        yield
        run(connection, "COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: apsw.Connection) -> None:
    """End a failed transaction, whatever is left of it."""
    # After some errors SQLite has rolled back by itself; another statement would then commit on its own.
    with contextlib.suppress(apsw.Error):
        if connection.in_transaction:
            run(connection, "ROLLBACK")
