"""The one connection that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import schema
from .batch import Batch, Memory, Numbers
from .errors import StoreFenced, StoreHalted
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
  epoch = max(epoch, ?2) + 1,
  position = max(position, (SELECT ifnull(max(position), 0) FROM record)),
  stream = max(stream, (SELECT ifnull(max(id), 0) FROM stream)),
  inbox = max(inbox, (SELECT ifnull(max(id), 0) FROM inbox))
WHERE ?1 IS NULL OR epoch <= ?1
RETURNING epoch, position, stream, inbox
"""
_KEEP_NUMBERS: Final = "UPDATE owner SET position = ?, stream = ?, inbox = ? WHERE epoch = ?"
_EPOCH: Final = "SELECT epoch FROM owner"
_HIGHEST: Final = """
SELECT max(position, (SELECT ifnull(max(position), 0) FROM record)),
  max(stream, (SELECT ifnull(max(id), 0) FROM stream)),
  max(inbox, (SELECT ifnull(max(id), 0) FROM inbox))
FROM owner
"""
_COMMITS_OF_OTHERS: Final = "PRAGMA data_version"


class Writer:
    """Writes batches. After any exception it must be thrown away: its memory may be ahead of the file."""

    def __init__(  # noqa: PLR0913 - settings, by name
        self,
        connection: apsw.Connection,
        limits: StoreLimits,
        now: Callable[[], int],
        *,
        epoch_at_most: int | None,
        epoch_before: int,
        on_stranger: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.log_pages = 0
        self._limits = limits
        self._now = now
        self._on_stranger = on_stranger
        connection.set_wal_hook(self._note_log)
        # Synced like every commit, and before anything is answered: it makes durable what a killed
        # predecessor wrote and did not sync, which we could otherwise answer from and then lose.
        advanced = rows(connection, _ADVANCE_EPOCH, (epoch_at_most, epoch_before))
        if not advanced:
            raise StoreFenced("another owner has opened the store in the meantime: this process must stop")
        row = advanced[0]
        self.epoch: int = row[0]
        self._memory = self._fresh_memory(*row[1:])
        self._commits_of_others = value(connection, _COMMITS_OF_OTHERS)

    def _fresh_memory(self, *numbers: int) -> Memory:
        words = WordWriter(self.connection)
        return Memory(Numbers(*numbers), StreamCache(self.connection, words, _CACHED_STREAMS), words)

    def _note_log(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self.log_pages = pages
        return 0

    def prepare(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write everything into an open transaction, which `commit` ends."""
        run(self.connection, "BEGIN IMMEDIATE")
        self._check_epoch()
        if self.has_company():
            self._look_again()
        batch = Batch(self.connection, self._memory, self._limits, self._now)
        outcomes = batch.plan(writes)
        batch.write()
        return outcomes

    def has_company(self) -> bool:
        """Tell whether somebody else has committed, of whom the writer does not know yet."""
        return value(self.connection, _COMMITS_OF_OTHERS) != self._commits_of_others

    def _check_epoch(self) -> None:
        found = value(self.connection, _EPOCH)
        if found == self.epoch:
            return
        if found is not None and found < self.epoch:
            raise StoreHalted(
                f"the store is at epoch {found}, this process had epoch {self.epoch}: an older state was put"
                " in its place"
            )
        raise StoreFenced(f"the store is at epoch {found}, this process had epoch {self.epoch}: it must stop")

    def _look_again(self) -> None:
        """Forget what is known of the file, since somebody else has written to it: all may be different."""
        schema.check(self.connection, schema.ladder())
        known = self._memory.numbers
        found = rows(self.connection, _HIGHEST)[0]
        # A number is never given out again, even if what had it is gone.
        highest = (known.position, known.stream, known.inbox)
        self._memory = self._fresh_memory(*map(max, highest, found))
        self._commits_of_others = value(self.connection, _COMMITS_OF_OTHERS)
        self._on_stranger()

    def commit(self) -> None:
        """End the transaction."""
        run(self.connection, "COMMIT")
        self._memory.streams.age()

    def keep_numbers(self) -> None:
        """Write down which numbers were given out; the next open would otherwise look for the highest."""
        numbers = self._memory.numbers
        row = (numbers.position, numbers.stream, numbers.inbox, self.epoch)
        run(self.connection, _KEEP_NUMBERS, row)
