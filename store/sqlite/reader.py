"""Reading a store from outside, with or without a process that owns it."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakSet

import apsw

from ..errors import StoreError, StoreHalted, StoreUnusable
from ..files.file_locks import close_what_is_done_with
from ..files.forking import bury, dies_after_fork, in_sqlite
from ..files.location import existing
from ..files.owner import Owner, owner_of
from . import schema
from .connection import check_sqlite_version, connect_reader, connect_to_file_at_rest, let_query
from .connection_pool import ReaderPool
from .failures import naming, read_failure
from .leftovers import Leftovers
from .lost_commits import kept_logs
from .names import damaged_words
from .query_rows import Rows
from .reading import Reading
from .statements import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from ..files.location import FileLocation, FileState

T = TypeVar("T")

_TRIES: Final = 10


class StoreReader(Reading):
    """A read-only view of a store, whoever owns it. Thread-safe.

    It locks, creates and writes nothing, with one exception: to read the log of a killed process, SQLite may
    need to rebuild its index (`-shm`). Each query is a short transaction of its own, so it delays neither the
    engine nor other readers.

    `StoreHalted` is raised if the file is gone or replaced, after `close`, and in a forked child.
    """

    def __init__(self, location: FileLocation, file_state: FileState, vfs: str | None) -> None:
        super().__init__()
        self._location = location
        self._vfs = vfs
        self._lock = Lock()
        self._files = _OpenFiles(location, file_state, vfs)
        self._watch: tuple[_OpenFiles, apsw.Connection] | None = None
        self._seen: object = None
        self._data_version = 0
        self._answers: WeakSet[Rows] = WeakSet()
        self._answers_lock = Lock()
        self._dead: str | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, vfs: str | None = None) -> StoreReader:
        """Open the store at `path` for reading.

        Args:
            path: The file.
            vfs: The name of a registered SQLite VFS, for tests and simulations.

        Raises:
            StoreUnusable: there is none, it is not a store, has a newer schema, is damaged, or may not be
            read.
        """
        check_sqlite_version()
        with existing(path) as location:
            reader = cls(location, location.file_state(), vfs)
        try:
            with naming(os.fspath(path)):
                reader._check_store(os.fspath(path))
        except BaseException:
            reader.close()
            raise
        dies_after_fork(reader)
        return reader

    def _check_store(self, given: str) -> None:
        may_use_effective_ids = os.access in os.supports_effective_ids
        if not os.access(self._location.path, os.R_OK, effective_ids=may_use_effective_ids):
            raise StoreUnusable(f"{given!r} may not be read by this user")
        try:
            version = self._lent(_version)
        except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
            raise StoreUnusable(
                f"{given!r} has a log beside it that this user cannot read: read the store as its owner, or"
                " stop the engine that uses it cleanly"
            ) from error
        except apsw.NotADBError as error:
            raise StoreUnusable(f"{given!r} is not an SQLite database") from error
        except apsw.Error as error:
            raise read_failure(error) from error
        if version == 0:
            raise StoreUnusable(f"{given!r} is empty: it is not a store yet")

    @property
    def path(self) -> Path:
        """The file, free of symbolic links."""
        return self._location.path

    @property
    def schema_version(self) -> int:
        """The version of the file's schema. An engine that opens an older one brings it up to date."""
        return self._asked(lambda connection: connection.pragma("user_version"))

    def additions(self) -> tuple[str, ...]:
        """Return the tables, views and other objects that other programs added, each with its kind.

        The engine ignores them.
        """
        steps = schema.ladder()
        return self._asked(
            lambda connection: schema.additions(connection, steps, connection.pragma("user_version"))
        )

    def damaged_words(self) -> list[str]:
        """Return the types, statuses and kinds of events that are not what was written.

        It reads the whole store. All users of a word share it: their headers and histories are damaged with
        it.

        Raises:
            StoreUnusable: the store is too damaged to find out.
        """
        return self._asked(damaged_words)

    def kept_logs(self) -> list[Path]:
        """Return the copies of damaged write-ahead logs that an engine has kept beside the store."""
        return kept_logs(self.path)

    # Looking

    def data_version(self) -> int:
        """Return a number that changes after every commit of any process.

        It may also change without a commit. A call takes a few microseconds.

        Raises:
            StoreHalted: the store cannot be read.
        """
        files = self._looked()
        with in_sqlite, self._lock:
            self._check_alive()
            try:
                seen = (files, self._commits_seen(files))
            except apsw.Error as error:
                self._drop_watch()
                raise read_failure(error) from error
            if seen != self._seen:
                self._seen = seen
                self._data_version += 1
            return self._data_version

    def _commits_seen(self, files: _OpenFiles) -> int:
        if files.file_state.at_rest is not None:
            return 0
        # Always the same connection: the numbers of two are unrelated.
        if self._watch is None or self._watch[0] is not files:
            self._drop_watch()
            self._watch = (files, files.connect())
        return self._watch[1].pragma("data_version")

    def _drop_watch(self) -> None:
        watch, self._watch, self._seen = self._watch, None, None
        if watch is not None:
            watch[1].close(force=True)

    def owner(self) -> Owner | None:
        """Return the process that has the store open; None if there is none, as far as can be seen from here.

        It locks nothing, so an engine that opens the store meanwhile is not refused.
        """
        self._check_alive()
        return owner_of(self._location.lock_path)

    def query(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        """Run a read-only statement; `values` are those of its placeholders.

        The views `flows`, `steps`, `signals`, `timers`, `dead_letters` and `events` are documented and stable
        (`schema_2.sql` and `schema_3.sql` in `store/sqlite`), also in a store of an older schema. The
        statement sees the store as of one commit.

        If it meets damage, it runs on a copy of all readable rows, and `Rows.damage` says so. The copy takes
        as long as reading the whole store. An answer of more than 1,000 rows may meet damage later on.

        Raises:
            QueryFailed: it cannot be run, is more than one statement, or does anything but read.
            QueryInterrupted: `interrupt` or `close` was called.
            StoreUnusable: the store is damaged, or was migrated to a newer schema meanwhile.
        """
        with in_sqlite:
            files = self._looked()
            try:
                return self._answered(files, None, statement, values)
            except StoreUnusable as error:
                if not isinstance(error.__cause__, apsw.CorruptError):
                    raise
            return self._answered(files, self._left(files), statement, values)

    def _answered(
        self, files: _OpenFiles, left: Leftovers | None, statement: str, values: Sequence[Any]
    ) -> Rows:
        connection = files.connect() if left is None else left.connection
        answer = Rows(connection, lambda: self._confirm(files))
        with self._answers_lock:
            self._answers.add(answer)
        if left is not None:
            answer.damage = left.damage
        else:
            try:
                let_query(connection, schema.ladder())
            except BaseException:
                answer.close()
                raise
        answer.ask(statement, values)
        return answer

    def _left(self, files: _OpenFiles) -> Leftovers:
        connection = files.connect()
        try:
            run(connection, "BEGIN")
            return Leftovers(connection, schema.ladder())
        finally:
            connection.close()

    def interrupt(self) -> None:
        """Stop all running statements, and end all answers that were not read to their end."""
        with self._answers_lock:
            answers = list(self._answers)
        for answer in answers:
            answer.interrupt()

    # The files

    def _lent(self, question: Callable[[apsw.Connection], T]) -> T:
        for _ in range(_TRIES):
            files = self._looked()
            try:
                with files.connections.connection() as connection:
                    answer = question(connection)
            except (apsw.Error, StoreError):
                if self._lies_as(files):
                    raise
            else:
                if files.file_state.at_rest is None or self._lies_as(files):
                    return answer
            # Another process opened the file meanwhile: the answer may be half old and half new.
        raise StoreHalted(f"{self.path} is opened and closed so often that it cannot be read")

    def _confirm(self, files: _OpenFiles) -> None:
        if files.file_state.at_rest is not None and not self._lies_as(files):
            raise StoreHalted(f"{self.path} was opened by another process while it was read: try again")

    def _lies_as(self, files: _OpenFiles) -> bool:
        return self._file_state() == files.file_state

    def _looked(self) -> _OpenFiles:
        """Check the state of the files, and reconnect if it has changed."""
        self._check_alive()
        files, file_state = self._files, self._file_state()
        if file_state == files.file_state:
            return files
        if file_state.identity != files.file_state.identity:
            raise StoreHalted(f"{self.path} was replaced by another file: open it again")
        with self._lock:
            self._check_alive()
            if self._files is files:
                files.connections.close()
                self._files = _OpenFiles(self._location, file_state, self._vfs)
            return self._files

    def _file_state(self) -> FileState:
        try:
            return self._location.file_state()
        except OSError as error:
            raise StoreHalted(f"{self.path} cannot be found any longer: {error.strerror}") from error

    # The end

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise StoreHalted(self._dead)

    def close(self) -> None:
        """Release the store and interrupt open answers. Idempotent."""
        if self._dead is not None:
            return
        self._dead = "the reader is closed"
        self.interrupt()
        with in_sqlite, self._lock:
            self._files.connections.close()
            self._drop_watch()
        close_what_is_done_with()

    def die_after_fork(self) -> None:
        if self._dead is None:
            self._dead = "the process was forked: the reader belongs to the parent, a child opens its own"
            self._answers_lock = Lock()  # the thread that held it is gone
            bury(self._files, self._watch, [*self._answers])
            self.interrupt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _OpenFiles:
    """The files in one state, and connections to them."""

    def __init__(self, location: FileLocation, file_state: FileState, vfs: str | None) -> None:
        self.file_state = file_state
        self.connections = ReaderPool(self.connect)
        self._location = location
        self._vfs = vfs

    def connect(self) -> apsw.Connection:
        if self.file_state.at_rest is None:
            return connect_reader(self._location, self._vfs)
        return connect_to_file_at_rest(self._location, self._vfs)


def _version(connection: apsw.Connection) -> int:
    run(connection, "BEGIN")
    try:
        connection.pragma("schema_version")
        return schema.check(connection, schema.ladder())
    finally:
        run(connection, "ROLLBACK")
