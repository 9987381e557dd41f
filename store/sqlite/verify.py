"""A check of every byte that matters: pages, chains, headers, inboxes.

It reads pages of rows, each in a transaction of its own, so the store can be written to meanwhile and its log
emptied. Comparisons across two of them rely on what only grows: a record stays, and a stream has no records
before it has a header.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import apsw

from ..contract import Corruption, InboxEntry
from ..files.forking import resting
from ..progress import unwatched
from .checksum import dead_letter_seal, header_seal, signal_seal
from .failures import read_failure
from .statements import check_order, rows, text
from .stream_scan import StreamScan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..progress import Progress
    from .names import NameTableReader
    from .statements import Row
    from .stream_scan import Lender

_PAGE: Final = 1000
"""Rows per query."""
_NOTHING: Final[tuple[int, tuple[Row, ...]]] = (2**63, ())
_INSTRUCTIONS: Final = 50_000
"""The check of the pages can be stopped after this many instructions."""
_ROWS_MEANWHILE: Final = 2_000
"""The approximate number of rows checked meanwhile."""
# These say nothing about the file.
_PASSING: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.InterruptError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.ThreadingViolationError,
)

_SIZE: Final = """
SELECT (SELECT ifnull(max(position), 0) FROM record) + (SELECT ifnull(max(id), 0) FROM inbox)
  + (SELECT ifnull(max(id), 0) FROM dead_letter)
"""
_HEADERS: Final = """
SELECT id, CAST(name AS BLOB), type, status, state, alarm, wake_at, version, created_at, seal
FROM stream WHERE id > ? ORDER BY id LIMIT ?
"""
_ORPHANS: Final = """
SELECT DISTINCT stream FROM record WHERE stream > ? AND stream NOT IN (SELECT id FROM stream)
"""
_SIGNALS: Final = """
SELECT i.id, i.stream, CAST(s.name AS BLOB), i.at, CAST(i.name AS BLOB), CAST(i.key AS BLOB),
  CAST(i.data AS BLOB), i.seal
FROM inbox i LEFT JOIN stream s ON s.id = i.stream
WHERE i.id > ? ORDER BY i.id LIMIT ?
"""
# State 0 is open: such a stream is due as soon as a signal waits for it.
_FORGOTTEN: Final = """
SELECT s.id, CAST(s.name AS BLOB),
  s.state = 0 AND (SELECT min(id) FROM inbox WHERE stream = s.id AND settled IS NULL) IS NOT NULL
  AND (s.wake_at IS NULL OR s.wake_at > (
    SELECT at FROM inbox WHERE stream = s.id AND settled IS NULL ORDER BY id LIMIT 1))
FROM stream s WHERE s.id > ? ORDER BY s.id LIMIT ?
"""
_DEAD: Final = """
SELECT d.id, d.inbox, d.at, CAST(d.reason AS BLOB), d.seal, CAST(s.name AS BLOB)
FROM dead_letter d
LEFT JOIN inbox i ON i.id = d.inbox
LEFT JOIN stream s ON s.id = i.stream
WHERE d.id > ? ORDER BY d.id LIMIT ?
"""


class Verification:
    """One pass over a store, which may be written to meanwhile."""

    def __init__(self, ask: Lender, words: NameTableReader, on_progress: Progress | None = None) -> None:
        self._ask = ask
        self._scan = StreamScan(ask, words, self._find)
        self._on_progress = resting(on_progress or unwatched)
        self._rows_in_all = 0
        self._done = 0
        self._last_stream = 0
        self.findings: list[Corruption] = []

    def run(self) -> list[Corruption]:
        """Check everything, and continue after findings.

        Raises:
            StoreHalted: it cannot be read now.
        """
        for part in (
            self._measure,
            self._pages,
            self._streams,
            self._orphans,
            self._signals,
            self._forgotten,
            self._dead_letters,
        ):
            try:
                part()
            except _PASSING as error:
                raise read_failure(error) from error
            except apsw.Error as error:
                self._find(None, None, f"the file cannot be read: {error}")
        self._tell(self._total)
        return self.findings

    def _find(self, stream: str | None, version: int | None, reason: str) -> None:
        self.findings.append(Corruption(stream, version, reason))

    # Progress: the check of the pages takes about as long as that of all rows.

    def _measure(self) -> None:
        self._rows_in_all = self._rows(_SIZE)[0][0]
        self._tell(0)

    @property
    def _total(self) -> int:
        return max(2 * self._rows_in_all, 1)

    def _tell(self, done: int) -> None:
        # Rows added in the meantime are checked as well.
        self._done = max(min(done, self._total), self._done)
        self._on_progress(self._done, self._total)

    # Reading

    def _rows(self, query: str, values: Row = ()) -> list[Row]:
        return self._ask(lambda connection: rows(connection, query, values))

    def _paged(self, query: str) -> Iterator[list[Row]]:
        last = 0
        while page := self._rows(query, (last, _PAGE)):
            check_order([last, *(row[0] for row in page)])
            yield page
            last = page[-1][0]
            if len(page) < _PAGE:  # rows added since do not count
                return

    def _pages(self) -> None:
        for (finding,) in self._ask(self._checked_pages):
            if finding != "ok":
                self._find(None, None, str(finding))
        self._tell(self._rows_in_all)

    def _checked_pages(self, connection: apsw.Connection) -> list[Row]:
        def go_on() -> bool:
            self._tell(min(self._done + _ROWS_MEANWHILE, self._rows_in_all))
            return False

        connection.set_progress_handler(go_on, _INSTRUCTIONS)
        try:
            return rows(connection, "PRAGMA integrity_check")
        finally:
            connection.set_progress_handler(None)

    # Streams

    def _streams(self) -> None:
        for headers in self._paged(_HEADERS):
            before = len(self.findings)
            try:
                self._look_at(headers, self._last_stream)
            except apsw.CorruptError:
                # One by one, to find out whose records cannot be read.
                del self.findings[before:]
                for header in headers:
                    self._look_at_damaged(header)
                    self._last_stream = header[0]
            self._last_stream = headers[-1][0]

    def _look_at_damaged(self, header: Row) -> None:
        try:
            self._look_at([header], self._last_stream)
        except apsw.CorruptError as error:
            self._find(text(header[1]), None, f"its records cannot be read: {error}")

    def _look_at(self, headers: list[Row], before: int) -> None:
        groups = groupby(self._records(before, headers[-1][0]), itemgetter(0))
        key, records = next(groups, _NOTHING)
        for header in headers:
            while key < header[0]:
                self._orphan(key)
                key, records = next(groups, _NOTHING)
            self._stream(header, records if key == header[0] else ())
            if key == header[0]:
                key, records = next(groups, _NOTHING)

    def _records(self, before: int, last: int) -> Iterator[Row]:
        for page in self._scan.stored(before + 1, last):
            yield from page
            self._tell(self._done + len(page))

    def _stream(self, header: Row, stored: Iterable[Row]) -> None:
        _, stored_name, kind, status, *numbers, sealed = header
        name = text(stored_name)
        words = (self._scan.word(kind)[0], self._scan.word(status)[0])
        if sealed != header_seal(name, *words, tuple(numbers)):
            self._find(name, None, "the header does not match its checksum")
        for _ in self._scan.records(name, numbers[3], stored):
            pass

    def _orphans(self) -> None:
        for (key,) in self._rows(_ORPHANS, (self._last_stream,)):
            self._orphan(key)

    def _orphan(self, key: int) -> None:
        self._find(None, None, f"there are records of a stream {key}, which has no header")

    # Signals

    def _signals(self) -> None:
        for page in self._paged(_SIGNALS):
            for number, stream, stored_name, at, name, key, data, sealed in page:
                entry = InboxEntry(number, at, text(name), text(key), data)
                if sealed != signal_seal(stream, entry):
                    self._find(text(stored_name), None, f"signal {number} does not match its checksum")
            self._tell(self._done + len(page))

    def _forgotten(self) -> None:
        for page in self._paged(_FORGOTTEN):
            for _, name, is_forgotten in page:
                if is_forgotten:
                    self._find(text(name), None, "a signal waits, and the header says that nothing is due")

    def _dead_letters(self) -> None:
        for page in self._paged(_DEAD):
            for number, signal, at, reason, sealed, stream in page:
                if sealed != dead_letter_seal(signal, at, text(reason)):
                    self._find(text(stream), None, f"dead letter {number} does not match its checksum")
            self._tell(self._done + len(page))
