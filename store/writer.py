"""The one connection that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .batch import Batch, Memory, Numbers
from .errors import StoreFenced
from .statements import rows, run, value
from .streams import StreamCache
from .words import WordWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apsw

    from .contract import Outcome, StoreLimits, Write

_CACHED_STREAMS: Final = 2_048

_ADVANCE_EPOCH: Final = """
UPDATE owner SET
  epoch = epoch + 1,
  position = max(position, (SELECT ifnull(max(position), 0) FROM record)),
  stream = max(stream, (SELECT ifnull(max(id), 0) FROM stream)),
  inbox = max(inbox, (SELECT ifnull(max(id), 0) FROM inbox))
WHERE ?1 IS NULL OR epoch <= ?1
RETURNING epoch, position, stream, inbox
"""
_KEEP_NUMBERS: Final = "UPDATE owner SET position = ?, stream = ?, inbox = ? WHERE epoch = ?"
_EPOCH: Final = "SELECT epoch FROM owner"


class Writer:
    """Writes batches. After any exception it must be thrown away: its memory may be ahead of the file."""

    def __init__(
        self,
        connection: apsw.Connection,
        limits: StoreLimits,
        now: Callable[[], int],
        *,
        epoch_at_most: int | None,
    ) -> None:
        self.connection = connection
        self.log_pages = 0
        self._limits = limits
        self._now = now
        connection.set_wal_hook(self._note_log)
        # Synced like every commit, and before anything is answered: it makes durable what a killed
        # predecessor wrote and did not sync, which we could otherwise answer from and then lose.
        advanced = rows(connection, _ADVANCE_EPOCH, (epoch_at_most,))
        if not advanced:
            raise StoreFenced("another owner has opened the store in the meantime: this process must stop")
        row = advanced[0]
        self.epoch: int = row[0]
        words = WordWriter(connection)
        self._memory = Memory(Numbers(*row[1:]), StreamCache(connection, words, _CACHED_STREAMS), words)

    def _note_log(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self.log_pages = pages
        return 0

    def prepare(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write everything into an open transaction, which `commit` ends."""
        run(self.connection, "BEGIN IMMEDIATE")
        found = value(self.connection, _EPOCH)
        if found != self.epoch:
            raise StoreFenced(
                f"the store is at epoch {found}, this process had epoch {self.epoch}: it must stop"
            )
        batch = Batch(self.connection, self._memory, self._limits, self._now)
        outcomes = batch.plan(writes)
        batch.write()
        return outcomes

    def commit(self) -> None:
        """End the transaction."""
        run(self.connection, "COMMIT")
        self._memory.streams.age()

    def keep_numbers(self) -> None:
        """Write down which numbers were given out; the next open would otherwise look for the highest."""
        numbers = self._memory.numbers
        row = (numbers.position, numbers.stream, numbers.inbox, self.epoch)
        run(self.connection, _KEEP_NUMBERS, row)
