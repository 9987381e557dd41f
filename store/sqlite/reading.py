"""What can be asked of a store in a file, whoever asks: its owner, or somebody who only looks."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, TypeVar

import apsw

from ..contract import EventReader
from .dead_letters import dead_letters
from .failures import read_failure
from .names import NameTableReader
from .queries import Queries
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
    """The reading half of a store. Open to every thread; nothing is kept open between two questions."""

    def __init__(self) -> None:
        self._forget_words()

    def _forget_words(self) -> None:
        """Read anew what the words of the file are, since it may be another file."""
        self._words = NameTableReader()
        self._queries = Queries(self._words)

    @abstractmethod
    def _lent(self, question: Callable[[apsw.Connection], T]) -> T:
        """Ask a connection that is nobody else's meanwhile; errors of SQLite are raised as they are."""

    def _asked(self, question: Callable[[apsw.Connection], T]) -> T:
        try:
            return self._lent(question)
        except apsw.Error as error:
            raise read_failure(error) from error

    def header(self, stream: str) -> Header | None:
        """See `EventReader.header`."""
        return self._asked(lambda connection: self._queries.header(connection, stream))

    def headers(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Header]:
        """See `EventReader.headers`."""
        return self._asked(lambda connection: self._queries.headers(connection, (type, status), after, limit))

    def due(self, before: int, *, after: tuple[int, str] | None = None, limit: int = 1000) -> list[Header]:
        """See `EventReader.due`."""
        return self._asked(lambda connection: self._queries.due(connection, before, after, limit))

    def next_wake_at(self) -> int | None:
        """See `EventReader.next_wake_at`."""
        return self._asked(self._queries.next_wake_at)

    def newest_at(self) -> int | None:
        """See `EventReader.newest_at`."""
        return self._asked(self._queries.newest_at)

    def read(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """See `EventReader.read`."""
        return self._asked(lambda connection: self._queries.read(connection, stream, after, limit))

    def read_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord]:
        """See `EventReader.read_all`."""
        return self._asked(lambda connection: self._queries.read_all(connection, after, limit))

    def scan(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record | Unreadable]:
        """See `EventReader.scan`."""
        return self._asked(lambda connection: self._queries.scan(connection, stream, after, limit))

    def scan_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord | Unreadable]:
        """See `EventReader.scan_all`."""
        return self._asked(lambda connection: self._queries.scan_all(connection, after, limit))

    def inbox(self, stream: str, *, limit: int = 1000) -> list[InboxEntry]:
        """See `EventReader.inbox`."""
        return self._asked(lambda connection: self._queries.inbox(connection, stream, limit))

    def load(
        self, streams: Sequence[str], *, records: int = 256, signals: int = 1000
    ) -> list[LoadedStream | Exception | None]:
        """See `EventReader.load`."""
        return self._asked(lambda connection: self._queries.load(connection, streams, (records, signals)))

    def dead_letters(
        self, *, stream: str | None = None, after: int = 0, limit: int = 100
    ) -> list[DeadLetter]:
        """See `EventReader.dead_letters`."""
        return self._asked(lambda connection: dead_letters(connection, stream, after, limit))

    def inspect(self, *, after: int = 0, limit: int = 1000) -> Inspection:
        """See `EventReader.inspect`."""
        return self._asked(lambda connection: self._queries.inspect(connection, after, limit))

    def verify(self, on_progress: Progress | None = None) -> list[Corruption]:
        """See `EventReader.verify`."""
        return Verification(self._lent, self._words, on_progress).run()
