"""Dead letters, also partly unreadable ones."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import apsw

from ..contract import DeadLetter
from .salvage import Gap, around, asked, highest, names
from .statements import rows, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .statements import Row

_LETTER: Final = """
SELECT d.id, d.at, CAST(s.name AS BLOB), CAST(i.name AS BLOB), CAST(i.key AS BLOB),
  CAST(i.data AS BLOB), CAST(d.reason AS BLOB)
"""
_OF_ALL: Final = f"""
{_LETTER} FROM dead_letter d LEFT JOIN inbox i ON i.id = d.inbox LEFT JOIN stream s ON s.id = i.stream
"""
_BEHIND: Final = f"{_OF_ALL} WHERE d.id > ? ORDER BY d.id LIMIT ?"
# Limited, so that SQLite does not read the page after the last row.
_BETWEEN: Final = f"{_OF_ALL} WHERE d.id BETWEEN ?1 AND ?2 ORDER BY d.id LIMIT ?2 - ?1 + 1"
_OF_ONE: Final = f"""
{_LETTER} FROM stream s JOIN inbox i ON i.stream = s.id JOIN dead_letter d ON d.inbox = i.id
WHERE s.name = ? AND d.id > ? ORDER BY d.id LIMIT ?
"""
_LAST: Final = (
    "SELECT max(id) FROM dead_letter",
    "SELECT max(id) FROM dead_letter INDEXED BY sqlite_autoindex_dead_letter_1",
)
_ALONE: Final = "SELECT inbox, at, CAST(reason AS BLOB) FROM dead_letter NOT INDEXED WHERE id = ?"
_BY_INDEX: Final = "SELECT inbox FROM dead_letter INDEXED BY sqlite_autoindex_dead_letter_1 WHERE id = ?"
_SIGNAL: Final = """
SELECT stream, CAST(key AS BLOB) FROM inbox INDEXED BY sqlite_autoindex_inbox_1 WHERE id = ?
"""
_UNKNOWN: Final = "?"


def dead_letters(connection: apsw.Connection, of: str | None, after: int, limit: int) -> list[DeadLetter]:
    """Return dead letters, with the reason in the place of what cannot be read; see `EventReader`."""
    try:
        found = (
            rows(connection, _BEHIND, (after, limit))
            if of is None
            else rows(connection, _OF_ONE, (of, after, limit))
        )
    except apsw.CorruptError:
        return list(islice(_around(connection, of, after), limit))
    return [_letter(row) for row in found]


def _letter(row: Row) -> DeadLetter:
    number, at, stream, name, key, data, reason = row
    return DeadLetter(number, at, text(stream), text(name), text(key), data or b"", text(reason))


def _around(connection: apsw.Connection, of: str | None, after: int) -> Iterator[DeadLetter]:
    last = highest(connection, _LAST)
    for found in around(lambda a, b: rows(connection, _BETWEEN, (a, b)), after + 1, last):
        letter = _lost(connection, found) if isinstance(found, Gap) else _letter(found)
        if letter is not None and of in (None, letter.stream):
            yield letter


def _lost(connection: apsw.Connection, gap: Gap) -> DeadLetter | None:
    """Return what is left of a dead letter; None if there is none with that number."""
    alone = asked(connection, _ALONE, (gap.key,))
    if alone is None:
        by_index = asked(connection, _BY_INDEX, (gap.key,))
        if by_index == []:
            return None
        signal, at, reason = by_index[0][0] if by_index else None, 0, f"it cannot be read: {gap.reason}"
    else:
        signal, at, told = alone[0]
        reason = f"{text(told)} (its signal cannot be read: {gap.reason})"
    by_index = asked(connection, _SIGNAL, (signal,))
    stream, key = by_index[0] if by_index else (0, None)
    name = names(connection, stream, stream).get(stream, _UNKNOWN)
    return DeadLetter(gap.key, at, name, _UNKNOWN, text(key), b"", reason)
