"""Indexes that do not fit their tables, and whether they can be rebuilt without losing anything.

An index is a second copy of a part of its table, so each has what the other has lost. If the rows that an
index lacks match their checksums, the index is wrong, and can be rebuilt from them. If they do not, the index
may be right, and stays as it is.

The check reads whole tables. It runs once, after the first damage.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import apsw

from ..contract import InboxEntry
from .checksum import dead_letter_seal, first_link, framed, header_seal, is_linked, signal_seal
from .names import may_be_right
from .salvage import asked, chunks, last_position
from .statements import rows, run, text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import TypeAlias

    from .statements import Row

    _Judge: TypeAlias = Callable[[apsw.Connection, list[Row]], bool]

_STRAYS: Final = 1_000
"""An index that lacks this many rows is wrong, whether all of them are sound or not."""

# These read a whole index, with the parts of long texts on other pages.
_WHOLE: Final = {
    "sqlite_autoindex_word_1": (
        "SELECT total(length(word || '')) FROM word INDEXED BY sqlite_autoindex_word_1"
    ),
    "sqlite_autoindex_stream_1": (
        "SELECT total(length(name || '')) FROM stream INDEXED BY sqlite_autoindex_stream_1"
    ),
    "stream_due": "SELECT total(wake_at) FROM stream INDEXED BY stream_due WHERE wake_at IS NOT NULL",
    "sqlite_autoindex_record_1": (
        "SELECT total(stream + version) FROM record INDEXED BY sqlite_autoindex_record_1"
    ),
    "sqlite_autoindex_inbox_1": (
        "SELECT total(length(key || '')) FROM inbox INDEXED BY sqlite_autoindex_inbox_1"
    ),
    "inbox_waiting": "SELECT total(stream) FROM inbox INDEXED BY inbox_waiting WHERE settled IS NULL",
    "sqlite_autoindex_dead_letter_1": (
        "SELECT total(inbox) FROM dead_letter INDEXED BY sqlite_autoindex_dead_letter_1"
    ),
}
# The rows that an index lacks, in the order in which they were written.
_ASTRAY: Final = {
    "sqlite_autoindex_word_1": """
        SELECT w.id, CAST(w.word AS BLOB) FROM word w NOT INDEXED WHERE NOT EXISTS (
          SELECT 1 FROM word i INDEXED BY sqlite_autoindex_word_1 WHERE i.word = w.word AND i.id = w.id)
    """,
    "sqlite_autoindex_stream_1": """
        SELECT CAST(s.name AS BLOB), CAST(t.word AS BLOB), CAST(w.word AS BLOB),
          s.state, s.alarm, s.wake_at, s.version, s.created_at, s.seal
        FROM stream s NOT INDEXED LEFT JOIN word t ON t.id = s.type LEFT JOIN word w ON w.id = s.status
        WHERE NOT EXISTS (
          SELECT 1 FROM stream n INDEXED BY sqlite_autoindex_stream_1 WHERE n.name = s.name AND n.id = s.id)
    """,
    "stream_due": """
        SELECT 1 FROM stream s NOT INDEXED WHERE s.wake_at IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM stream d INDEXED BY stream_due WHERE d.wake_at = s.wake_at AND d.id = s.id)
    """,
    "sqlite_autoindex_record_1": """
        SELECT r.stream, r.version, r.at, CAST(w.word AS BLOB), r.chain, CAST(r.data AS BLOB),
          CAST(s.name AS BLOB)
        FROM record r NOT INDEXED LEFT JOIN word w ON w.id = r.kind LEFT JOIN stream s ON s.id = r.stream
        WHERE NOT EXISTS (
          SELECT 1 FROM record i INDEXED BY sqlite_autoindex_record_1
          WHERE i.stream = r.stream AND i.version = r.version AND i.position = r.position)
    """,
    "sqlite_autoindex_inbox_1": """
        SELECT i.stream, i.id, i.at, CAST(i.name AS BLOB), CAST(i.key AS BLOB), CAST(i.data AS BLOB), i.seal
        FROM inbox i NOT INDEXED WHERE NOT EXISTS (
          SELECT 1 FROM inbox k INDEXED BY sqlite_autoindex_inbox_1
          WHERE k.stream = i.stream AND k.key = i.key AND k.id = i.id)
    """,
    "inbox_waiting": """
        SELECT 1 FROM inbox i NOT INDEXED WHERE i.settled IS NULL AND NOT EXISTS (
          SELECT 1 FROM inbox w INDEXED BY inbox_waiting
          WHERE w.stream = i.stream AND w.settled IS NULL AND w.id = i.id)
    """,
    "sqlite_autoindex_dead_letter_1": """
        SELECT d.inbox, d.at, CAST(d.reason AS BLOB), d.seal FROM dead_letter d NOT INDEXED WHERE NOT EXISTS (
          SELECT 1 FROM dead_letter i INDEXED BY sqlite_autoindex_dead_letter_1
          WHERE i.inbox = d.inbox AND i.id = d.id)
    """,
}
_LINKS: Final = """
SELECT stream, version, chain FROM record NOT INDEXED WHERE position BETWEEN ?1 AND ?2 LIMIT ?2 - ?1 + 1
"""


class DamagedIndex(NamedTuple):
    """An index that cannot be read, or lacks rows of its table."""

    name: str
    is_readable: bool


def damaged_indexes(connection: apsw.Connection) -> list[DamagedIndex]:
    """Compare each index with its table, and return those that do not fit."""
    return [index for name in _WHOLE if (index := _compared(connection, name)) is not None]


def _compared(connection: apsw.Connection, name: str) -> DamagedIndex | None:
    if _some(connection, _WHOLE[name]) is None:
        return DamagedIndex(name, is_readable=False)
    strays = _some(connection, _ASTRAY[name])
    if strays is None:
        # A lookup failed. If the table can be read, the damage is in the index.
        by_table = _WHOLE[name].replace(f"INDEXED BY {name}", "NOT INDEXED")
        return None if _some(connection, by_table) is None else DamagedIndex(name, is_readable=False)
    is_to_blame = len(strays) == _STRAYS or (strays and _is_sound(connection, name, strays))
    return DamagedIndex(name, is_readable=True) if is_to_blame else None


def _some(connection: apsw.Connection, statement: str) -> list[Row] | None:
    return asked(connection, f"{statement} LIMIT {_STRAYS}")


def _is_sound(connection: apsw.Connection, name: str, strays: list[Row]) -> bool:
    try:
        return _JUDGES[name](connection, strays)
    except apsw.CorruptError:
        return False


def _are_words_sound(connection: apsw.Connection, found: list[Row]) -> bool:
    return may_be_right(connection, [(key, text(word)) for key, word in found])


def _needs_no_proof(_connection: apsw.Connection, _found: list[Row]) -> bool:
    """Return True: the index holds nothing by which a row could be repaired."""
    return True


def _are_streams_sound(_connection: apsw.Connection, found: list[Row]) -> bool:
    return all(
        sealed == header_seal(text(name), text(kind), text(status), tuple(numbers))
        for name, kind, status, *numbers, sealed in found
    )


def _are_records_sound(connection: apsw.Connection, found: list[Row]) -> bool:
    wanted = {(stream, version - 1) for stream, version, *_ in found}
    before = {
        (stream, version): chain
        for stream, version, chain in _links(connection)
        if (stream, version) in wanted
    }
    for stream, version, at, kind, chain, data, name in found:
        start = first_link(text(name)) if version == 1 else before.get((stream, version - 1))
        if start is None or not is_linked(chain, start, (version, at, framed(text(kind)), data)):
            return False
    return True


def _links(connection: apsw.Connection) -> Iterator[Row]:
    for start, end in chunks(1, last_position(connection)):
        yield from rows(connection, _LINKS, (start, end))


def _are_signals_sound(_connection: apsw.Connection, found: list[Row]) -> bool:
    return all(
        sealed == signal_seal(stream, InboxEntry(number, at, text(name), text(key), data))
        for stream, number, at, name, key, data, sealed in found
    )


def _are_dead_letters_sound(_connection: apsw.Connection, found: list[Row]) -> bool:
    return all(sealed == dead_letter_seal(signal, at, text(reason)) for signal, at, reason, sealed in found)


_JUDGES: Final[dict[str, _Judge]] = {
    "sqlite_autoindex_word_1": _are_words_sound,
    "sqlite_autoindex_stream_1": _are_streams_sound,
    "stream_due": _needs_no_proof,
    "sqlite_autoindex_record_1": _are_records_sound,
    "sqlite_autoindex_inbox_1": _are_signals_sound,
    "inbox_waiting": _needs_no_proof,
    "sqlite_autoindex_dead_letter_1": _are_dead_letters_sound,
}


# How to create each. Those of a table cannot be dropped, but equal an index with another name.
_MADE: Final = {
    "sqlite_autoindex_word_1": "CREATE UNIQUE INDEX {} ON word (word)",
    "sqlite_autoindex_stream_1": "CREATE UNIQUE INDEX {} ON stream (name)",
    "stream_due": "CREATE INDEX {} ON stream (wake_at) WHERE wake_at IS NOT NULL",
    "sqlite_autoindex_record_1": "CREATE UNIQUE INDEX {} ON record (stream, version)",
    "sqlite_autoindex_inbox_1": "CREATE UNIQUE INDEX {} ON inbox (stream, key)",
    "inbox_waiting": "CREATE INDEX {} ON inbox (stream) WHERE settled IS NULL",
    "sqlite_autoindex_dead_letter_1": "CREATE UNIQUE INDEX {} ON dead_letter (inbox)",
}
_ANOTHER: Final = "persistasaurus_made_anew"
_TAKE_ROOT: Final = """
UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = ?) WHERE name = ?
"""


def make_anew(connection: apsw.Connection, index: DamagedIndex) -> None:
    """Rebuild an index from its table, in a transaction that the caller begins and commits.

    SQLite replaces a readable index. An unreadable one may lead anywhere, and clearing it could destroy pages
    of others: it stays unused in the file, until a VACUUM.

    Raises:
        apsw.CorruptError, apsw.ConstraintError: the table is damaged, too.
    """
    if index.is_readable:
        run(connection, f"REINDEX {index.name}")
        return
    run(connection, _MADE[index.name].format(_ANOTHER))
    with _writable_schema(connection):
        run(connection, _TAKE_ROOT, (_ANOTHER, index.name))
        run(connection, "DELETE FROM sqlite_schema WHERE name = ?", (_ANOTHER,))


@contextmanager
def _writable_schema(connection: apsw.Connection) -> Generator[None]:
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.pragma("writable_schema", "ON")
    try:
        yield
    finally:
        connection.pragma("writable_schema", "RESET")
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
