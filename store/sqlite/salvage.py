"""What can still be read of a damaged file, row by row where necessary.

It is used when a query for many rows has failed. Tables and indexes hold some things twice: the names of
streams, which streams are due, where each record is. One still has what the other has lost.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import apsw

from .statements import rows, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .statements import Row

_CHUNK: Final = 1024

_NAMES: Final = """
SELECT id, CAST(name AS BLOB) FROM stream INDEXED BY sqlite_autoindex_stream_1 WHERE id BETWEEN ? AND ?
"""
# Limited, so that SQLite does not read the page after the last row.
_NAMES_BY_TABLE: Final = """
SELECT id, CAST(name AS BLOB) FROM stream NOT INDEXED WHERE id BETWEEN ?1 AND ?2 LIMIT ?2 - ?1 + 1
"""
_WAKES_BY_TABLE: Final = """
SELECT wake_at, id FROM stream NOT INDEXED WHERE id BETWEEN ?1 AND ?2 AND wake_at IS NOT NULL
LIMIT ?2 - ?1 + 1
"""
_PLACES: Final = """
SELECT position, stream, version FROM record INDEXED BY sqlite_autoindex_record_1
WHERE position BETWEEN ? AND ?
"""
_NEWEST: Final = "SELECT version, at FROM record WHERE stream = ? ORDER BY version DESC LIMIT 1"
_NEWEST_BY_INDEX: Final = "SELECT max(version) FROM record WHERE stream = ?"
_NEWEST_BY_TABLE: Final = "SELECT max(version), at FROM record NOT INDEXED WHERE stream = ?"
_VERSIONS: Final = "SELECT version FROM record WHERE stream = ? AND version >= ? ORDER BY version LIMIT ?"
_RECORD: Final = """
SELECT version, at, kind, chain, CAST(data AS BLOB) FROM record WHERE stream = ? AND version = ?
"""
_RECORDS_BY_TABLE: Final = """
SELECT version, at, kind, chain, CAST(data AS BLOB) FROM record NOT INDEXED
WHERE position BETWEEN ?3 AND ?4 AND stream = ?1 AND version >= ?2 LIMIT ?4 - ?3 + 1
"""
# Each of these has a highest number, but none is reliable alone.
_LAST_STREAM: Final = (
    "SELECT max(id) FROM stream",
    "SELECT stream FROM owner",
    "SELECT max(stream) FROM record",
    "SELECT max(id) FROM stream INDEXED BY sqlite_autoindex_stream_1",
)
_LAST_POSITION: Final = (
    "SELECT max(position) FROM record",
    "SELECT position FROM owner",
    "SELECT max(position) FROM record INDEXED BY sqlite_autoindex_record_1",
)


_LAST_STREAMS: Final = (
    "SELECT ifnull(max(id), 0) FROM stream",
    "SELECT ifnull(max(id), 0) FROM stream INDEXED BY sqlite_autoindex_stream_1 WHERE id > 0",
)
_LAST_SIGNALS: Final = (
    "SELECT ifnull(max(id), 0) FROM inbox",
    "SELECT ifnull(max(id), 0) FROM inbox INDEXED BY sqlite_autoindex_inbox_1 WHERE id > 0",
)


class Gap(NamedTuple):
    """A key whose row, if there is one, cannot be read."""

    key: int
    reason: str


class Newest(NamedTuple):
    """The newest record of a stream as far as it is known, and what is damaged."""

    version: int | None
    at: int | None
    damage: str | None


def chunks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Divide the keys from `first` to `last` into chunks, so that a damaged key costs only its chunk."""
    for start in range(first, last + 1, _CHUNK):
        yield start, min(start + _CHUNK - 1, last)


def around(read: Callable[[int, int], list[Row]], first: int, last: int) -> Iterator[Row | Gap]:
    """Read the rows with keys from `first` to `last`, with a gap for each unreadable one."""
    for start, end in chunks(first, last):
        yield from _around(read, start, end)


def readable(read: Callable[[int, int], list[Row]], last: int) -> Iterator[Row]:
    """Read the readable rows with keys from 1 to `last`."""
    return (row for row in around(read, 1, last) if not isinstance(row, Gap))


def _around(read: Callable[[int, int], list[Row]], first: int, last: int) -> Iterator[Row | Gap]:
    try:
        found = read(first, last)
    except apsw.CorruptError as error:
        if first == last:
            yield Gap(first, str(error))
            return
        middle = (first + last) // 2
        yield from _around(read, first, middle)
        yield from _around(read, middle + 1, last)
    else:
        yield from found


def last_stream(connection: apsw.Connection) -> int:
    """Return an upper bound of the streams' numbers."""
    return highest(connection, _LAST_STREAM)


def last_position(connection: apsw.Connection) -> int:
    """Return an upper bound of the records' positions."""
    return highest(connection, _LAST_POSITION)


def given_out(connection: apsw.Connection) -> tuple[int, int, int]:
    """Return the highest position, and the highest numbers of a stream and of a signal.

    Raises:
        apsw.CorruptError: they are unknown, or no record can be written after the last.
    """
    position = rows(connection, "SELECT ifnull(max(position), 0) FROM record")[0][0]
    return position, _last(connection, _LAST_STREAMS), _last(connection, _LAST_SIGNALS)


def _last(connection: apsw.Connection, questions: tuple[str, str]) -> int:
    by_table, by_index = questions
    found = asked(connection, by_table) or rows(connection, by_index)
    return found[0][0]


def highest(connection: apsw.Connection, questions: tuple[str, ...]) -> int:
    """Return the highest of the numbers that the questions yield, without those that fail."""
    number = 0
    for question in questions:
        found = asked(connection, question)
        if found and isinstance(found[0][0], int):
            number = max(number, found[0][0])
    return number


def asked(connection: apsw.Connection, question: str, values: Row = ()) -> list[Row] | None:
    """Return the rows of an answer; None if they cannot be read."""
    try:
        return rows(connection, question, values)
    except apsw.CorruptError:
        return None


def names(connection: apsw.Connection, first: int, last: int) -> dict[int, str]:
    """Return the names of streams from their index, as many as can be read."""
    return {key: text(name) for key, name in asked(connection, _NAMES, (first, last)) or ()}


def key_by_table(connection: apsw.Connection, name: str) -> int | None:
    """Look up a stream without the index of names."""
    stored = name.encode()
    found = readable(lambda a, b: rows(connection, _NAMES_BY_TABLE, (a, b)), last_stream(connection))
    return next((key for key, other in found if other == stored), None)


def wakes(connection: apsw.Connection) -> list[tuple[int, int]]:
    """Return the `wake_at` and number of each stream that has one, without their index."""
    found = readable(lambda a, b: rows(connection, _WAKES_BY_TABLE, (a, b)), last_stream(connection))
    return sorted((wake_at, key) for wake_at, key in found if isinstance(wake_at, int))


def newest(connection: apsw.Connection, key: int, *, by_table: bool) -> Newest:
    """Return a stream's newest record; `by_table` allows a scan of the whole table if all else fails."""
    try:
        found = rows(connection, _NEWEST, (key,))
    except apsw.CorruptError as error:
        damage = f"its newest record cannot be read: {error}"
    else:
        return Newest(found[0][0], found[0][1], None) if found else Newest(None, None, None)
    found = asked(connection, _NEWEST_BY_INDEX, (key,))
    if found is not None or not by_table:
        return Newest(found[0][0] if found else None, None, damage)
    found = asked(connection, _NEWEST_BY_TABLE, (key,))
    return Newest(None, None, damage) if found is None else Newest(found[0][0], found[0][1], None)


def records(connection: apsw.Connection, key: int, first: int, limit: int) -> Iterator[Row | Gap]:
    """Read a stream's records from a version on, with a gap for each unreadable one.

    The rows are version, instant, kind, chain and data; a limit of -1 means none.
    """
    versions = asked(connection, _VERSIONS, (key, first, limit))
    if versions is None:
        yield from records_by_table(connection, key, first, limit)
        return
    for (version,) in versions:
        if not isinstance(version, int):
            continue
        try:
            found = rows(connection, _RECORD, (key, version))
        except apsw.CorruptError as error:
            yield Gap(version, str(error))
        else:
            # A damaged entry of the index may match its neighbour.
            yield from (row for row in found if row[0] == version)


def records_by_table(connection: apsw.Connection, key: int, first: int, limit: int) -> list[Row]:
    """Search the whole table for a stream's records; see `records`."""

    def read(start: int, end: int) -> list[Row]:
        return rows(connection, _RECORDS_BY_TABLE, (key, first, start, end))

    found = readable(read, last_position(connection))
    left = sorted((row for row in found if isinstance(row[0], int)), key=itemgetter(0))
    return left if limit < 0 else left[:limit]


def by_either_index(connection: apsw.Connection, question: str, values: Row) -> list[Row]:
    """Query the signals of a stream by one of two indexes.

    Raises:
        apsw.CorruptError: neither index can be read, or the signals themselves cannot.
    """
    try:
        return rows(connection, question.format("inbox_waiting"), values)
    except apsw.CorruptError:
        return rows(connection, question.format("sqlite_autoindex_inbox_1"), values)


def places(connection: apsw.Connection, first: int, last: int) -> dict[int, tuple[int, int]] | None:
    """Return the streams and versions of the records at positions; None if they are unknown."""
    found = asked(connection, _PLACES, (first, last))
    return None if found is None else {position: (stream, version) for position, stream, version in found}


def created_at(connection: apsw.Connection, key: int) -> int:
    """Return the instant of a stream's first record; 0 if it is unknown."""
    found = asked(connection, "SELECT at FROM record WHERE stream = ? AND version = 1", (key,))
    return found[0][0] if found and isinstance(found[0][0], int) else 0
