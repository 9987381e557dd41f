"""A log that belongs to another store: SQLite would write its pages over this one's.

A log does not say which file it belongs to. So each store gets a random name, which is moved into the file at
once. If a killed process has left a log, the name in the file is compared with the one seen through the log,
which has that page if any word was new.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from ..errors import StoreUnusable
from .statements import value

if TYPE_CHECKING:
    import apsw

    from ..files.file_locks import FileLocks
    from ..files.location import FileLocation

_NAME: Final = re.compile(rb"store [0-9a-f]{32}")
_SEEN: Final = "SELECT CAST(word AS BLOB) FROM word WHERE id = 0"
_ROOT: Final = "SELECT rootpage FROM sqlite_schema WHERE name = 'word'"
_INTERIOR: Final = 5
"""The kind of a table's interior page. Its children are in order, so the first row is on the first."""
_CELLS_AT: Final = 12
_PLACE: Final = struct.Struct(">H")
_PAGE: Final = struct.Struct(">I")


def check_log(connection: apsw.Connection, location: FileLocation, locks: FileLocks) -> None:
    """Raise `StoreUnusable` for a log of another store, before anything is written.

    The connection must have read before.
    """
    log = location.log_path
    if not log.exists() or log.stat().st_size == 0:
        return
    seen: bytes | None = value(connection, _SEEN)
    size = connection.pragma("page_size")
    page = locks.page(value(connection, _ROOT), size)
    if page[:1] == bytes([_INTERIOR]):
        (cell,) = _PLACE.unpack_from(page, _CELLS_AT)
        (first,) = _PAGE.unpack_from(page.ljust(size + _PAGE.size, b"\0"), min(cell, size))
        page = locks.page(first, size)
    own = _NAME.search(page)
    if own is not None and seen is not None and own[0] != seen and _NAME.fullmatch(seen):
        raise StoreUnusable(
            f"the log {log.name} beside {location} belongs to another store, whose commits would take the"
            " place of this one's: put its own log back. If that is lost, move this one away; what"
            " was in the lost one alone is missing then"
        )
