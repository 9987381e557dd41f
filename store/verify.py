"""A look at every byte that matters: pages, chains, headers, inboxes."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import apsw

from .batch import dead_letter_seal, signal_seal
from .checksum import first_link, link
from .contract import Corruption, InboxEntry, StreamState
from .queries import text
from .statements import rows
from .streams import header_seal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .statements import Row
    from .words import WordReader

_PAGE: Final = 1000
"""Rows that are looked at with one query."""
_NOTHING: Final[tuple[int, tuple[Row, ...]]] = (2**63, ())

_HEADERS: Final = """
SELECT id, CAST(name AS BLOB), type, status, state, alarm, wake_at, version, created_at, seal
FROM stream WHERE id > ? ORDER BY id LIMIT ?
"""
_RECORDS: Final = """
SELECT stream, version, at, kind, chain, CAST(data AS BLOB)
FROM record WHERE (stream, version) > (?, ?) AND stream <= ? ORDER BY stream, version LIMIT ?
"""
_ORPHANS: Final = "SELECT DISTINCT stream FROM record WHERE stream NOT IN (SELECT id FROM stream)"
_SIGNALS: Final = """
SELECT i.id, i.stream, CAST(s.name AS BLOB), i.at, CAST(i.name AS BLOB), CAST(i.key AS BLOB),
  CAST(i.data AS BLOB), i.seal
FROM inbox i LEFT JOIN stream s ON s.id = i.stream
WHERE i.id > ? ORDER BY i.id LIMIT ?
"""
_FORGOTTEN: Final = """
SELECT CAST(s.name AS BLOB) FROM stream s
WHERE s.state = ? AND (SELECT min(id) FROM inbox WHERE stream = s.id AND settled IS NULL) IS NOT NULL
  AND (s.wake_at IS NULL OR s.wake_at > (
    SELECT at FROM inbox WHERE stream = s.id AND settled IS NULL ORDER BY id LIMIT 1))
"""
_DEAD: Final = """
SELECT d.id, d.inbox, d.at, CAST(d.reason AS BLOB), d.seal, CAST(s.name AS BLOB)
FROM dead_letter d
LEFT JOIN inbox i ON i.id = d.inbox
LEFT JOIN stream s ON s.id = i.stream
WHERE d.id > ? ORDER BY d.id LIMIT ?
"""


class Verification:
    """One pass over a store; it may go on being written meanwhile."""

    def __init__(self, connection: apsw.Connection, words: WordReader) -> None:
        self._connection = connection
        self._words = words
        self.findings: list[Corruption] = []

    def run(self) -> list[Corruption]:
        """Look at everything, also behind what is found."""
        for part in (
            self._pages,
            self._streams,
            self._orphans,
            self._signals,
            self._forgotten,
            self._dead_letters,
        ):
            try:
                part()
            except apsw.Error as error:
                self._find(None, None, f"the file cannot be read: {error}")
        return self.findings

    def _find(self, stream: str | None, version: int | None, reason: str) -> None:
        self.findings.append(Corruption(stream, version, reason))

    def _pages(self) -> None:
        for (finding,) in rows(self._connection, "PRAGMA integrity_check"):
            if finding != "ok":
                self._find(None, None, str(finding))

    def _paged(self, query: str) -> Iterator[list[Row]]:
        last = 0
        while page := rows(self._connection, query, (last, _PAGE)):
            yield page
            last = page[-1][0]

    # Streams

    def _streams(self) -> None:
        for headers in self._paged(_HEADERS):
            before = len(self.findings)
            try:
                self._look_at(headers)
            except apsw.CorruptError:
                # One by one, to tell whose records cannot be read.
                del self.findings[before:]
                for header in headers:
                    self._look_at_damaged(header)

    def _look_at_damaged(self, header: Row) -> None:
        try:
            self._look_at([header])
        except apsw.CorruptError as error:
            self._find(text(header[1]), None, f"its records cannot be read: {error}")

    def _look_at(self, headers: list[Row]) -> None:
        groups = groupby(self._records(headers[0][0], headers[-1][0]), itemgetter(0))
        key, records = next(groups, _NOTHING)
        for header in headers:
            while key < header[0]:
                key, records = next(groups, _NOTHING)
            self._stream(header, records if key == header[0] else ())

    def _records(self, first: int, last: int) -> Iterator[Row]:
        # A stream may be longer than what should be in memory at once.
        behind = (first, 0)
        while page := rows(self._connection, _RECORDS, (*behind, last, _PAGE)):
            yield from page
            behind = page[-1][:2]

    def _stream(self, header: Row, records: Iterable[Row]) -> None:
        _, stored_name, kind, status, *numbers, sealed = header
        name = text(stored_name)
        words = (self._word(kind)[0], self._word(status)[0])
        if sealed != header_seal(name, *words, tuple(numbers)):
            self._find(name, None, "the header does not match its checksum")
        version = self._chain(name, records)
        if version < numbers[3]:
            self._find(name, version + 1, f"the last records are missing: the header was at {numbers[3]}")

    def _word(self, key: int) -> tuple[str, bytes]:
        return self._words.word(self._connection, key)

    def _chain(self, name: str, records: Iterable[Row]) -> int:
        expected, before = 0, first_link(name)
        for _, version, at, kind, chain, data in records:
            expected += 1
            if version != expected:
                self._find(name, expected, "the record is missing")
                expected = version
            elif chain != link(before, version, at, self._word(kind)[1], data):
                self._find(name, version, "the record does not match its checksum")
            before = chain
        return expected

    def _orphans(self) -> None:
        for (key,) in rows(self._connection, _ORPHANS):
            self._find(None, None, f"there are records of a stream {key}, which has no header")

    # Signals

    def _signals(self) -> None:
        for page in self._paged(_SIGNALS):
            for number, stream, stored_name, at, name, key, data, sealed in page:
                entry = InboxEntry(number, at, text(name), text(key), data)
                if sealed != signal_seal(stream, entry):
                    self._find(text(stored_name), None, f"signal {number} does not match its checksum")

    def _forgotten(self) -> None:
        for (name,) in rows(self._connection, _FORGOTTEN, (int(StreamState.OPEN),)):
            self._find(text(name), None, "a signal waits, and the header says that nothing is due")

    def _dead_letters(self) -> None:
        for page in self._paged(_DEAD):
            for number, signal, at, reason, sealed, stream in page:
                if sealed != dead_letter_seal(signal, at, text(reason)):
                    self._find(text(stream), None, f"dead letter {number} does not match its checksum")
