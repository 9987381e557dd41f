"""Kinds, types and statuses: names that occur again and again, kept once in the file."""

from __future__ import annotations

from typing import Final, NamedTuple

import apsw

from .checksum import framed
from .statements import rows, text, value

# As bytes: a word that was damaged must not keep the store from being opened.
_WORDS: Final = "SELECT id, CAST(word AS BLOB) FROM word NOT INDEXED"


class Word(NamedTuple):
    """A word's number, and how checksums see it."""

    id: int
    framed: bytes


class WordWriter(dict[str, Word]):
    """The writer's words; looking up a new one writes it, within the transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        """The words by their numbers."""
        self._connection = connection
        for key, stored in rows(connection, _WORDS):
            word, seen = _decoded(stored)
            self[word] = Word(key, seen)
            self.names[key] = word

    def __missing__(self, word: str) -> Word:
        seen = framed(word)
        key = value(self._connection, "INSERT INTO word (word) VALUES (?) RETURNING id", (word,))
        entry = self[word] = Word(key, seen)
        self.names[key] = word
        return entry


class WordReader:
    """The readers' words; only ever what was committed."""

    def __init__(self) -> None:
        self._words: dict[int, tuple[str, bytes]] = {}

    def word(self, connection: apsw.Connection, key: int) -> tuple[str, bytes]:
        """Return the word, and how checksums see it; one that is not there is told by its number."""
        known = self._words.get(key)
        if known is None:
            stored = rows(connection, _WORDS)
            self._words = {found: _decoded(word) for found, word in stored}
            known = self._words.get(key) or (f"word {key}?", b"")
        return known

    def key(self, connection: apsw.Connection, word: str) -> int | None:
        """Return the word's number, or None when nothing was ever called so."""
        try:
            return value(connection, "SELECT id FROM word WHERE word = ?", (word,))
        except apsw.CorruptError:  # of the index: there are few, and they can be looked through
            stored = word.encode()
            return next((key for key, found in rows(connection, _WORDS) if found == stored), None)


def _decoded(stored: bytes | None) -> tuple[str, bytes]:
    word = text(stored)
    return word, framed(word)
