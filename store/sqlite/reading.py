"""Queries of a store in a file, for its owner and for other readers."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, TypeVar

import apsw

from ..contract import EventReader
from .dead_letters import dead_letters
from .failures import read_failure
from .names import NameTableReader
from .queries import Queries
from .statements import value
from .verify import Verification

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..contract import (
        Corruption,
        DeadLetter,
        GlobalRecord,
        Header,
        InboxEntry,
        Inspection,
        LoadedStream,
        Record,
        Unreadable,
    )
    from ..progress import Progress

T = TypeVar("T")


class Reading(EventReader):
    """The reading half of a store. Thread-safe; nothing stays open between two queries."""

    def __init__(self) -> None:
        self._forget_words()

    def _forget_words(self) -> None:
        """Read the words again, as the file may be another one."""
        self._words = NameTableReader()
        self._queries = Queries(self._words)

    @abstractmethod
    def _lent(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask a connection that no other thread uses meanwhile; errors of SQLite pass through."""

    def _asked(self, question: Callable[[apsw.Connection], T]) -> T:
        try:
            return self._lent(question)
        except apsw.Error as error:
            raise read_failure(error) from error

    def header(self, stream: str) -> Header | None:
        return self._asked(lambda connection: self._queries.header(connection, stream))

    def headers(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Header]:
        return self._asked(lambda connection: self._queries.headers(connection, (type, status), after, limit))

    def due(self, before: int, *, after: tuple[int, str] | None = None, limit: int = 1000) -> list[Header]:
        return self._asked(lambda connection: self._queries.due(connection, before, after, limit))

    def next_wake_at(self) -> int | None:
        return self._asked(self._queries.next_wake_at)

    def newest_at(self) -> int | None:
        return self._asked(self._queries.newest_at)

    def read(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record]:
        return self._asked(lambda connection: self._queries.read(connection, stream, after, limit))

    def read_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord]:
        return self._asked(lambda connection: self._queries.read_all(connection, after, limit))

    def position(self) -> int:
        return self._asked(
            lambda connection: value(connection, "SELECT ifnull(max(position), 0) FROM record")
        )

    def scan(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record | Unreadable]:
        return self._asked(lambda connection: self._queries.scan(connection, stream, after, limit))

    def scan_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord | Unreadable]:
        return self._asked(lambda connection: self._queries.scan_all(connection, after, limit))

    def inbox(self, stream: str, *, limit: int = 1000) -> list[InboxEntry]:
        return self._asked(lambda connection: self._queries.inbox(connection, stream, limit))

    def load(
        self, streams: Sequence[str], *, records: int = 256, signals: int = 1000
    ) -> list[LoadedStream | Exception | None]:
        return self._asked(lambda connection: self._queries.load(connection, streams, (records, signals)))

    def dead_letters(
        self, *, stream: str | None = None, after: int = 0, limit: int = 100
    ) -> list[DeadLetter]:
        return self._asked(lambda connection: dead_letters(connection, stream, after, limit))

    def inspect(self, *, after: int = 0, limit: int = 1000) -> Inspection:
        return self._asked(lambda connection: self._queries.inspect(connection, after, limit))

    def verify(self, on_progress: Progress | None = None) -> list[Corruption]:
        return Verification(self._lent, self._words, on_progress).run()
