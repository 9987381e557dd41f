"""The file of one projection: its tables, and in the same transactions the position that they are as of.

It is in WAL mode, so that others read it at any time and see whole transactions. It is not synced at each
commit: after a loss of power it may be as of an earlier position, and goes on from there.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import apsw
import msgspec

from ..errors import ProjectionDamaged, StoreHalted, StoreUnusable
from ..files.forking import bury, dies_after_fork, in_sqlite
from .projection_database import OWN_PREFIX, ProjectionDatabase, failure_of
from .projection_place import FilePlace
from .query_rows import Rows
from .statements import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path
    from typing import Self

    from .projection_place import ProjectionPlace

_APPLICATION_ID: Final = 0x50657270
"""`Perp`: marks the file, in its header, as one of a projection."""
_VERSION: Final = 1
_TABLE: Final = f"{OWN_PREFIX}projection"
_COLUMNS: Final = "name, code, build, origin, position, mark, status, reason, at"
_DEFINE: Final = f"""
CREATE TABLE {_TABLE} (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  name TEXT NOT NULL,
  code TEXT NOT NULL, -- which schema and version have made this
  build TEXT NOT NULL, -- another one each time that it is built anew
  origin TEXT NOT NULL, -- why it was
  position INTEGER NOT NULL, -- everything up to here is in it
  mark TEXT NOT NULL, -- by which the event at that position is known
  status TEXT NOT NULL,
  reason TEXT NOT NULL,
  at INTEGER NOT NULL -- when this row was written, in microseconds since the epoch, UTC
) STRICT;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""
_READ: Final = f"SELECT {_COLUMNS} FROM {_TABLE}"  # noqa: S608 - constants
_WRITE: Final = f"INSERT INTO {_TABLE} (one, {_COLUMNS}) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_MOVE: Final = f"""
UPDATE {_TABLE} SET position = ?3, mark = ?4, status = ?5, reason = '', at = ?6
WHERE position = ?1 AND build = ?2
"""  # noqa: S608 - constants
_NOTE: Final = f"UPDATE {_TABLE} SET status = ?, reason = ?, at = ?"  # noqa: S608 - constants
_LOOK: Final = """
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
  NOT EXISTS (SELECT 1 FROM sqlite_schema)
"""
FOLLOWING: Final = "following"
"""The status of a projection that nothing is wrong with."""
_PATIENCE_MS: Final = 1_000
_LOG_MAX: Final = 16 << 20
_PAGES_AT_ONCE: Final = 1_000


class ProjectionState(msgspec.Struct, frozen=True):
    """What a projection's file says about itself. Instants are microseconds since the epoch, UTC."""

    name: str
    code: str
    """Stands for the schema and the version that have made it."""
    build: str
    """Another one each time that it is built anew."""
    origin: str
    """Why it was built, in words."""
    position: int
    """Everything up to this position of the total order is in it."""
    mark: str
    """By which the event at that position is known again."""
    status: str
    reason: str
    at: int


class ProjectionFile:
    """A projection's file, open for writing. For one thread at a time."""

    def __init__(self, place: ProjectionPlace, connection: apsw.Connection) -> None:
        self._place = place
        self._connection: apsw.Connection | None = connection
        self._database: ProjectionDatabase | None = None
        dies_after_fork(self)

    @classmethod
    def open(cls, place: ProjectionPlace) -> Self:
        """Open the file; create it, empty, if there is none.

        Raises:
            ProjectionDamaged: it cannot be read.
            StoreUnusable: it is something else, or of a newer version.
            StoreError: it cannot be used now.
        """
        with _telling(place), in_sqlite:
            connection = place.connect()
            opened = cls(place, connection)
            try:
                connection.set_busy_timeout(_PATIENCE_MS)
                _look(connection)  # before anything is written
                if place.path is not None:
                    connection.pragma("journal_mode", "WAL")
                connection.pragma("synchronous", "NORMAL")
                connection.pragma("journal_size_limit", _LOG_MAX)
            except BaseException:
                opened.close()
                raise
        return opened

    def state(self) -> ProjectionState | None:
        """Return what the file says about itself; None: it is empty."""
        with _telling(self._place), in_sqlite:
            return _state(self._open)

    def create(self, state: ProjectionState, schema: str) -> None:
        """Give an empty file its tables.

        Raises:
            QueryFailed: the schema cannot be run.
        """
        with self._written():
            self._run(_DEFINE)
            self._run(_WRITE, msgspec.structs.astuple(state))
            self._lent_database(state.name).define(schema)

    def apply(
        self, work: Callable[[ProjectionDatabase], tuple[int, str]], before: ProjectionState, at: int
    ) -> ProjectionState:
        """Have `work` change the tables, and move on to the position that it returns, in one transaction.

        Raises:
            StoreHalted: the position is not what it was: somebody else has written to the file.
            StoreError: it cannot be used now, or is damaged; nothing was written, as far as is known.
            Exception: whatever `work` raises; nothing was written.
        """
        with self._written():
            database = self._lent_database(before.name)
            with database.lent():
                position, mark = work(database)
            self._run(_MOVE, (before.position, before.build, position, mark, FOLLOWING, at))
            if self._open.changes() != 1:
                raise StoreHalted(f"{self._place} is no longer as of position {before.position}")
        return msgspec.structs.replace(
            before, position=position, mark=mark, status=FOLLOWING, reason="", at=at
        )

    def note(self, status: str, reason: str, at: int) -> None:
        """Record how the projection is getting on."""
        with self._written():
            self._run(_NOTE, (status, reason, at))

    def replace_by(self, draft: ProjectionFile) -> None:
        """Take over all that is in another file, in one synced transaction: readers never see a part."""
        with _telling(self._place):
            connection = self._open
            connection.pragma("synchronous", "FULL")
            try:
                with connection.backup("main", draft._open, "main") as copying:
                    while not copying.done:
                        with in_sqlite:
                            copying.step(_PAGES_AT_ONCE)
            finally:
                connection.pragma("synchronous", "NORMAL")

    def close(self) -> None:
        """Close the file. Idempotent."""
        connection, self._connection, self._database = self._connection, None, None
        if connection is not None:
            with in_sqlite:
                connection.close(force=True)

    def die_after_fork(self) -> None:
        bury(self._connection, self._database)
        self._connection = self._database = None

    @property
    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise StoreHalted(f"{self._place} is closed")
        return self._connection

    def _lent_database(self, name: str) -> ProjectionDatabase:
        if self._database is None:
            self._database = ProjectionDatabase(self._open, name)
        return self._database

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        # Uncached: a projection's code would get a prepared one without being asked about.
        with in_sqlite:
            self._open.execute(statement, values, can_cache=False).fetchall()

    @contextmanager
    def _written(self) -> Generator[None]:
        with _telling(self._place):
            connection = self._open
            self._run("BEGIN IMMEDIATE")
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                # Perhaps SQLite has done it, because of the error.
                if connection.in_transaction:
                    self._run("ROLLBACK")
                raise


def read_projection(path: Path) -> ProjectionState:
    """Read what a projection's file says about itself, whoever has it open.

    Raises:
        ProjectionDamaged: it cannot be read.
        StoreUnusable: it is something else, of a newer version, or empty.
        StoreError: it cannot be used now.
    """
    place = FilePlace(path)
    if not place.exists():
        raise StoreUnusable(f"there is no projection at {path}")
    with _telling(place), in_sqlite:
        connection = place.connect_reader()
        try:
            _look(connection)
            found = _state(connection)
        finally:
            connection.close(force=True)
    if found is None:
        raise StoreUnusable(f"{path} is empty: it has not been built yet")
    return found


def query_projection(place: ProjectionPlace, statement: str, values: Sequence[Any] = ()) -> Rows:
    """Run a user's read-only statement on the tables of a projection.

    Raises:
        QueryFailed: it cannot be run, or would do more than read.
        StoreError: the file cannot be read now.
    """
    with _telling(place), in_sqlite:
        connection = place.connect_reader()
        answer = Rows(connection, lambda: None)
        answer.ask(statement, values)
    return answer


def _look(connection: apsw.Connection) -> None:
    """Check that a file is a projection's, or empty.

    Raises:
        StoreUnusable: it is not.
    """
    application, version, is_empty = rows(connection, _LOOK)[0]
    if application == _APPLICATION_ID:
        if version > _VERSION:
            raise StoreUnusable(f"it has format {version}, and this code knows up to {_VERSION}")
    elif application or not is_empty:
        raise StoreUnusable("it is an SQLite database, but of no projection: move it away, or set `file`")


def _state(connection: apsw.Connection) -> ProjectionState | None:
    application = connection.pragma("application_id")
    if application != _APPLICATION_ID:
        return None
    try:
        (found,) = connection.execute(_READ, can_cache=False).fetchall()
        return msgspec.convert(dict(zip(_COLUMNS.split(", "), found, strict=True)), ProjectionState)
    except (apsw.SQLError, msgspec.ValidationError, ValueError) as error:
        raise ProjectionDamaged(f"its own table is not as it was written: {error}") from error


@contextmanager
def _telling(place: ProjectionPlace) -> Generator[None]:
    """Convert errors of the file, and say which one it is."""
    try:
        yield
    except apsw.Error as error:
        # Our own statements are right: if one cannot be run, the file is not as it was made.
        failure = failure_of(error) or ProjectionDamaged(str(error))
        raise type(failure)(f"{place}: {failure}") from error
    except OSError as error:
        raise StoreHalted(f"{place} cannot be used (yet): {error.strerror}") from error
    except (ProjectionDamaged, StoreUnusable) as error:
        if str(place) in str(error):
            raise
        raise type(error)(f"{place}: {error}") from error
