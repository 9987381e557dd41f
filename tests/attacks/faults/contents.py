"""All that a store holds, told in a few bytes."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import apsw

# What is not listed does not count: the numbers of the owner, which each opening advances.
_TABLES = (
    "SELECT id, word FROM word WHERE id > 0 ORDER BY id",
    "SELECT id, name, type, status, state, alarm, wake_at, version, created_at, seal FROM stream ORDER BY id",
    "SELECT position, stream, version, at, kind, chain, data FROM record ORDER BY position",
    "SELECT id, stream, name, key, at, settled, seal, data FROM inbox ORDER BY id",
    "SELECT id, inbox, at, reason, seal FROM dead_letter ORDER BY id",
)
EMPTY = b""


def contents(connection: apsw.Connection) -> bytes:
    """Return a digest of every row that was ever acknowledged."""
    digest = blake2b(digest_size=16)
    for table in _TABLES:
        digest.update(repr(connection.execute(table).fetchall()).encode())
    return digest.digest()


def epoch(connection: apsw.Connection) -> int:
    """Return the epoch of the last owner."""
    return connection.execute("SELECT epoch FROM owner").get
