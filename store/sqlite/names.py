"""Kinds, types and statuses: repeated names, kept once in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import apsw

from .checksum import first_link, framed, header_seal, is_linked
from .statements import rows, text, value

if TYPE_CHECKING:
    from .statements import Row

# As bytes: a damaged word must not prevent opening the store.
_WORDS: Final = "SELECT id, CAST(word AS BLOB) FROM word NOT INDEXED"
_BY_INDEX: Final = "SELECT id, CAST(word AS BLOB) FROM word INDEXED BY sqlite_autoindex_word_1"
# Several users of a word, since one of them may be damaged itself.
_STREAMS: Final = """
SELECT CAST(s.name AS BLOB), CAST(t.word AS BLOB), CAST(w.word AS BLOB), s.type, s.status,
  s.state, s.alarm, s.wake_at, s.version, s.created_at, s.seal
FROM stream s NOT INDEXED
LEFT JOIN word t NOT INDEXED ON t.id = s.type LEFT JOIN word w NOT INDEXED ON w.id = s.status
WHERE ?1 IN (s.type, s.status) LIMIT 20
"""
_RECORDS: Final = """
SELECT r.version, r.at, r.chain, CAST(r.data AS BLOB), CAST(s.name AS BLOB), b.chain
FROM record r NOT INDEXED
LEFT JOIN stream s ON s.id = r.stream LEFT JOIN record b ON b.stream = r.stream AND b.version = r.version - 1
WHERE r.position IN (?, ?, ?)
"""
# Of each kind the first record, the last one, and one more.
_WITNESSES: Final = """
SELECT kind, min(position), max(position), max(CASE position % 7 WHEN 3 THEN position END)
FROM record NOT INDEXED GROUP BY kind
"""


class NameEntry(NamedTuple):
    """A word's number, and its form in checksums."""

    id: int
    framed: bytes


class NameTableWriter(dict[str, NameEntry]):
    """The writer's words. Looking up a new one writes it, within the transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        """The words by their numbers."""
        self._connection = connection
        for key, stored in rows(connection, _WORDS):
            word, seen = _decoded(stored)
            self[word] = NameEntry(key, seen)
            self.names[key] = word

    def __missing__(self, word: str) -> NameEntry:
        seen = framed(word)
        key = value(self._connection, "INSERT INTO word (word) VALUES (?) RETURNING id", (word,))
        entry = self[word] = NameEntry(key, seen)
        self.names[key] = word
        return entry


class NameTableReader:
    """The readers' words: only committed ones."""

    def __init__(self) -> None:
        self._words: dict[int, tuple[str, bytes]] = {}

    def word(self, connection: apsw.Connection, key: int) -> tuple[str, bytes]:
        """Return the word and its form in checksums; a missing word is replaced by its number."""
        known = self._words.get(key)
        if known is None:
            stored = rows(connection, _WORDS)
            self._words = {found: _decoded(word) for found, word in stored}
            known = self._words.get(key) or (f"word {key}?", b"")
        return known

    def key(self, connection: apsw.Connection, word: str) -> int | None:
        """Return the word's number, or None if there is no such word."""
        try:
            return value(connection, "SELECT id FROM word WHERE word = ?", (word,))
        except apsw.CorruptError:  # of the index: there are few, and they can be looked through
            stored = word.encode()
            return next((key for key, found in rows(connection, _WORDS) if found == stored), None)


def damaged_words(connection: apsw.Connection) -> list[str]:
    """Return the words that are not what was written, according to their uses; it reads all tables.

    Raises:
        apsw.CorruptError: they cannot be read.
    """
    words = {key: text(stored) for key, stored in rows(connection, _WORDS)}
    by_index = {key: text(stored) for key, stored in rows(connection, _BY_INDEX)}
    witnesses = _witnesses(connection)
    damaged = [f"word {kind}?" for kind in witnesses if kind not in words]
    for key, word in words.items():
        verdicts = _verdicts(connection, (key, word), witnesses)
        # A single user of it may be damaged itself.
        is_doubtful = len(verdicts) > 1 or by_index.get(key, word) != word
        if is_doubtful and not any(verdicts):
            damaged.append(word)
    return damaged


def may_be_right(connection: apsw.Connection, words: list[tuple[int, str]]) -> bool:
    """Return whether nothing speaks against any of these words; see `damaged_words`."""
    witnesses = _witnesses(connection)
    verdicts = [_verdicts(connection, word, witnesses) for word in words]
    return all(any(told) for told in verdicts if told)


def _witnesses(connection: apsw.Connection) -> dict[int, Row]:
    return {kind: tuple(positions) for kind, *positions in rows(connection, _WITNESSES)}


def _verdicts(connection: apsw.Connection, word: tuple[int, str], witnesses: dict[int, Row]) -> list[bool]:
    """Check by the checksums of some uses of a word whether it is the right one."""
    found = _told_by_streams(connection, *word)
    if word[0] in witnesses:
        found += _told_by_records(connection, word[1], witnesses[word[0]])
    return found


def _told_by_streams(connection: apsw.Connection, key: int, word: str) -> list[bool]:
    verdicts: list[bool] = []
    for name, its_kind, its_status, kind, status, *numbers, sealed in rows(connection, _STREAMS, (key,)):
        words = word if kind == key else text(its_kind), word if status == key else text(its_status)
        verdicts.append(sealed == header_seal(text(name), *words, tuple(numbers)))
    return verdicts


def _told_by_records(connection: apsw.Connection, word: str, positions: Row) -> list[bool]:
    seen = framed(word)
    return [
        is_linked(chain, first_link(text(name)) if version == 1 else before or b"", (version, at, seen, data))
        for version, at, chain, data, name, before in rows(connection, _RECORDS, positions)
    ]


def _decoded(stored: bytes | None) -> tuple[str, bytes]:
    word = text(stored)
    return word, framed(word)
