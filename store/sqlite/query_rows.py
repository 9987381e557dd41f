"""The answer to a user's statement, and its connection."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import apsw

from ..errors import QueryFailed, QueryInterrupted, StoreError
from ..files.forking import in_sqlite
from .failures import read_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from .statements import Row

_AT_ONCE: Final = 1_000
"""The number of rows fetched before the first is returned; an answer with fewer keeps nothing open."""
_INSTRUCTIONS: Final = 20_000
"""A statement checks for an interruption, such as a Ctrl-C, after this many instructions."""

_NOTHING: Final = re.compile(r"(?>\s|;|--[^\n]*(?:\n|$)|/\*.*?(?:\*/|$))*+", re.DOTALL)

_READS: Final = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_FUNCTION, apsw.SQLITE_RECURSIVE})
# They report the schema, or a version; with a value, the latter would set it.
_TELLING_PRAGMAS: Final = frozenset(
    {"index_info", "index_list", "index_xinfo", "table_info", "table_list", "table_xinfo"}
)
_TELLING_ALONE: Final = frozenset(
    {"application_id", "data_version", "page_count", "page_size", "user_version", "schema_version"}
)


class Rows(Iterator[tuple[Any, ...]]):
    """The rows of an answer: an iterator, for one thread at a time.

    An answer of up to 1,000 rows is complete at once. A longer one is read on demand; until its end, or
    `close`, it shows the store as it was, and the engine's log cannot be emptied.
    """

    def __init__(self, connection: apsw.Connection, confirm: Callable[[], None]) -> None:
        self.columns: tuple[str, ...] = ()
        self.damage: str | None = None
        """What is missing because the store is damaged; None: nothing."""
        self._connection = connection
        self._confirm = confirm
        self._ahead: Iterator[Row] = iter(())
        self._cursor: apsw.Cursor | None = None
        self._is_interrupted = False

    @property
    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The remaining rows: the object itself."""
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, ...]:
        row = next(self._ahead, None)
        if row is None and self._cursor is not None:
            row = self._next(self._cursor)
        if row is None:
            raise StopIteration
        return row

    def _next(self, cursor: apsw.Cursor) -> Row | None:
        try:
            if self._is_interrupted:
                raise apsw.InterruptError  # noqa: TRY301 - as if it had been noticed a moment ago
            with in_sqlite:
                row: Row | None = next(cursor, None)
                if row is None:
                    self._confirm()
        except BaseException as error:
            self._give_up(error)
            raise
        if row is None:
            self._end()
        return row

    def ask(self, statement: str, values: Sequence[Any]) -> None:
        """Run the statement on the connection.

        Raises:
            QueryFailed: it cannot be run, or would do more than read.
        """
        connection = self._connection
        connection.authorizer = _authorized
        connection.set_progress_handler(self._look_up, _INSTRUCTIONS)
        cursor = self._cursor = connection.cursor()

        def look(cursor: apsw.Cursor, first: str, _values: object) -> bool:
            # Only here are the columns of an answer without rows known.
            if _NOTHING.fullmatch(first) is None:
                self.columns = tuple(name for name, *_ in cursor.get_description())
                if _NOTHING.fullmatch(statement[len(first) :]) is None:
                    raise ValueError("one statement at a time")
            return True

        cursor.exec_trace = look
        try:
            cursor.execute(statement, tuple(values))
            if not self.columns:
                raise ValueError("there is nothing in it that answers anything")  # noqa: TRY301 - told below
            found = list(islice(cursor, _AT_ONCE))
            if len(found) < _AT_ONCE:
                self._confirm()
        except BaseException as error:
            self._give_up(error)
            raise
        self._ahead = iter(found)
        if len(found) < _AT_ONCE:
            self._end()

    def _give_up(self, error: BaseException) -> None:
        """Close after an error, and raise it in a form for the statement's author."""
        self.close()
        if isinstance(error, apsw.Error | TypeError | ValueError):
            raise told(error) from error

    def _look_up(self) -> bool:
        in_sqlite.rest()
        return self._is_interrupted

    def interrupt(self) -> None:
        """Stop the statement if it still runs: its reader gets `QueryInterrupted`. Thread-safe."""
        self._is_interrupted = True

    def close(self) -> None:
        """Release the store. Idempotent."""
        self._ahead = iter(())
        self._end()

    def _end(self) -> None:
        self._cursor = None
        with in_sqlite:
            self._connection.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def told(error: apsw.Error | TypeError | ValueError) -> StoreError:
    """Return the error in a form for the statement's author."""
    match error:
        case apsw.AuthError() | apsw.ReadOnlyError():
            reason = f"only reading is allowed here: SELECT, VALUES, WITH or EXPLAIN ({error})"
        case UnicodeDecodeError():
            reason = "a text in the answer is damaged, it is not UTF-8: CAST it AS BLOB to see it"
        case apsw.InterruptError():
            return QueryInterrupted("the statement was interrupted")
        # What the statement, or what it asks for, is to blame for.
        case (
            apsw.BindingsError()
            | apsw.FullError()
            | apsw.MismatchError()
            | apsw.NoMemError()
            | apsw.RangeError()
            | apsw.SQLError()
            | apsw.TooBigError()
            | TypeError()
            | ValueError()
        ):
            reason = f"the statement cannot be run: {error}"
        case _:
            return read_failure(error)
    return QueryFailed(reason)


def _authorized(
    operation: int, name: str | None, value: str | None, _database: str | None, _view: str | None
) -> int:
    is_telling = operation == apsw.SQLITE_PRAGMA and (
        name in _TELLING_PRAGMAS or (name in _TELLING_ALONE and value is None)
    )
    return apsw.SQLITE_OK if operation in _READS or is_telling else apsw.SQLITE_DENY
