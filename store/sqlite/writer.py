"""The one connection that writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import apsw

from ..contract import Deliver
from ..errors import RecordCorrupt, StoreError, StoreFenced, StoreHalted
from . import schema
from .batch import MALFORMED, Counters, WriteBatch, WriterCache
from .indexes import damaged_indexes, make_anew
from .names import NameTableWriter
from .salvage import given_out
from .statements import roll_back, rows, run, value
from .streams import StreamCache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..contract import NewRecord, Outcome, StoreLimits, Write

_CACHED_STREAMS: Final = 2_048

_ADVANCE_EPOCH: Final = """
UPDATE owner SET
  epoch = max(epoch, ?2) + 1,
  position = max(position, ?3),
  stream = max(stream, ?4),
  inbox = max(inbox, ?5)
WHERE ?1 IS NULL OR epoch <= ?1
RETURNING epoch, position, stream, inbox
"""
_KEEP_NUMBERS: Final = "UPDATE owner SET position = ?, stream = ?, inbox = ? WHERE epoch = ?"
_TRY_RECORD: Final = """
INSERT INTO record (position, stream, version, at, kind, chain, data)
VALUES (?, ?, ?, 0, 0, zeroblob(8), CAST(? AS TEXT))
"""
_DAMAGE: Final = (apsw.CorruptError, apsw.ConstraintError)
_EPOCH: Final = "SELECT epoch FROM owner"
_HIGHEST: Final = """
SELECT max(position, (SELECT ifnull(max(position), 0) FROM record)),
  max(stream, (SELECT ifnull(max(id), 0) FROM stream)),
  max(inbox, (SELECT ifnull(max(id), 0) FROM inbox))
FROM owner
"""
_COMMITS_OF_OTHERS: Final = "PRAGMA data_version"


class Writer:
    """Writes batches. Discard it after any exception: its memory may be ahead of the file."""

    def __init__(  # noqa: PLR0913 - settings, by name
        self,
        connection: apsw.Connection,
        limits: StoreLimits,
        now: Callable[[], int],
        *,
        epoch_at_most: int | None,
        epoch_before: int,
        on_stranger: Callable[[], None],
        on_mended: Callable[[list[str]], None],
    ) -> None:
        self.connection = connection
        self.log_pages = 0
        self._limits = limits
        self._now = now
        self._on_stranger = on_stranger
        self._on_mended = on_mended
        connection.set_wal_hook(self._note_log)
        # Synced like every commit, and before any query: it makes durable what a killed predecessor wrote
        # without a sync, which we could otherwise answer from and then lose.
        advanced = rows(connection, _ADVANCE_EPOCH, (epoch_at_most, epoch_before, *given_out(connection)))
        if not advanced:
            raise StoreFenced("another process has taken over the store: this process must stop")
        row = advanced[0]
        self.epoch: int = row[0]
        self._numbers: tuple[int, int, int] = row[1:]
        self._cache = self._fresh_cache()
        self.is_mended = False
        """Whether the indexes were compared with their tables, and rebuilt where necessary."""
        self._commits_of_others = value(connection, _COMMITS_OF_OTHERS)

    def _fresh_cache(self, *, makes_do: bool = False) -> WriterCache:
        words = NameTableWriter(self.connection)
        streams = StreamCache(self.connection, words, _CACHED_STREAMS, makes_do=makes_do)
        return WriterCache(Counters(*self._numbers), streams, words)

    def _note_log(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self.log_pages = pages
        return 0

    def prepare(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write everything into an open transaction, which `commit` ends."""
        try:
            self._begin()
            batch = self._batch()
            outcomes = batch.plan(writes)
            batch.write()
        except _DAMAGE as error:
            roll_back(self.connection)
            return self._prepared_around(writes, error)
        else:
            return outcomes

    def _begin(self) -> None:
        run(self.connection, "BEGIN IMMEDIATE")
        self._check_epoch()
        if self.has_company():
            self._look_again()

    def has_company(self) -> bool:
        """Return whether another connection has committed without the writer knowing yet."""
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
        """Forget the file's content, because another connection has written to it."""
        schema.check(self.connection, schema.ladder())
        # A number is never given out again, even if its row is gone.
        position, stream, inbox = map(max, self._numbers, rows(self.connection, _HIGHEST)[0])
        self._numbers = (position, stream, inbox)
        self._cache = self._fresh_cache()
        self._commits_of_others = value(self.connection, _COMMITS_OF_OTHERS)
        self._on_stranger()

    def _batch(self) -> WriteBatch:
        return WriteBatch(self.connection, self._cache, self._limits, self._now)

    def _prepared_around(self, writes: Sequence[Write], error: Exception) -> list[Outcome]:
        """Write what can be written if one of the writes needs a damaged page.

        SQLite writes nothing more in a transaction that has met one. So the batch starts again without that
        write, and reads the streams before its transaction.
        """
        if not self.is_mended:
            self.mend()
        if not self._can_grow([r for w in writes if not isinstance(w, Deliver) for r in w.records]):
            raise error
        refused: dict[int, Outcome] = {}
        while True:
            self._cache = self._fresh_cache(makes_do=True)
            outcomes = self._tried(writes, refused)
            if outcomes is not None:
                # From here on, lookups of streams are as strict as before.
                self._cache.streams.makes_do = False
                return outcomes
            roll_back(self.connection)

    def _tried(self, writes: Sequence[Write], refused: dict[int, Outcome]) -> list[Outcome] | None:
        """Write one by one what was not refused; None if this refuses another one."""
        outcomes: list[Outcome] = []
        number = 0
        try:
            for number, write in enumerate(writes):
                if number not in refused:
                    _look_up(self._cache, write.stream)
            self._begin()
            for number, write in enumerate(writes):
                if number in refused:
                    outcomes.append(refused[number])
                    continue
                batch = self._batch()
                outcomes += batch.plan([write])
                batch.write()
        except _DAMAGE as error:
            reason = f"the file is damaged where it is written: {error}"
            refused[number] = RecordCorrupt(writes[number].stream, None, reason)
            return None
        return outcomes

    def _can_grow(self, records: Sequence[NewRecord]) -> bool:
        """Return whether a new stream's records could be written: if not, all writes are affected."""
        position, stream, _ = self._numbers
        try:
            self._begin()
            for number, record in enumerate(records, 1):
                run(self.connection, _TRY_RECORD, (position + number, stream + 1, number, record.data))
        except _DAMAGE:
            return False
        finally:
            roll_back(self.connection)
        return True

    def mend(self) -> list[str]:
        """Rebuild the indexes that do not fit their tables, if those can be read; return their names."""
        self.is_mended = True
        made: list[str] = []
        for index in damaged_indexes(self.connection):
            try:
                self._begin()
                make_anew(self.connection, index)
                run(self.connection, "COMMIT")
            except _DAMAGE:
                roll_back(self.connection)  # the table is damaged, too
            else:
                made.append(index.name)
        self._cache = self._fresh_cache()
        self._on_mended(made)
        return made

    def commit(self) -> None:
        run(self.connection, "COMMIT")
        self._numbers = self._cache.numbers.given_out
        self._cache.streams.age()

    def keep_numbers(self) -> None:
        """Record the numbers given out, so that the next open need not search for them."""
        run(self.connection, _KEEP_NUMBERS, (*self._numbers, self.epoch))


def _look_up(cache: WriterCache, stream: str) -> None:
    with contextlib.suppress(StoreError, *MALFORMED):  # said again when it is written
        cache.streams.find(stream)
