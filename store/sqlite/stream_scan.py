"""The records of streams in the file, each checked against its checksum.

A record that is not as it was written is a finding, which the caller handles: `verify` collects findings and
continues, an export skips the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import apsw

from ..contract import NewRecord
from .checksum import first_link, is_linked
from .statements import check_order, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .names import NameTableReader
    from .statements import Row

T = TypeVar("T")

_PAGE: Final = 1000
"""Records per query."""
_RECORDS: Final = """
SELECT stream, version, at, kind, chain, CAST(data AS BLOB)
FROM record WHERE (stream, version) > (?, ?) AND stream <= ? ORDER BY stream, version LIMIT ?
"""


class Lender(Protocol):
    """Runs a query on a connection, in a short transaction. Errors of SQLite pass through."""

    def __call__(self, question: Callable[[apsw.Connection], T], /) -> T: ...


class StreamScan:
    """Reads streams. `find` receives findings: the stream, the version or None, and what is wrong."""

    def __init__(
        self, ask: Lender, words: NameTableReader, find: Callable[[str, int | None, str], None]
    ) -> None:
        self._ask = ask
        self._words = words
        self._find = find
        self._known: dict[int, tuple[str, bytes]] = {}

    def word(self, key: int) -> tuple[str, bytes]:
        """Return a word, and its form in checksums."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._ask(lambda connection: self._words.word(connection, key))
        return known

    def stored(self, first: int, last: int) -> Iterator[list[Row]]:
        """Read the records of streams with numbers in a range, unchecked, each with its stream."""
        behind = (first, 0)  # a stream may be longer than what should be in memory at once
        while page := self._page((*behind, last, _PAGE)):
            check_order([behind, *(row[:2] for row in page)])
            yield page
            behind = page[-1][:2]
            if len(page) < _PAGE:
                return

    def _page(self, values: Row) -> list[Row]:
        return self._ask(lambda connection: rows(connection, _RECORDS, values))

    def records(self, name: str, version: object, stored: Iterable[Row]) -> Iterator[NewRecord]:
        """Check the records of one stream; `version` is the one in its header."""
        expected, before = 0, first_link(name)
        for _, number, at, kind, chain, data in stored:
            if not isinstance(number, int):
                raise apsw.CorruptError("the index of records holds something that is not a number")
            expected += 1
            word, framed = self.word(kind)
            if number != expected:
                self._find(name, expected, "the record is missing")
                expected = number
            elif not is_linked(chain, before, (number, at, framed, data)):
                self._find(name, number, "the record does not match its checksum")
            yield NewRecord(at, word, data)
            before = chain
        if isinstance(version, int) and expected < version:
            self._find(name, expected + 1, f"the last records are missing: the header was at {version}")
