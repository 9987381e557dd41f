"""How streams stand, as the writer remembers it: the hot path appends without a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .checksum import seal
from .contract import StreamState
from .errors import RecordCorrupt
from .statements import rows

if TYPE_CHECKING:
    import apsw

    from .words import WordWriter

_LOAD: Final = "SELECT id, type, status, state, alarm, wake_at, created_at FROM stream WHERE name = ?"
_LOAD_LAST: Final = "SELECT version, chain FROM record WHERE stream = ? ORDER BY version DESC LIMIT 1"
_LOAD_WAITING: Final = "SELECT id, at FROM inbox WHERE stream = ? AND settled IS NULL ORDER BY id"


class Stream:
    """One stream at its newest version."""

    __slots__ = (
        "alarm",
        "chain",
        "created_at",
        "id",
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
        self.chain = b""
        self.waiting: dict[int, int] = {}
        """Id and instant of each signal that is neither consumed nor rejected, in order of arrival."""

    def due(self) -> int | None:
        """When the stream has something to do: at its alarm, or as soon as a signal waits for it."""
        if self.waiting and self.state == StreamState.OPEN:
            oldest = next(iter(self.waiting.values()))
            return oldest if self.alarm is None else min(oldest, self.alarm)
        return self.alarm

    def seal(self) -> int:
        """The checksum of the stream's row."""
        numbers = (int(self.state), self.alarm, self.wake_at, self.version, self.created_at)
        return header_seal(self.name, self.type, self.status, numbers)


def state_of(stored: int) -> StreamState:
    """Return a stream's state; one that is damaged is held, since somebody must look first."""
    try:
        return StreamState(stored)
    except ValueError:
        return StreamState.HELD


def header_seal(name: str, kind: str, status: str, numbers: tuple[int | None, ...]) -> int:
    """The checksum of a stream's row; words count by what they say, not by their number."""
    return seal(f"{name}\0{kind}\0{status}\0{numbers}")


class StreamCache:
    """The streams that were written to most recently.

    Two generations instead of a list in the order of use: what was not asked for during a whole
    generation is forgotten, at the price of one lookup more for what was.
    """

    def __init__(self, connection: apsw.Connection, words: WordWriter, size: int) -> None:
        self._connection = connection
        self._words = words
        self._generation_size = size // 2
        self._young: dict[str, Stream] = {}
        self._old: dict[str, Stream] = {}

    def find(self, name: str) -> Stream | None:
        """Return how the stream stands, None when there is no such stream."""
        stream = self._young.get(name)
        if stream is None:
            stream = self._old.get(name) or self._load(name)
            if stream is not None:
                self._young[name] = stream
        return stream

    def add(self, stream: Stream) -> None:
        """Take in a stream that has just been created."""
        self._young[stream.name] = stream

    def age(self) -> None:
        """Forget what was not used for long; never within a batch, which may hold unwritten state."""
        if len(self._young) > self._generation_size:
            self._old = self._young
            self._young = {}

    def _load(self, name: str) -> Stream | None:
        found = rows(self._connection, _LOAD, (name,))
        if not found:
            return None
        key, kind, status, state, alarm, wake_at, created_at = found[0]
        last = rows(self._connection, _LOAD_LAST, (key,))
        names = self._words.names
        if kind not in names or status not in names or not last:
            raise RecordCorrupt(name, None, "what its header refers to is missing")
        stream = Stream(key, name, names[kind], created_at)
        stream.status, stream.state = names[status], state_of(state)
        stream.alarm, stream.wake_at = alarm, wake_at
        stream.version, stream.chain = last[0]
        stream.waiting = dict(rows(self._connection, _LOAD_WAITING, (key,)))
        return stream
