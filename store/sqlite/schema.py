"""The file's schema: its migrations, and whether a file has exactly this schema."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Final, TypeAlias

import apsw

from ..errors import StoreUnusable
from .statements import rows, run, transaction, value

if TYPE_CHECKING:
    from collections.abc import Sequence

APPLICATION_ID: Final = 0x50657253
"""`PerS`: marks the file, in its header, as a store."""

_STEPS: Final = ("schema_1.sql", "schema_2.sql", "schema_3.sql")

# The tables of ANALYZE are harmless: they change plans, not answers.
_SCHEMA: Final = (
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat_' ESCAPE '\\'"
)


_INDEX_IS_RISKY: Final = """
SELECT 1 FROM pragma_index_list(?1) AS list
WHERE list.name = ?2 AND (list."unique" OR list.partial OR EXISTS (
  SELECT 1 FROM pragma_index_xinfo(?2) AS part
  WHERE part.cid = -2 OR part.key AND part.coll NOT IN ('BINARY', 'NOCASE', 'RTRIM')
))
"""

_Objects: TypeAlias = "dict[tuple[str, str], tuple[str, str | None]]"
"""By kind and name: the table that it belongs to, and the statement that created it."""


@cache
def ladder() -> tuple[str, ...]:
    """Return the scripts that lead from an empty file to the newest schema, one per version.

    They are cached, because each statement of a reader needs them.
    """
    package = resources.files(__package__)
    return tuple(package.joinpath(step).read_text(encoding="utf-8") for step in _STEPS)


def check(connection: apsw.Connection, steps: Sequence[str]) -> int:
    """Check, without writing, whether the file is a store that this code may open.

    Returns the version of its schema, or 0 if it is empty and can become a store.

    Raises:
        StoreUnusable: it is not such a store; the message says why.
    """
    try:
        version = connection.pragma("user_version")
        application = connection.pragma("application_id")
        found = _objects(connection)
    except apsw.NotADBError as error:
        raise StoreUnusable("the file is not an SQLite database") from error
    except apsw.Error as error:
        raise StoreUnusable(f"the file cannot be read: {error}") from error
    if application == 0 and version == 0 and not found:
        return 0
    if application != APPLICATION_ID:
        raise StoreUnusable("the file is an SQLite database, but not a store")
    if version > len(steps):
        raise StoreUnusable(
            f"the store has schema {version}, this code knows up to {len(steps)}: use a newer one"
        )
    _compare(found, steps, version)
    _check_indexes(connection, found, _expected(tuple(steps[:version])))
    return version


def additions(connection: apsw.Connection, steps: Sequence[str], version: int) -> tuple[str, ...]:
    """Return the objects that other programs added to the file, each with its kind."""
    strange = _objects(connection).keys() - _expected(tuple(steps[:version])).keys()
    return tuple(f"{kind} {name}" for kind, name in sorted(strange))


def migrate(connection: apsw.Connection, steps: Sequence[str]) -> None:
    """Migrate the file to the newest schema, in one transaction."""
    version = connection.pragma("user_version")
    if version == len(steps):
        return
    with transaction(connection):
        for step in steps[version:]:
            run(connection, step)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", len(steps))


def provide_views(connection: apsw.Connection, version: int, steps: Sequence[str]) -> None:
    """Create the newest views for this connection alone, in a file of an older schema.

    They fit the tables of every version.
    """
    if version < len(steps):
        old, new = _expected(tuple(steps[:version])), _expected(tuple(steps))
        for (kind, name), (table, sql) in new.items():
            if kind == "view" and sql is not None and old.get((kind, name)) != (table, sql):
                run(connection, sql.replace("CREATE VIEW", "CREATE TEMP VIEW", 1))


def _objects(connection: apsw.Connection) -> _Objects:
    return {(kind, name): (table, sql) for kind, name, table, sql in rows(connection, _SCHEMA)}


@lru_cache(maxsize=4)
def _expected(steps: tuple[str, ...]) -> _Objects:
    reference = apsw.Connection(":memory:")
    try:
        migrate(reference, steps)
        return _objects(reference)
    finally:
        reference.close()


def _compare(found: _Objects, steps: Sequence[str], version: int) -> None:
    """Raise unless our own objects are as this code makes them, and those of others do no harm."""
    expected = _expected(tuple(steps[:version]))
    # Tables before the indexes that come with them.
    for kind, name in sorted(expected.keys() - found.keys(), reverse=True):
        raise StoreUnusable(f"the store lacks its {kind} {name!r}")
    for key, definition in expected.items():
        if found[key] != definition:
            kind, name = key
            raise StoreUnusable(f"the store's {kind} {name!r} is not as this code would have made it")
    tables = {name for kind, name in expected if kind != "index"}
    to_come = {name.lower() for _, name in _expected(tuple(steps)).keys() - expected.keys()}
    for kind, name in sorted(found.keys() - expected.keys(), key=repr):
        table, _ = found[kind, name]
        if kind == "trigger" and table in tables:
            raise StoreUnusable(
                f"the store has a trigger {name!r} on its {table!r}, which would change what is recorded, and"
                f" which the engine never fires: DROP TRIGGER {name}"
            )
        if name.lower() in to_come:
            raise StoreUnusable(
                f"the store has a {kind} {name!r} of another program, and needs that name itself: rename it"
            )


def _check_indexes(connection: apsw.Connection, found: _Objects, expected: _Objects) -> None:
    """Raise if an index of another program on a table of ours could prevent a write."""
    tables = {name for kind, name in expected if kind == "table"}
    for kind, name in sorted(found.keys() - expected.keys(), key=repr):
        table, _ = found[kind, name]
        if kind != "index" or table not in tables:
            continue
        if value(connection, _INDEX_IS_RISKY, (table, name)):
            raise StoreUnusable(
                f"the store has an index {name!r} on its table {table!r} that could keep something from being"
                f" recorded: one that is UNIQUE, PARTIAL, or of an expression. DROP INDEX {name}"
            )
