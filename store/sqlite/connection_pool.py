"""Connections for queries, lent to one thread at a time."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ..files.forking import in_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import apsw

_KEPT: Final = 8


class ReaderPool:
    """Free connections. It needs no lock, since a deque's ends are atomic."""

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._free: deque[apsw.Connection] = deque()
        self._kept = _KEPT

    @contextmanager
    def connection(self) -> Generator[apsw.Connection]:
        """Lend a connection, to be returned without an open cursor."""
        with in_sqlite:
            free = self._free
            try:
                connection = free.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            finally:
                # Another deque means that the store was closed or reopened in the meantime.
                if free is self._free and len(free) < self._kept:
                    free.append(connection)
                else:
                    connection.close()

    def close(self) -> None:
        """Close all connections, and pool none any more."""
        self._kept = 0
        self.renew()

    def renew(self) -> None:
        """Close all connections; those that are lent, on their return."""
        free, self._free = self._free, deque()
        with in_sqlite:
            while free:
                free.pop().close()
