"""Connections to the file, which execute nothing in it and lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw

from ..contract import Durability
from ..errors import StoreUnusable
from ..files.file_locks import note_connection
from ..files.location import FileLocation
from . import schema
from .statements import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..files.location import MemoryLocation

# 3.7.0 to 3.51.2 can lose commits when a checkpoint meets a writer; 3.52.0 was withdrawn.
OLDEST_SQLITE: Final = (3, 51, 3)
_WITHDRAWN: Final = (3, 52)

BUSY_TIMEOUT_MS: Final = 5_000

_SWITCHES: Final = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
    # A forked child that closes its copy must not checkpoint under its parent; and with the log that stays
    # after the last close, a user with read access alone can open the file.
    (apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1),
)
_PRAGMAS: Final = (("cell_size_check", "ON"), ("mmap_size", 0), ("temp_store", "MEMORY"))
_WRITER_PRAGMAS: Final = (
    ("synchronous", "FULL"),
    ("locking_mode", "NORMAL"),
    ("wal_autocheckpoint", 0),
    ("cache_size", -4_096),
    ("journal_size_limit", 64 * 1024 * 1024),
)


def check_sqlite_version() -> None:
    """Raise `StoreUnusable` on an SQLite that loses commits."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE or version[:2] == _WITHDRAWN:
        raise StoreUnusable(
            f"SQLite {apsw.sqlite_lib_version()} can lose commits: 3.51.3 or 3.53.0 is needed"
        )


def connect_writer(location: FileLocation | MemoryLocation, vfs: str | None) -> apsw.Connection:
    """Connect for reading and writing, without touching the file yet."""
    return _hardened(_connect(location, vfs, apsw.SQLITE_OPEN_READWRITE))


def connect_reader(location: FileLocation | MemoryLocation, vfs: str | None) -> apsw.Connection:
    """Connect for queries only."""
    # A database in memory has no read-only connections.
    mode = apsw.SQLITE_OPEN_READONLY if isinstance(location, FileLocation) else apsw.SQLITE_OPEN_READWRITE
    return _for_queries_alone(_connect(location, vfs, mode))


def connect_to_file_at_rest(location: FileLocation, vfs: str | None) -> apsw.Connection:
    """Connect for queries only, to a file that no other process has open.

    This locks nothing and creates no log; the caller must check afterwards that no other process has opened
    the file.
    """
    mode = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    return _for_queries_alone(_opened(f"{location.path.as_uri()}?immutable=1", mode, vfs))


def connect_to_requests(path: Path, patience_ms: int, vfs: str | None) -> apsw.Connection:
    """Connect to the file of requests, without reading it yet."""
    mode = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
    connection = _hardened(apsw.Connection(str(path), flags=mode, vfs=vfs))
    connection.set_busy_timeout(patience_ms)
    return connection


def connect_to_projection(name: str, mode: int) -> apsw.Connection:
    """Connect to the file of a projection, in which its own schema may have triggers and views."""
    connection = _hardened(apsw.Connection(name, flags=mode))
    for switch in (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, apsw.SQLITE_DBCONFIG_ENABLE_VIEW):
        connection.config(switch, 1)
    return connection


def let_query(connection: apsw.Connection, steps: Sequence[str]) -> None:
    """Prepare a connection for a user's statements, with the views.

    The schema is compared within the transaction that the statements see, so the store's views are its own.
    Those of other programs can do no more than a statement.

    Raises:
        StoreUnusable: the file does not have the expected schema.
    """
    connection.pragma("query_only", "OFF")
    run(connection, "BEGIN")
    schema.provide_views(connection, schema.check(connection, steps), steps)
    connection.pragma("query_only", "ON")
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 1)
    connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)


def _for_queries_alone(connection: apsw.Connection) -> apsw.Connection:
    connection = _hardened(connection)
    connection.pragma("query_only", "ON")
    return connection


def _connect(location: FileLocation | MemoryLocation, vfs: str | None, mode: int) -> apsw.Connection:
    if isinstance(location, FileLocation):
        return _opened(str(location.path), mode, vfs)
    return _opened(location.uri, mode | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI, None)


def _opened(name: str, mode: int, vfs: str | None) -> apsw.Connection:
    try:
        connection = apsw.Connection(name, flags=mode, vfs=vfs)
    except (apsw.Error, UnicodeEncodeError) as error:
        raise StoreUnusable(f"cannot open the store: {error}") from error
    note_connection(connection, name)
    return connection


def _hardened(connection: apsw.Connection) -> apsw.Connection:
    # These come first: before them, reading the file could do harm.
    for switch, value in _SWITCHES:
        connection.config(switch, value)
    connection.enable_load_extension(False)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    for name, value in _PRAGMAS:
        connection.pragma(name, value)
    return connection


def prepare_to_write(connection: apsw.Connection, location: FileLocation | MemoryLocation) -> None:
    """Put the file into WAL mode with full syncs; the store runs its own checkpoints."""
    if isinstance(location, FileLocation):
        mode = connection.pragma("journal_mode", "WAL")
        if mode != "wal":
            raise StoreUnusable(f"{location.path} cannot be put into WAL mode, it stays in {mode} mode")
    for name, value in _WRITER_PRAGMAS:
        connection.pragma(name, value)


def relax(connection: apsw.Connection, durability: Durability) -> None:
    """Stop the syncs that `durability` gives up; earlier writes are synced."""
    if durability is Durability.MAY_LOSE_LAST_COMMITS:
        connection.pragma("synchronous", "NORMAL")
