"""The store in one SQLite file."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import apsw

from ..contract import Durability, EventStore, StoreLimits
from ..errors import CommitUnknown, StoreError, StoreFenced, StoreHalted, StoreUnusable
from ..files.file_locks import FileLocks
from ..files.forking import bury, dies_after_fork, in_sqlite
from ..files.location import MEMORY, FileLocation, MemoryLocation
from ..files.ownership import Ownership
from . import resolve, schema
from .connection import (
    BUSY_TIMEOUT_MS,
    check_sqlite_version,
    connect_reader,
    connect_writer,
    prepare_to_write,
    relax,
)
from .connection_pool import ReaderPool
from .failures import commit_failure, naming, open_failure, reopen_failure
from .foreign_log import check_log
from .log import write_again
from .lost_commits import save_lost_commits
from .reading import Reading
from .statements import roll_back, transaction
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ..contract import Outcome, Write

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("persistasaurus")

PAGE_SIZE: Final = 4096
LOG_PAGES_WHEN_IDLE: Final = 4 * 1024 * 1024 // PAGE_SIZE
LOG_PAGES_AT_MOST: Final = 64 * 1024 * 1024 // PAGE_SIZE
_SECOND: Final = 1_000_000

_DEFAULT_LIMITS: Final = StoreLimits()


class SqliteStore(Reading, EventStore):
    """An `EventStore` in one SQLite file, or in memory.

    Reading is thread-safe, also while the store is halted. Everything else belongs to one thread at a time.
    """

    def __init__(
        self,
        location: FileLocation | MemoryLocation,
        *,
        now: Callable[[], int],
        durability: Durability,
        limits: StoreLimits,
        vfs: str | None,
    ) -> None:
        self._location = location
        self._ownership: Ownership | None = None
        self._locks = FileLocks(location) if isinstance(location, FileLocation) else None
        self._now = now
        self._durability = durability
        self._limits = limits
        self._vfs = vfs
        self._epoch = 0
        self._writer: Writer | None = None
        self._anchor: apsw.Connection | None = None
        super().__init__()
        self._readers = ReaderPool(lambda: connect_reader(location, vfs))
        self._halted: StoreError | None = None
        self._dead: str | None = None
        self._attempts = 0
        """How many times the epoch may have been advanced without a success since it was last known."""
        self._sure_pages: int | None = None
        """How many pages of the log are certainly on the disk; None: all of them."""
        self._has_met_strangers = False
        self._may_shrink = False
        """Whether another program may have shrunk the file; our next checkpoint then truncates it."""
        self._checked_at = now()
        self._truncate_at = LOG_PAGES_AT_MOST

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        now: Callable[[], int],
        durability: Durability = Durability.FULL,
        limits: StoreLimits = _DEFAULT_LIMITS,
        vfs: str | None = None,
    ) -> SqliteStore:
        """Open the store at `path`, creating it if there is none; ":memory:" keeps it in memory.

        Args:
            path: The file; its log and its lock lie beside it.
            now: The clock, in microseconds since the epoch, UTC.
            durability: Whether acknowledged commits survive a loss of power.
            limits: What is refused.
            vfs: The name of a registered SQLite VFS, for tests and simulations.

        Raises:
            StoreOwned: another process, or another `SqliteStore` of this one, has it open.
            StoreUnusable: it is not a store, or cannot be used safely; it was not changed.
        """
        check_sqlite_version()
        given = os.fspath(path)
        try:
            location = MemoryLocation() if given == MEMORY else FileLocation.resolve(path)
            vfs = None if given == MEMORY else vfs
            store = cls(location, now=now, durability=durability, limits=limits, vfs=vfs)
        except OSError as error:
            raise StoreUnusable(f"cannot open {given!r}: {error.strerror}") from error
        try:
            with naming(given):
                store._open_first(given)
                return store
        except BaseException:
            # Nothing may remain open after any exception, not even a lock.
            store.close()
            raise

    def _open_first(self, given: str) -> None:
        """Open the file, and say of any error that it cannot be opened."""
        try:
            with in_sqlite:
                self._open()
        except OSError as error:
            raise StoreUnusable(f"cannot open {given!r}: {error.strerror}") from error
        except apsw.Error as error:
            raise open_failure(error) from error
        except StoreHalted as error:
            raise StoreUnusable(str(error)) from error

    def _open(self) -> None:
        dies_after_fork(self)
        location = self._location
        if isinstance(location, FileLocation):
            self._ownership = Ownership.acquire(location.lock_path, self._now())
            location.create()
        else:
            # A database in memory ends with its last connection, and must survive `reopen`.
            self._anchor = connect_writer(location, self._vfs)
        self._connect(log_is_suspect=False)

    def _connect(self, *, log_is_suspect: bool, epoch_at_most: int | None = None) -> None:
        self._save_log()
        if isinstance(self._location, FileLocation):
            self._location.claim()
        if self._locks is not None:
            self._locks.own()
        connection = connect_writer(self._location, self._vfs)
        try:
            steps = schema.ladder()
            version = schema.check(connection, steps)
            has_leftovers = bool(version) and self._look_at_log(connection)
            prepare_to_write(connection, self._location)
            if version == 0:
                # One transaction, moved into the file at once: a log of another store is recognized by it.
                with transaction(connection):
                    index = self._shared_index()
                    schema.migrate(connection, steps)
                    writer = self._new_writer(connection, epoch_at_most)
                self._move_log(connection, must=log_is_suspect)
            else:
                schema.migrate(connection, steps)
                index = self._shared_index()
                if has_leftovers:
                    _empty_log(connection)
                self._move_log(connection, must=log_is_suspect)
                # Not in one transaction: the file may be damaged, and what meets damage cannot commit.
                writer = self._new_writer(connection, epoch_at_most)
            if index is not None:
                self._check_index(index)
            relax(connection, self._durability)
            self._location.check()
            self._location.note_size()
        except BaseException:
            connection.close()
            raise
        self._writer, self._epoch, self._sure_pages, self._attempts = writer, writer.epoch, None, 0

    def _new_writer(self, connection: apsw.Connection, epoch_at_most: int | None) -> Writer:
        # From here on the epoch may have advanced, whatever the outcome.
        self._attempts += 1
        return Writer(
            connection,
            self._limits,
            self._now,
            epoch_at_most=epoch_at_most,
            epoch_before=self._epoch,
            on_stranger=self._note_stranger,
            on_mended=self._note_mended,
        )

    def _move_log(self, connection: apsw.Connection, *, must: bool) -> None:
        move_log(connection, must=must)
        if self._sure_pages is not None:
            # All of it is in the file now, and the next commit restarts the log.
            self._sure_pages = 0

    def _look_at_log(self, connection: apsw.Connection) -> bool:
        """Check what is left in the log, before anything is written over it.

        Return whether there are commits after its end.
        """
        if not isinstance(self._location, FileLocation) or self._locks is None:
            return False
        check_log(connection, self._location, self._locks)
        is_synced = self._durability is Durability.FULL
        return save_lost_commits(connection, self._location, is_synced=is_synced) > 0

    def _shared_index(self) -> bytes | None:
        """Hold the shared locks, and return the index's head, which each commit changes."""
        return None if self._locks is None else self._locks.share()

    def _check_index(self, before: bytes) -> None:
        if before == self._shared_index():
            raise StoreHalted(
                f"the index beside {self._location} is not the one in use: close those in this process that"
                " read the store"
            )

    def _note_stranger(self) -> None:
        self._may_shrink = True
        if not self._has_met_strangers:
            self._has_met_strangers = True
            logger.warning(
                "Another program has written to the store %s while it is open; what was known of the file is"
                " read anew. This is said once.",
                self._location,
            )

    def _note_mended(self, made: list[str]) -> None:
        # A row that its index cannot find from now on is damaged itself.
        self._queries.doubts_index = False
        for index in made:
            logger.warning("The index %s of the store was damaged: it was rebuilt from its table.", index)

    def _check_size(self) -> None:
        """Find out why the file has shrunk, if it has: other programs may rewrite it, but not truncate it.

        Raises:
            StoreHalted: its end is gone; or all of it is something else now.
        """
        if self._writer is None or not self._location.has_shrunk() or self._locks is None:
            return
        try:
            size, claimed = self._locks.sizes()
            was_rewritten = self._may_shrink or self._writer.has_company()
        except (OSError, apsw.Error) as error:
            raise StoreHalted(f"{self._location} has become smaller, and cannot be read: {error}") from error
        if size < claimed:
            raise StoreHalted(f"{self._location} was cut to {size} bytes while the store is open")
        if not was_rewritten:
            raise StoreHalted(f"{self._location} was written over while the store is open: start anew")
        logger.warning("%s has become smaller: another program has rewritten it", self._location)
        self._location.note_size()
        self._may_shrink = False

    def _save_log(self) -> None:
        if self._sure_pages is not None and isinstance(self._location, FileLocation):
            write_again(self._location.log_path, self._vfs, self._sure_pages, PAGE_SIZE)

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def path(self) -> Path | None:
        """The file, free of links; None for one in memory or in another VFS."""
        location = self._location
        return location.path if isinstance(location, FileLocation) and self._vfs is None else None

    # Writing

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        return self._written(self._commit, writes)

    def _commit(self, writer: Writer, writes: Sequence[Write]) -> list[Outcome]:
        if self._queries.has_met_damage and not writer.is_mended:
            writer.mend()
        outcomes = writer.prepare(writes)
        writer.commit()
        return outcomes

    def _written(self, write: Callable[Concatenate[Writer, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Write something with the writer. Any exception halts the store."""
        with in_sqlite:
            writer = self._ready()
            self._look_at_location()
            try:
                return write(writer, *args, **kwargs)
            except BaseException as error:
                reason = self._halt(writer, error)
                if isinstance(error, Exception):
                    raise reason from error
                raise

    def _ready(self) -> Writer:
        self._check_alive()
        if self._halted is not None:
            raise StoreHalted(f"the store is halted: {self._halted}") from self._halted
        if self._writer is None:
            raise StoreHalted("the store could not be reopened")
        return self._writer

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise StoreHalted(self._dead)

    def _look_at_location(self) -> None:
        """Check, once a second, that the file is still the one at its path."""
        now = self._now()
        if not 0 <= now - self._checked_at < _SECOND:
            self._checked_at = now
            self._check_location()

    def _check_location(self) -> None:
        try:
            self._location.check()
            if self._ownership is not None:
                self._ownership.check()
            self._check_size()
        except StoreHalted as error:
            self._halted = error
            raise

    def _halt(self, writer: Writer, error: BaseException) -> StoreError:
        """Refuse further writes: the writer's memory, or the file, may be wrong."""
        self._halted = commit_failure(error)
        if isinstance(self._halted, CommitUnknown):
            self._suspect_log(writer)
        roll_back(writer.connection)
        return self._halted

    def _suspect_log(self, writer: Writer) -> None:
        # Without a sync at each commit, nothing is certain.
        self._sure_pages = writer.log_pages if self._durability is Durability.FULL else 0

    def reopen(self) -> None:
        with in_sqlite:
            self._reopen()

    def _reopen(self) -> None:
        self._check_alive()
        if isinstance(self._halted, StoreFenced):
            raise self._halted
        if self._ownership is not None:
            self._ownership = self._ownership.renewed(self._now())
        suspect = isinstance(self._halted, CommitUnknown)
        try:
            self._save_displaced()
            self._check_size()
            self._disconnect()
            # A higher epoch was another owner's.
            self._connect(log_is_suspect=suspect, epoch_at_most=self._epoch + self._attempts)
        except StoreFenced as error:
            self._halted = error
            raise
        except apsw.Error as error:
            raise reopen_failure(error) from error
        except OSError as error:
            raise StoreHalted(f"{self._location} cannot be used (yet): {error.strerror}") from error
        self._halted = None

    def _save_displaced(self) -> None:
        """Move the content of a log that was taken away into its file, while we have both of them open.

        Raises:
            StoreHalted: the file is gone; or a reader uses it, and must end first.
        """
        writer, location = self._writer, self._location
        if writer is None or not isinstance(location, FileLocation):
            return
        try:
            location.check()
        except StoreHalted as found:
            if location.has_strange_log():
                logger.critical("%s, and another program writes to a new one: commits may be lost", found)
                return
            roll_back(writer.connection)
            try:
                writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError as error:
                raise StoreHalted(
                    f"{found}; a reader keeps the log from being saved: it must end first"
                ) from error
            except apsw.Error:
                logger.critical("%s, and what was in the log cannot be saved", found, exc_info=True)
            else:
                logger.warning("%s; what was in the log is saved", found)

    def _disconnect(self) -> None:
        self._readers.renew()
        self._forget_words()
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(apsw.Error):
                writer.connection.close()
        if isinstance(self._location, FileLocation):
            self._location.forget_logs()
        if self._locks is not None:
            self._locks.let_go()

    def resolve(self, writes: Sequence[Write]) -> list[Outcome | None]:
        self._ready()
        return self._asked(lambda connection: [resolve.outcome(connection, write) for write in writes])

    def mend(self) -> list[str]:
        return self._written(Writer.mend)

    def checkpoint(self, *, idle: bool) -> None:
        with in_sqlite:
            self._checkpoint(idle=idle)

    def _checkpoint(self, *, idle: bool) -> None:
        writer = self._ready()
        self._look_at_location()
        if writer.log_pages > LOG_PAGES_WHEN_IDLE:
            # A truncated file would grow again, with holes in the place of records.
            self._check_location()
        try:
            if writer.log_pages > self._truncate_at:
                self._truncate(writer)
            elif idle and writer.log_pages > LOG_PAGES_WHEN_IDLE:
                pages, moved = writer.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                if moved == pages:
                    # The next commit restarts the log.
                    writer.log_pages = 0
        except apsw.Error as error:
            self._halted = reopen_failure(error)
            if self._durability is not Durability.FULL:
                self._suspect_log(writer)
            raise self._halted from error

    def _truncate(self, writer: Writer) -> None:
        """Empty the log unless a reader needs it, without waiting for one."""
        connection = writer.connection
        connection.set_busy_timeout(0)
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            self._truncate_at = writer.log_pages + LOG_PAGES_WHEN_IDLE
        else:
            writer.log_pages = 0
            self._truncate_at = LOG_PAGES_AT_MOST
        finally:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)

    def close(self) -> None:
        if self._dead is not None:
            return
        self._dead = "the store is closed"
        # In reverse order, and completely, whatever is raised or interrupts.
        with in_sqlite, contextlib.ExitStack() as stack:
            if self._ownership is not None:
                stack.callback(self._ownership.release)
            if self._locks is not None:
                stack.callback(self._locks.release)
            if self._anchor is not None:
                stack.callback(self._anchor.close)
            if self._writer is not None:
                stack.callback(self._close_writer, self._writer)
            stack.callback(self._readers.close)

    def _close_writer(self, writer: Writer) -> None:
        # Everything is durable already: a failure here is only less tidy.
        with contextlib.suppress(apsw.Error):
            if self._halted is None:
                writer.keep_numbers()
                self._truncate(writer)
        with contextlib.suppress(apsw.Error):
            writer.connection.close()

    def die_after_fork(self) -> None:
        if self._dead is not None:
            return
        self._dead = "the process was forked: the store belongs to the parent, a child must not use it"
        bury(self._writer, self._readers, self._anchor)

    # Reading

    def _lent(self, question: Callable[[apsw.Connection], T]) -> T:
        self._check_alive()
        with self._readers.connection() as connection:
            return question(connection)


def move_log(connection: apsw.Connection, *, must: bool) -> None:
    """Move the log's content into the file; `must`: all of it."""
    # After a failed sync the kernel may take pages for written that are not. So the log's content is written
    # again, into the file, before any query sees it.
    pages, moved = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    if must and moved < pages:
        raise StoreHalted("a reader keeps the log from being written into the file: it must end first")


def _empty_log(connection: apsw.Connection) -> None:
    # Commits after the log's end may not stay. SQLite may continue the log with the same salts, and if the
    # process is killed then, they look like acknowledged ones. A reader prevents it, which is rare.
    with contextlib.suppress(apsw.BusyError):
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
