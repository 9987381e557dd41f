"""Requests as rows of a small SQLite file beside the store, `NAME-requests`.

A separate file keeps senders from delaying the engine. A sender that is stopped while it writes blocks other
writers of this file, but no readers; nothing else waits for it. And whatever happens to it, the store is
another file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import apsw

from ..errors import CommitUnknown, RecordTooLarge, StoreError, StoreFull, StoreHalted, StoreUnusable
from ..files.forking import bury, dies_after_fork, in_sqlite
from ..files.location import sync_directory
from ..requests import RequestsDamaged, RequestsFull, StoredRefusal, StoredRequest
from .connection import check_sqlite_version, connect_to_requests
from .statements import roll_back, rows, run, run_for_each, value

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..requests import StoredResponse

SENDER_PATIENCE_MS: Final = 3_000
OWNER_PATIENCE_MS: Final = 100
"""How long to wait for other writers: the owner tries again later, a sender gives up."""

_APPLICATION_ID: Final = 0x50657272
"""`Perr`: marks the file, in its header, as one of requests."""
_VERSION: Final = 1

_SIZE_MAX: Final = 16 * 1024 * 1024
_PENDING_MAX: Final = 10_000
_REFUSALS_MAX: Final = 1_000
_LEFT_OVER_US: Final = 3600 * 1_000_000
_AT_ONCE: Final = 16
_CHUNK: Final = 1 << 20
_LOG_MAX: Final = 4 << 20
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_PASSING: Final = (apsw.BusyError, apsw.LockedError, apsw.FullError, RequestsFull)
"""Errors that are not about the file itself."""

# Larger data was put there by another program, and is refused like any rubbish.
_DATA: Final = f"CASE WHEN length(data) <= {_SIZE_MAX} THEN data ELSE x'' END"
_ARRIVED: Final = f"""
SELECT number, id, {_DATA} FROM request WHERE response IS NULL AND number > ? ORDER BY number
"""  # noqa: S608 - constants
_READ: Final = f"SELECT {_DATA} FROM request WHERE id = ? AND response IS NULL"  # noqa: S608 - constants
_RESPOND: Final = """
UPDATE request SET response = ?2, responded_at = ?3, refusal = nullif(?4, ''),
  data = CASE ?4 WHEN '' THEN x'' ELSE data END
WHERE id = ?1 AND response IS NULL
"""
_SWEPT: Final = """
response IS NOT NULL AND CASE WHEN refusal IS NULL THEN responded_at < ?1
  ELSE number < (SELECT min(number) FROM (
    SELECT number FROM request WHERE refusal IS NOT NULL ORDER BY number DESC LIMIT ?2)) END
"""
_NUMBER_MAX: Final = 2**63 - 1
_IS_USED_UP: Final = f"SELECT EXISTS (SELECT 1 FROM sqlite_sequence WHERE seq >= {_NUMBER_MAX})"  # noqa: S608 - a constant
_LOOK: Final = """
SELECT (SELECT user_version FROM pragma_user_version), (SELECT application_id FROM pragma_application_id),
  NOT EXISTS (SELECT 1 FROM sqlite_schema)
"""
_ANY_TO_SWEEP: Final = f"SELECT EXISTS (SELECT 1 FROM request WHERE {_SWEPT})"  # noqa: S608 - a constant
_SWEEP: Final = f"DELETE FROM request WHERE {_SWEPT}"  # noqa: S608 - a constant


class SqliteRequests:
    """The requests for the owner of the store at `store_path`; see `RequestStore`.

    The first `add` creates the file, for the store's user alone. Nothing is opened before it is needed.

    Args:
        store_path: the store's file; the requests lie beside it, links followed.
        now: the clock, in microseconds since the epoch, UTC.
        patience_ms: how long to wait for other writers.
        vfs: the name of a registered SQLite VFS, for tests and simulations.
    """

    def __init__(
        self,
        store_path: str | os.PathLike[str],
        now: Callable[[], int],
        *,
        patience_ms: int = SENDER_PATIENCE_MS,
        vfs: str | None = None,
    ) -> None:
        check_sqlite_version()
        self._store = Path(store_path).resolve()
        self.path = self._store.with_name(self._store.name + "-requests")
        self._now = now
        self._patience_ms = patience_ms
        self._vfs = vfs
        self._connection: apsw.Connection | None = None
        self._files: tuple[Any, ...] = ()
        self._is_set_up = False
        """It is known to be in WAL mode."""
        self._is_named = False
        """Its names in the folder are durable."""
        self._seen: int | None = None
        self._last = 0
        self._is_forked = False
        dies_after_fork(self)

    # Sending

    def add(self, request_id: str, data: bytes) -> None:
        """Add a request; see `RequestStore`. Only the store's user may."""
        if len(data) > _SIZE_MAX:
            raise RecordTooLarge(f"{len(data):,} bytes exceed the limit of {_SIZE_MAX:,}")
        with self._telling():
            self._check_user()
            # Another process may remove or replace the file meanwhile, and the request with it.
            if not self._is_added(request_id, data) and not self._is_added(request_id, data):
                raise StoreHalted(f"{self.path} is removed again and again: the request may not be on record")

    def _is_added(self, request_id: str, data: bytes) -> bool:
        """Add a request; return whether its file is still there."""
        connection = self._opened(create=True)
        assert connection is not None
        self._insert(connection, request_id, data)
        return self._files == _files(self.path)

    def _insert(self, connection: apsw.Connection, request_id: str, data: bytes) -> None:
        with self._written(connection):
            _check_numbers(connection)
            waiting = value(connection, "SELECT count(*) FROM request WHERE response IS NULL")
            if waiting >= _PENDING_MAX:
                raise RequestsFull(f"{waiting:,} requests wait in {self.path}; nothing was written")
            run(
                connection,
                "INSERT INTO request (id, at, data) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (request_id, self._now(), data),
            )
        if not self._is_named:
            sync_directory(self.path.parent)
            self._is_named = True

    def _check_user(self) -> None:
        owner = self._store.stat().st_uid
        if owner != os.geteuid():
            raise StoreUnusable(f"{self._store} belongs to another user ({owner}): write as that user to it")

    def take_response(self, request_id: str) -> bytes | None:
        with self._telling():
            connection = self._readable()
            if connection is None:
                return None
            found = value(connection, "SELECT response FROM request WHERE id = ?", (request_id,))
            if found is None:
                return None
            # It may stay without harm: it is never done again, and swept in the end.
            with contextlib.suppress(apsw.Error, StoreError), self._written(connection):
                run(connection, "DELETE FROM request WHERE id = ?", (request_id,))
            return _checked(found, bytes)

    # Looking

    def pending_count(self) -> int:
        with self._telling():
            connection = self._readable()
            if connection is None:
                return 0
            return value(connection, "SELECT count(*) FROM request WHERE response IS NULL")

    def refusals(self) -> list[StoredRefusal]:
        with self._telling():
            connection = self._readable()
            if connection is None:
                return []
            found = rows(
                connection,
                "SELECT id, responded_at, data, refusal FROM request"
                " WHERE refusal IS NOT NULL ORDER BY number",
            )
            return [
                StoredRefusal(_checked(i, str), _checked(at, int), _checked(data, bytes), _checked(why, str))
                for i, at, data, why in found
            ]

    # Handling

    def arrived(self) -> list[StoredRequest]:
        """Return the next few waiting requests; see `RequestStore`.

        If there are no new ones, this only checks three names in the folder and the log's index, which is in
        memory: it reads nothing from the disk, and locks nothing that others wait for.
        """
        with self._telling():
            connection = self._opened(create=False)
            if connection is None:
                return []
            version = connection.pragma("data_version")
            if version == self._seen:
                return []
            self._seen = None
            has_table = _has_table(connection)
            if has_table:
                _check_numbers(connection)
            found = self._next(connection) if has_table else []
            if not found:
                self._seen = version
            return found

    def _next(self, connection: apsw.Connection) -> list[StoredRequest]:
        found: list[StoredRequest] = []
        size = 0
        cursor = connection.execute(_ARRIVED, (self._last,))
        for number, request_id, data in cursor:
            request = StoredRequest(_checked(request_id, str), _checked(data, bytes))
            found.append(request)
            self._last = _checked(number, int)
            size += len(data)
            if len(found) == _AT_ONCE or size > _SIZE_MAX:
                break
        cursor.close()
        return found

    def read(self, request_id: str) -> bytes | None:
        with self._telling():
            connection = self._readable()
            if connection is None:
                return None
            found = value(connection, _READ, (request_id,))
            return None if found is None else _checked(found, bytes)

    def respond(self, responses: Sequence[StoredResponse]) -> None:
        with self._telling():
            connection = self._readable()
            if connection is not None:
                now = self._now()
                with self._written(connection):
                    run_for_each(connection, _RESPOND, [(r.id, r.data, now, r.refusal) for r in responses])

    # Looking after it

    def sweep(self) -> None:
        with self._telling():
            connection = self._readable()
            if connection is None:
                return
            bounds = (self._now() - _LEFT_OVER_US, _REFUSALS_MAX)
            if value(connection, _ANY_TO_SWEEP, bounds):
                with self._written(connection):
                    run(connection, _SWEEP, bounds)
            if value(connection, "PRAGMA freelist_count"):
                run(connection, "PRAGMA incremental_vacuum")

    def set_aside(self) -> str:
        """Keep a copy of unreadable requests, and begin anew; see `RequestStore`.

        The file is emptied in place and not replaced: for all who have it open, that is a commit like any
        other.
        """
        self.close()
        kept = self.path.with_name(f"{self.path.name}-damaged-{self._now()}")
        copies = [kept, kept.with_name(kept.name + "-wal")]
        with self._telling():
            try:
                _copy(self.path, copies[0], self._vfs)
                with contextlib.suppress(apsw.CantOpenError):
                    _copy(self.path.with_name(self.path.name + "-wal"), copies[1], self._vfs)
                sync_directory(kept.parent)
                self._empty()
            except BaseException:
                for copy in copies:
                    copy.unlink(missing_ok=True)
                raise
        return str(kept)

    def _empty(self) -> None:
        connection = connect_to_requests(self.path, self._patience_ms, self._vfs)
        try:
            with contextlib.suppress(apsw.Error):
                connection.pragma("user_version")  # so that it stays in WAL mode
            connection.config(apsw.SQLITE_DBCONFIG_RESET_DATABASE, 1)
            run(connection, "VACUUM")
        finally:
            connection.close(force=True)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._seen, self._last, self._is_named = None, 0, False
        if connection is not None:
            with in_sqlite:
                connection.close(force=True)

    def die_after_fork(self) -> None:
        bury(self._connection)
        self._connection, self._is_forked = None, True

    # The file

    def _readable(self) -> apsw.Connection | None:
        """Return the connection; None if the file never held requests."""
        connection = self._opened(create=False)
        return connection if connection is not None and _has_table(connection) else None

    def _opened(self, *, create: bool) -> apsw.Connection | None:
        """Return the connection to the current file; None if there is none."""
        if self._is_forked:
            raise StoreHalted("this process was forked from the one that the requests were opened in")
        if self._connection is not None:
            if self._files == _files(self.path) and (self._is_set_up or not create):
                return self._connection
            self.close()
        if not self._is_there():
            if not create:
                return None
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = connect_to_requests(self.path, self._patience_ms, self._vfs)
        try:
            if create:
                _set_up(connection)
            _has_table(connection)  # the log is opened by whoever reads first
            connection.pragma("synchronous", "FULL")
            connection.pragma("journal_size_limit", _LOG_MAX)
        except BaseException:
            connection.close(force=True)
            raise
        self._files = _files(self.path)
        self._connection, self._is_set_up = connection, create
        return connection

    def _is_there(self) -> bool:
        """Return whether there is a file that only its user can have written.

        Raises:
            StoreUnusable: the file cannot be trusted.
        """
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(found.st_mode):
            raise StoreUnusable(f"{self.path} is not a file: remove it")
        if found.st_uid != os.geteuid():
            raise StoreUnusable(
                f"{self.path} belongs to another user ({found.st_uid}): be that user, or remove it"
            )
        if found.st_mode & _OTHERS_MAY_WRITE:
            raise StoreUnusable(
                f"{self.path} can be written by others: look at what is in it, then chmod 600 it"
            )
        return True

    @contextmanager
    def _written(self, connection: apsw.Connection) -> Generator[None]:
        self._begin_to_write(connection)
        try:
            if not _has_table(connection):
                run(connection, _schema())
            yield
        except BaseException:
            roll_back(connection)
            raise
        try:
            run(connection, "COMMIT")
        except apsw.Error as error:
            roll_back(connection)
            if isinstance(error, apsw.FullError | apsw.BusyError):
                raise
            raise CommitUnknown(
                f"{self.path}: the commit failed, what it wrote may be on disk or not: {error!r}"
            ) from error

    def _begin_to_write(self, connection: apsw.Connection) -> None:
        """Wait for other writers with short steps: SQLite's own waits grow, and newcomers would overtake."""
        connection.set_busy_timeout(1)
        try:
            for _ in range(self._patience_ms):
                with contextlib.suppress(apsw.BusyError):
                    run(connection, "BEGIN IMMEDIATE")
                    return
                in_sqlite.rest()
            run(connection, "BEGIN IMMEDIATE")
        finally:
            connection.set_busy_timeout(self._patience_ms)

    @contextmanager
    def _telling(self) -> Generator[None]:
        """Convert errors for the caller; after most of them, the file is reopened."""
        try:
            with in_sqlite:
                yield
        except (apsw.Error, OSError, UnicodeDecodeError, StoreError) as error:
            self._seen = None
            if not isinstance(error, _PASSING):
                self.close()
            if isinstance(error, RequestsDamaged):
                raise RequestsDamaged(f"{self.path} is damaged: {error}") from error
            if isinstance(error, StoreError):
                raise
            raise _told(self.path, error) from error


def _files(path: Path) -> tuple[Any, ...]:
    """Return the identities of the files: SQLite would not notice a change."""
    return tuple(_inode(path.with_name(path.name + suffix)) for suffix in ("", "-wal", "-shm"))


def _inode(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino, found.st_mode, found.st_uid)


def _set_up(connection: apsw.Connection) -> None:
    """Put the file into WAL mode; if it is in it, this writes nothing."""
    if connection.pragma("journal_mode") != "wal":
        connection.pragma("auto_vacuum", "INCREMENTAL")
        connection.pragma("journal_mode", "WAL")


def _has_table(connection: apsw.Connection) -> bool:
    """Return whether the file can hold requests. A new one is empty.

    Raises:
        StoreUnusable: the file is of a newer version.
        RequestsDamaged: it is something else.
    """
    # One statement, so one look: another process may set the file up between two.
    ((version, application, is_empty),) = connection.execute(_LOOK)
    if (version, application) == (_VERSION, _APPLICATION_ID):
        return True
    if application == _APPLICATION_ID and version > _VERSION:
        raise StoreUnusable(
            f"{connection.filename}: the requests have schema {version}, this code knows up to {_VERSION}"
        )
    if application or version or not is_empty:
        raise RequestsDamaged("the file is an SQLite database, but holds no requests")
    return False


def _check_numbers(connection: apsw.Connection) -> None:
    """See to it that there is a number for the next request. SQLite would say that the disk is full.

    Raises:
        RequestsDamaged: there is none, since somebody has written a row with the last number.
    """
    if value(connection, _IS_USED_UP):
        raise RequestsDamaged(
            f"a row has number {_NUMBER_MAX}, so that none is left for another request; the engine begins the"
            " file anew, within seconds or when it is started"
        )


@lru_cache(maxsize=1)
def _schema() -> str:
    script = resources.files(__package__).joinpath("requests.sql").read_text(encoding="utf-8")
    return f"{script}; PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_VERSION}"


def _checked(found: Any, kind: type[Any]) -> Any:
    """Return a value of the expected type; in a damaged file, columns may have any type."""
    if not isinstance(found, kind):
        raise RequestsDamaged(f"a {kind.__name__} should be where {type(found).__name__} is")
    return found


def _copy(source: Path, target: Path, vfs: str | None) -> None:
    """Copy a file through SQLite: closing it otherwise would drop locks of this process."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as copy:
        file = apsw.VFSFile(vfs or "", str(source), [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0])
        try:
            size = file.xFileSize()
            for offset in range(0, size, _CHUNK):
                copy.write(file.xRead(min(_CHUNK, size - offset), offset))
        finally:
            file.xClose()
        copy.flush()
        os.fsync(descriptor)


def _told(path: Path, error: apsw.Error | OSError | UnicodeDecodeError) -> StoreError:
    if isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno in _FULL):
        return StoreFull(f"the disk is full: nothing was written to {path}")
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return StoreHalted(f"another process keeps {path} locked, nothing was written: {error}")
        case (
            apsw.CorruptError()
            | apsw.NotADBError()
            | apsw.SQLError()
            | apsw.ConstraintError()
            | UnicodeDecodeError()
        ):
            return RequestsDamaged(f"{path} is damaged: {error}")
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError():
            return StoreUnusable(f"cannot use {path}: {error}")
        case OSError():
            return StoreUnusable(f"cannot use {path}: {error.strerror}")
        case _:
            return StoreHalted(f"{path} cannot be used (yet): {error!r}")
