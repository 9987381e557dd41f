"""A read-only view of a store at one instant, whoever has it open."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import apsw

from ..errors import StoreHalted, StoreUnusable
from ..files.forking import in_sqlite
from ..files.location import FileLocation, existing
from ..sqlite import schema
from ..sqlite.connection import check_sqlite_version, connect_reader, connect_to_file_at_rest
from ..sqlite.failures import read_failure
from ..sqlite.statements import roll_back, run, value

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from ..files.location import FileState


class ReadOnlyStore(NamedTuple):
    """A read-only connection to a store. `at_rest`: the state of the files, if nothing is locked."""

    path: Path
    connection: apsw.Connection
    at_rest: FileState | None


@contextmanager
def looked_at(path: str | os.PathLike[str], vfs: str | None) -> Generator[ReadOnlyStore]:
    """Connect to a store to read it. A long read must `rest` (see `forking`).

    Raises:
        StoreUnusable: it is missing, not a store, too new, damaged, or may not be read.
    """
    with in_sqlite:
        check_sqlite_version()
        with existing(path) as location:
            look = _look(location, vfs)
        try:
            if schema.check(look.connection, schema.ladder()) == 0:
                raise StoreUnusable(f"{os.fspath(path)!r} is empty: it is not a store yet")
            yield look
        finally:
            look.connection.close()


def _look(location: FileLocation, vfs: str | None) -> ReadOnlyStore:
    connection = connect_reader(location, vfs)
    try:
        connection.pragma("schema_version")
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        connection.close()
        # In a read-only place, a file is read without locks if no process has it open.
        file_state = location.file_state()
        if file_state.at_rest is None:
            raise StoreUnusable(f"{location.path} cannot be read by this user: {error}") from error
        return ReadOnlyStore(location.path, connect_to_file_at_rest(location, vfs), file_state)
    except apsw.Error as error:
        connection.close()
        raise read_failure(error) from error
    return ReadOnlyStore(location.path, connection, None)


@contextmanager
def snapshot(look: ReadOnlyStore) -> Generator[apsw.Connection]:
    """Let all queries of the block see the same state.

    The engine's log cannot restart meanwhile, so the block must not wait for anything.
    """
    connection = look.connection
    # A copy of the pages would otherwise restart with each commit of another process, for ever.
    run(connection, "BEGIN")
    try:
        value(connection, "SELECT epoch FROM owner")
        yield connection
    finally:
        roll_back(connection)
    if look.at_rest is not None and FileLocation(look.path).file_state() != look.at_rest:
        raise StoreHalted(f"{look.path} was opened by another process while it was read: try again")


def time_of(look: ReadOnlyStore) -> int:
    """Return the time, in microseconds; only for people to read."""
    return value(look.connection, "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)")
