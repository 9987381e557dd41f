"""The outcome of writes whose commit ended without an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..contract import Append, Appended, Delivered, Restore
from .statements import rows, value

if TYPE_CHECKING:
    import apsw

    from ..contract import Deliver, Outcome, Write

_RECORD: Final = """
SELECT r.at, CAST(w.word AS BLOB), CAST(r.data AS BLOB) FROM record r
JOIN stream s ON s.id = r.stream
JOIN word w ON w.id = r.kind
WHERE s.name = ? AND r.version = ?
"""
_STANDING: Final = """
SELECT (SELECT max(version) FROM record WHERE stream = s.id), CAST(w.word AS BLOB), s.state, s.alarm
FROM stream s
JOIN word w ON w.id = s.status
WHERE s.name = ?
"""
_WAITING: Final = """
SELECT count(*) FROM inbox i
JOIN stream s ON s.id = i.stream
WHERE s.name = ? AND i.id = ? AND i.settled IS NULL
"""
_UNBURIED: Final = """
SELECT count(*) FROM inbox i
JOIN stream s ON s.id = i.stream
WHERE s.name = ? AND i.key = ? AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE inbox = i.id)
"""
_SIGNAL: Final = """
SELECT i.id, i.at, CAST(i.name AS BLOB), CAST(i.data AS BLOB) FROM inbox i
JOIN stream s ON s.id = i.stream
WHERE s.name = ? AND i.key = ?
"""


def outcome(connection: apsw.Connection, write: Write) -> Outcome | None:
    """Return the outcome of a write; None if it was not written."""
    if isinstance(write, Restore):
        return _records_outcome(connection, Append(write.stream, 0, write.records))
    if isinstance(write, Append):
        return _records_outcome(connection, write) if write.records else _standing_outcome(connection, write)
    return _signal_outcome(connection, write)


def _records_outcome(connection: apsw.Connection, write: Append) -> Outcome | None:
    for version, record in enumerate(write.records, write.expected + 1):
        found = rows(connection, _RECORD, (write.stream, version))
        if found != [(record.at, record.kind.encode(), record.data)]:
            return None
    return Appended(write.expected + len(write.records))


def _standing_outcome(connection: apsw.Connection, write: Append) -> Outcome | None:
    # Without records, it can only be recognised by its effect.
    found = rows(connection, _STANDING, (write.stream,))
    if not found or found[0][0] != write.expected:
        return None
    change = write.header
    if change is not None and found[0][1:] != (change.status.encode(), int(change.state), change.wake_at):
        return None
    settled = (*write.consumed, *(key for key, _ in write.rejected))
    if any(value(connection, _WAITING, (write.stream, key)) for key in settled):
        return None
    if any(value(connection, _UNBURIED, (write.stream, key)) for key, _ in write.given_up):
        return None
    return Appended(write.expected)


def _signal_outcome(connection: apsw.Connection, write: Deliver) -> Outcome | None:
    found = rows(connection, _SIGNAL, (write.stream, write.key))
    if not found:
        return None
    number, at, name, data = found[0]
    if (name, data) != (write.name.encode(), write.data):
        return None
    return Delivered(number, at, duplicate=at != write.at)
