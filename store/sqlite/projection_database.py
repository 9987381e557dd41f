"""What a projection's code gets to see of its file: its own tables, for the time of one event.

SQLite asks about each part of a statement before it runs it, so no wording gets around the limits. The
engine's own statements are not kept among the prepared ones, where a projection's code would find them.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import apsw

from ..errors import ProjectionDamaged, QueryFailed, StoreError, StoreFull, StoreHalted
from ..files.forking import in_sqlite

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from .statements import Row

OWN_PREFIX: Final = "persistasaurus_"
"""Tables whose names begin like this are the engine's."""

_READS: Final = {apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE}
_WRITES: Final = {apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE}
_DEFINES: Final = {
    apsw.SQLITE_CREATE_INDEX,
    apsw.SQLITE_CREATE_TABLE,
    apsw.SQLITE_CREATE_TRIGGER,
    apsw.SQLITE_CREATE_VIEW,
    apsw.SQLITE_CREATE_VTABLE,
    apsw.SQLITE_REINDEX,
}
_NAMING: Final = {apsw.SQLITE_READ, *_WRITES, *_DEFINES}
"""Actions whose first name is that of a table, an index, a view or a trigger."""
_SCHEMA_TABLES: Final = {"sqlite_master", "sqlite_schema"}
_INSTEAD: Final = {
    apsw.SQLITE_ATTACH: "attach another file: it has its own, and nothing else",
    apsw.SQLITE_DETACH: "detach a file",
    apsw.SQLITE_TRANSACTION: "begin or end a transaction: the engine commits what on() has written, together"
    " with the position",
    apsw.SQLITE_SAVEPOINT: "use savepoints: what on() raises rolls everything back",
    apsw.SQLITE_PRAGMA: "use PRAGMA",
}
_NOT_HERE: Final = "define or drop anything here: tables are defined in `schema`"
_ASKED_BY_INDEXES: Final = {"data_version", "page_size"}
"""What the full-text and the spatial index of SQLite look up."""
_BUSY: Final = (apsw.BusyError, apsw.LockedError)
_PASSING: Final = (apsw.IOError, apsw.CantOpenError, apsw.NoMemError, apsw.ReadOnlyError)


class ProjectionDatabase:
    """The tables of one projection. It is lent to `on`, for the time of one call, on its thread."""

    def __init__(self, connection: apsw.Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._is_lent = False
        self._is_defining = False
        self._refused: str | None = None
        self._failure: StoreError | None = None
        """What the file itself has failed with, even if the code has caught it."""
        connection.authorizer = self._judge

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement, and return all rows of its answer.

        A `datetime` among the values is stored as text in ISO 8601; all others are SQLite's own types.

        Raises:
            QueryFailed: it would leave the projection's own tables, or end the transaction.
            apsw.Error: SQLite cannot run it.
            StoreError: the file cannot be used now, or is damaged; everything is rolled back and tried again.
        """
        with self._running():
            return self._connection.execute(statement, _stored(values)).fetchall()

    def executemany(self, statement: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each row of values; see `execute`."""
        with self._running():
            self._connection.executemany(statement, [_stored(row) for row in values])

    @contextmanager
    def lent(self) -> Generator[None]:
        """Let the code in, for the time of the block.

        Raises:
            StoreError: the file has failed meanwhile.
            QueryFailed: a statement has ended the transaction.
        """
        self._is_lent, self._failure = True, None
        try:
            yield
        except Exception:
            # Whatever the code has made of it: the file is to blame, and not the code.
            self._check_failure()
            raise
        else:
            self._check_failure()
            self._check_transaction()
        finally:
            self._is_lent = False

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_transaction(self) -> None:
        if not self._connection.in_transaction:
            raise QueryFailed(f"projection {self._name!r}: a statement has rolled back everything")

    def define(self, schema: str) -> None:
        """Run a schema.

        Raises:
            QueryFailed: it cannot be run, or does more than define tables and fill them.
        """
        self._is_defining = True
        try:
            with in_sqlite:
                self._connection.execute(schema).fetchall()
        except (apsw.AuthError, apsw.SQLError, apsw.ConstraintError) as error:
            raise QueryFailed(f"the schema of projection {self._name!r}: {self._told(error)}") from error
        finally:
            self._is_defining = False

    @contextmanager
    def _running(self) -> Generator[None]:
        if not self._is_lent:
            raise RuntimeError(f"projection {self._name!r}: `db` is used after on() has returned")
        self._check_transaction()
        self._refused = None
        try:
            with in_sqlite:
                yield
        except apsw.AuthError as error:
            raise QueryFailed(f"projection {self._name!r}: {self._told(error)}") from error
        except apsw.Error as error:
            failure = failure_of(error)
            if failure is None:
                raise
            self._failure = failure
            raise failure from error

    def _told(self, error: apsw.Error) -> str:
        return str(error) if self._refused is None else f"it may not {self._refused}"

    def _judge(
        self, action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        del database, trigger
        if not (self._is_lent or self._is_defining):
            return apsw.SQLITE_OK
        self._refused = self._refusal(action, first or "", second)
        return apsw.SQLITE_OK if self._refused is None else apsw.SQLITE_DENY

    def _refusal(self, action: int, first: str, second: str | None) -> str | None:
        """Return what may not be done; None: it may."""
        if action in _NAMING and first.lower().startswith(OWN_PREFIX):
            return f"touch {first}: that is the engine's"
        if action in _READS or (self._is_defining and action in _DEFINES):
            return None
        if action in _WRITES:
            is_schema = first.lower() in _SCHEMA_TABLES
            return _NOT_HERE if is_schema and not self._is_defining else None
        if action == apsw.SQLITE_PRAGMA and first in _ASKED_BY_INDEXES and second is None:
            return None
        return _INSTEAD.get(action, _NOT_HERE)


def failure_of(error: apsw.Error) -> StoreError | None:
    """Return what an error says about the file; None: the statement is to blame."""
    match error:
        case apsw.FullError():
            return StoreFull("the disk is full")
        case apsw.CorruptError() | apsw.NotADBError():
            return ProjectionDamaged(f"the file is damaged: {error}")
        case _ if isinstance(error, _BUSY):
            return StoreHalted(f"another process keeps the file locked: {error}")
        case _ if isinstance(error, _PASSING):
            return StoreHalted(f"the file cannot be used (yet): {error!r}")
        case _:
            return None


def check_schema(name: str, schema: str) -> None:
    """Run a schema in memory.

    Raises:
        QueryFailed: it cannot be run, does more than define tables and fill them, or defines none.
    """
    connection = apsw.Connection(":memory:")
    try:
        ProjectionDatabase(connection, name).define(schema)
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table'").fetchall():
            raise QueryFailed(f"the schema of projection {name!r} defines no table")
    finally:
        connection.close()


def _stored(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(value.isoformat() if isinstance(value, datetime) else value for value in values)
