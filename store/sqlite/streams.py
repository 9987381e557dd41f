"""The writer's memory of streams: the hot path appends without a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw

from ..contract import InboxEntry, StreamState
from .checksum import header_seal, signal_seal
from .salvage import by_either_index, key_by_table
from .statements import rows, text, value

if TYPE_CHECKING:
    from .names import NameTableWriter
    from .statements import Row

SIGNALS_LOOKED_AT: Final = 1_000
"""How many of a stream's signals are compared with their checksums before it takes a new one."""

_LOAD: Final = """
SELECT id, type, status, state, alarm, wake_at, version, created_at, seal FROM stream WHERE
"""
_LOAD_LAST: Final = "SELECT version, chain FROM record WHERE stream = ? ORDER BY version DESC LIMIT 1"
_LOAD_VERSION: Final = "SELECT max(version) FROM record WHERE stream = ?"
_LOAD_FIRST: Final = "SELECT at FROM record WHERE stream = ? AND version = 1"
_LOAD_WAITING: Final = """
SELECT id, at FROM inbox INDEXED BY {} WHERE stream = ? AND settled IS NULL ORDER BY id
"""
_LOAD_STRICTLY: Final = _LOAD_WAITING.format("inbox_waiting")
_SIGNALS: Final = """
SELECT id, at, CAST(name AS BLOB), CAST(key AS BLOB), CAST(data AS BLOB), seal
FROM inbox INDEXED BY sqlite_autoindex_inbox_1 WHERE stream = ? LIMIT ?
"""


class Stream:
    """One stream at its newest version."""

    __slots__ = (
        "alarm",
        "chain",
        "created_at",
        "damage",
        "id",
        "inbox_damage",
        "misread",
        "name",
        "state",
        "status",
        "type",
        "version",
        "waiting",
        "wake_at",
    )

    def __init__(self, key: int, name: str, kind: str, created_at: int) -> None:
        self.id = key
        self.name = name
        self.type = kind
        self.created_at = created_at
        self.status = ""
        self.state = StreamState.OPEN
        self.alarm: int | None = None
        self.wake_at: int | None = None
        self.version = 0
        self.chain: bytes | None = b""
        """The link of its newest record; None: it cannot be read, and nothing can be appended."""
        self.damage = ""
        """What is wrong with its header, until it is replaced."""
        self.inbox_damage = ""
        self.misread: list[Row] | None = None
        """Signals that are not what was written, waiting or not; None: not checked yet."""
        self.waiting: dict[int, int] = {}
        """Id and instant of each signal that is neither consumed nor rejected, in order of arrival."""

    def due(self) -> int | None:
        """Return when the stream is due: at its alarm, or as soon as a signal waits for it."""
        if self.waiting and self.state == StreamState.OPEN:
            oldest = next(iter(self.waiting.values()))
            return oldest if self.alarm is None else min(oldest, self.alarm)
        return self.alarm

    def seal(self) -> int:
        numbers = (int(self.state), self.alarm, self.wake_at, self.version, self.created_at)
        return header_seal(self.name, self.type, self.status, numbers)


def state_of(stored: int) -> StreamState:
    """Return a stream's state; a damaged one counts as held, since it needs a person."""
    try:
        return StreamState(stored)
    except ValueError:
        return StreamState.HELD


class StreamCache:
    """The streams that were written to most recently.

    Two generations replace a list in the order of use: a stream unused for a whole generation is forgotten,
    and one that is used costs one more lookup.

    `makes_do`: accept a stream that is partly unreadable as it is.
    """

    def __init__(
        self, connection: apsw.Connection, words: NameTableWriter, size: int, *, makes_do: bool
    ) -> None:
        self._connection = connection
        self._words = words
        self._generation_size = size // 2
        self.makes_do = makes_do
        self._young: dict[str, Stream] = {}
        self._old: dict[str, Stream] = {}

    def find(self, name: str) -> Stream | None:
        """Return the stream, or None if there is none.

        Raises:
            apsw.CorruptError: it cannot be read.
        """
        stream = self._young.get(name)
        if stream is None:
            stream = self._old.get(name) or self._load(name)
            if stream is not None:
                self._young[name] = stream
        return stream

    def add(self, stream: Stream) -> None:
        """Add a new stream."""
        self._young[stream.name] = stream

    def age(self) -> None:
        """Forget what has not been used for long; never within a batch, which may hold unwritten state."""
        if len(self._young) > self._generation_size:
            self._old = self._young
            self._young = {}

    def _load(self, name: str) -> Stream | None:
        found = self._row(name)
        if not found:
            return None
        key, kind, status, state, alarm, wake_at, version, created_at, sealed = found[0]
        names = self._words.names
        words = names.get(kind, ""), names.get(status, "")
        stream = Stream(key, name, words[0], created_at)
        if sealed == header_seal(name, *words, (state, alarm, wake_at, version, created_at)):
            stream.status, stream.state = words[1], state_of(state)
            stream.alarm, stream.wake_at = alarm, wake_at
        else:
            stream.damage = "its header does not match its checksum"
            stream.created_at = value(self._connection, _LOAD_FIRST, (key,)) or 0
            version = 0
        self._load_last(stream, version)
        self._load_waiting(stream)
        if self.makes_do:
            self._load_misread(stream)
        return stream

    def _row(self, name: str) -> list[Row]:
        try:
            return rows(self._connection, _LOAD + "name = ?", (name,))
        except apsw.CorruptError:
            # Perhaps it is the index of names alone.
            key = key_by_table(self._connection, name) if self.makes_do else None
            if key is None:
                raise  # perhaps there is such a stream, and perhaps not
            return rows(self._connection, _LOAD + "id = ?", (key,))

    def _load_last(self, stream: Stream, at_least: int) -> None:
        try:
            found = rows(self._connection, _LOAD_LAST, (stream.id,))
        except apsw.CorruptError:
            if not self.makes_do:
                raise
            found = [(value(self._connection, _LOAD_VERSION, (stream.id,)), None)]
        stream.version, stream.chain = found[0] if found else (0, None)
        if stream.version < at_least:
            stream.version, stream.chain = at_least, None

    def _load_waiting(self, stream: Stream) -> None:
        if not self.makes_do:
            stream.waiting = dict(rows(self._connection, _LOAD_STRICTLY, (stream.id,)))
            return
        try:
            stream.waiting = dict(by_either_index(self._connection, _LOAD_WAITING, (stream.id,)))
        except apsw.CorruptError as error:
            stream.inbox_damage = f"its inbox cannot be read: {error}"

    def _load_misread(self, stream: Stream) -> None:
        """Check its signals before the transaction, in which an unreadable one stops all writes."""
        try:
            stream.misread = misread_of(stream.id, signals_of(self._connection, stream.id))
        except apsw.CorruptError:
            stream.misread = []  # their keys are in an index as well


def signals_of(connection: apsw.Connection, stream: int) -> list[Row]:
    """Return signals of a stream, waiting or not: all of them, up to a limit."""
    return rows(connection, _SIGNALS, (stream, SIGNALS_LOOKED_AT))


def misread_of(stream: int, signals: list[Row]) -> list[Row]:
    """Return the signals that are not what was written."""
    return [
        row
        for row in signals
        if row[5] != signal_seal(stream, InboxEntry(row[0], row[1], text(row[2]), text(row[3]), row[4]))
    ]
