"""The event store's contract: what every implementation offers, and what may be relied upon.

A store keeps *streams* of opaque encoded *records*. Each stream has a *header*, which holds its status, so
that a reader need not read the stream to find out whether there is something to do. Its *inbox* holds the
signals that were acknowledged and not yet consumed.

Threads: only one thread at a time calls `commit`, `checkpoint`, `reopen`, `resolve` and `close`; in the
engine it is the journal's. Any thread may read, also while the store is halted. A store that is closed, or
that a forked child has inherited, raises `StoreHalted` on every use.

Durability: what `commit` has returned survives the loss of power, unless the store was opened with
`Durability.MAY_LOSE_LAST_COMMITS`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .progress import Progress


class Durability(enum.Enum):
    """Whether acknowledged commits survive a loss of power."""

    FULL = "full"
    """They do. It costs one fdatasync per commit, which a group of writes shares."""
    MAY_LOSE_LAST_COMMITS = "may-lose-last-commits"
    """The last commits may be lost, each as a whole; the file stays sound. A killed process loses none."""


class StoreLimits(msgspec.Struct, frozen=True):
    """What a store refuses, so that one stream cannot use up the space of all."""

    inbox: int = 10_000
    """How many signals may wait unconsumed in one stream's inbox (`InboxFull`)."""
    data: int = 16 * 1024 * 1024
    """How many bytes one record or one signal may carry (`RecordTooLarge`)."""


class StreamState(enum.IntEnum):
    """The state of a stream, as far as a store must know it."""

    OPEN = 0
    HELD = 1
    """Takes signals, but they do not make it due: an operator must act first."""
    ENDED = 2
    """Takes no signals any more; what was left in its inbox went to the dead letters."""
    FAILED = 3
    """Takes no new signals, and keeps those in its inbox: an operator may let it go on."""

    @property
    def is_over(self) -> bool:
        """Whether it takes no new signals: it has ended, for good or until somebody lets it go on."""
        return self in (StreamState.ENDED, StreamState.FAILED)


class NewRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to be appended. `at`: microseconds since the epoch, UTC."""

    at: int
    kind: str
    data: bytes


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as it was written. Versions count from 1 in each stream, without gaps."""

    version: int
    at: int
    kind: str
    data: bytes


class GlobalRecord(msgspec.Struct, frozen=True, gc=False):
    """A record with its place in the total order. Positions rise in commit order and are never reused."""

    position: int
    stream: str
    record: Record


class Header(msgspec.Struct, frozen=True, gc=False):
    """The summary of a stream. Instants are microseconds since the epoch, UTC."""

    stream: str
    type: str
    status: str
    state: StreamState
    version: int
    wake_at: int | None
    """The earliest instant at which the stream has something to do; None: only a signal can change that."""
    created_at: int
    """The instant of the first record."""
    updated_at: int
    """The instant of the newest record."""
    damage: str | None = None
    """What part of the stream is not as it was written, in words; None: nothing that the header shows."""
    is_sound: bool = True
    """False: the header itself is damaged. It holds what could be read; the records hold the truth."""


class Inspection(msgspec.Struct, frozen=True):
    """What `inspect` found: the damaged headers among those that it read."""

    damaged: list[Header]
    is_index_damaged: bool
    """An index does not match its table, so a due or named stream may not be found. See `mend`."""
    after: int | None
    """The `after` of the next page; None: this was the last."""


class Unreadable(msgspec.Struct, frozen=True):
    """Stands in for a record that cannot be read, or is not what was written."""

    position: int | None
    """Its place in the total order; None: it was read as part of its stream."""
    stream: str | None
    """None: it is not known which stream it belongs to."""
    version: int | None
    reason: str


class HeaderChange(msgspec.Struct, frozen=True, gc=False):
    """What an append makes of the header. Only sent when it changes the header."""

    status: str
    state: StreamState
    wake_at: int | None


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A signal that was acknowledged and can no longer be delivered, with the reason."""

    id: int
    at: int
    """When it was given up: the instant of the append's last record, else that of the store's clock."""
    stream: str
    name: str
    key: str
    data: bytes
    reason: str


class InboxEntry(msgspec.Struct, frozen=True, gc=False):
    """A signal that was acknowledged and not yet consumed. Ids rise in the order of arrival."""

    id: int
    at: int
    name: str
    key: str
    data: bytes


class LoadedStream(msgspec.Struct, frozen=True, gc=False):
    """What is needed to continue a stream, all of it as of one instant.

    A `RecordCorrupt` in place of `records` or `signals`: they are not what was written.
    """

    header: Header
    records: list[Record] | Exception
    """Its first records, in order."""
    signals: list[InboxEntry] | Exception
    """Its first unconsumed signals, in the order of their arrival."""
    has_more: bool
    """Whether there are records after these, which `read` returns."""


class Append(msgspec.Struct, frozen=True, gc=False):
    """One decision of one stream: all of it is written, or nothing.

    `expected` is the version after which the records go; 0 creates the stream, which needs `type`,
    `header` and at least one record. `consumed` are the ids of inbox entries that these records make
    use of, and `rejected` are inbox entries that go to the dead letters, each with its reason. `given_up`
    are keys of signals that were consumed, now or before, and that nobody will take after all: they go to
    the dead letters as well, unless they are there already. When `header` ends the stream, the entries
    left in its inbox go to the dead letters in the same transaction. An append without records may still
    change the header, consume entries or give signals up.

    A stream whose header is damaged takes only an append that has `type` and `header`, which makes the header
    anew. One whose newest record cannot be read takes only an append without records. `RecordCorrupt` refuses
    all else, and any write to a damaged part of the file.

    As long as an OPEN stream has entries in its inbox, its `wake_at` is no later than the oldest of them,
    whatever `header` says; what `header` asked for returns when they are gone.
    """

    stream: str
    expected: int
    records: tuple[NewRecord, ...]
    header: HeaderChange | None = None
    type: str | None = None
    consumed: tuple[int, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    given_up: tuple[tuple[str, str], ...] = ()


class Deliver(msgspec.Struct, frozen=True, gc=False):
    """A signal for a stream's inbox.

    The same key again, with the same name and data, answers as the first time, also after the
    stream has ended: duplicates are looked for before anything else. A new entry makes an OPEN
    stream due: `wake_at` becomes the earlier of itself and `at`.

    `only_again`: it is answered if it came before, and refused otherwise, since no flow would take it.

    If the first recording has been damaged since, and its checksum matches this signal, it is written again.
    """

    stream: str
    name: str
    key: str
    data: bytes
    at: int
    only_again: bool = False


class PastSignal(msgspec.Struct, frozen=True, gc=False):
    """A signal of a stream that is restored.

    `settled` is the version of the stream that consumed or rejected it; None: it waits. `dead` are the
    instant and the reason of its dead letter, if it has one.
    """

    name: str
    key: str
    data: bytes
    at: int
    settled: int | None = None
    dead: tuple[int, str] | None = None


class Restore(msgspec.Struct, frozen=True, gc=False):
    """All of one stream, as it was in another store. It is written as a whole, or not at all.

    Signals are in the order of their arrival. They count as acknowledged, so there may be more of them than
    an inbox takes. Positions and the ids of signals and dead letters are new.

    The answer is `Appended`, or `WrongExpectedVersion` when there is such a stream.
    """

    stream: str
    type: str
    header: HeaderChange
    records: tuple[NewRecord, ...]
    signals: tuple[PastSignal, ...] = ()


class Appended(msgspec.Struct, frozen=True, gc=False):
    """The append is durable; the stream is at `version` now."""

    version: int


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The signal is durable. `at` and `id` are those of the first delivery."""

    id: int
    at: int
    duplicate: bool


Write: TypeAlias = Append | Deliver | Restore
Outcome: TypeAlias = Appended | Delivered | Exception
"""The result of one write: an exception means that nothing of it was written.

The caller can act upon a `StoreError`. A `ValueError`, `TypeError` or the like means that the write
made no sense: an instant out of range, text that is not Unicode, an inbox entry that does not wait.
"""


class Corruption(msgspec.Struct, frozen=True, gc=False):
    """One finding of `verify`; `version` is None if it is about the header or the file itself."""

    stream: str | None
    version: int | None
    reason: str


class EventReader(Protocol):
    """The reading half of a store. The conformance suite in `tests/layers/conformance` has the details."""

    def header(self, stream: str) -> Header | None:
        """Return the stream's header, or None when there is no such stream."""
        ...

    def headers(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        status: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Header]:
        """List headers in the order of creation; `after` is the last stream of the page before.

        Raises:
            StreamNotFound: there is no stream `after`.
        """
        ...

    def due(self, before: int, *, after: tuple[int, str] | None = None, limit: int = 1000) -> list[Header]:
        """List streams with `wake_at` <= `before`, in the order of (`wake_at`, creation).

        `after` is the (`wake_at`, stream) of the last header of the page before. Without a stream's name, it
        is the instant that the page begins at.

        Raises:
            StreamNotFound: there is no such stream.
        """
        ...

    def next_wake_at(self) -> int | None:
        """Return the earliest `wake_at` of all streams."""
        ...

    def newest_at(self) -> int | None:
        """Return the instant of the newest record or signal of all, by its writer's clock."""
        ...

    def read(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """Read records of one stream in order, each checked against its checksum.

        Raises:
            StreamNotFound: there is no such stream.
            RecordCorrupt: a record is not what was written.
        """
        ...

    def read_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord]:
        """Read records of all streams in the total order, after a position.

        Raises:
            RecordCorrupt: one of them is not what was written; see `scan_all`.
        """
        ...

    def position(self) -> int:
        """Return the position of the newest record in the total order; 0 if there is none."""
        ...

    def scan(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record | Unreadable]:
        """Read records as `read` does, and continue after those that are damaged.

        Raises:
            StreamNotFound: there is no such stream.
        """
        ...

    def scan_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord | Unreadable]:
        """Read records as `read_all` does, and continue after those that are damaged."""
        ...

    def inbox(self, stream: str, *, limit: int = 1000) -> list[InboxEntry]:
        """Read the stream's unconsumed signals in the order of their arrival.

        Raises:
            StreamNotFound: there is no such stream.
            RecordCorrupt: a signal is not what was written.
        """
        ...

    def load(
        self, streams: Sequence[str], *, records: int = 256, signals: int = 1000
    ) -> list[LoadedStream | Exception | None]:
        """Read what is needed to continue each of these streams, in one request to the store.

        It returns at most `records` and `signals` of each. None: there is no such stream. A `StoreError` in
        place of a stream: it cannot be read, though the others can.

        Raises:
            StoreError: none of them can be read now.
        """
        ...

    def dead_letters(
        self, *, stream: str | None = None, after: int = 0, limit: int = 100
    ) -> list[DeadLetter]:
        """Read dead letters, of all streams or of one, oldest first."""
        ...

    def inspect(self, *, after: int = 0, limit: int = 1000) -> Inspection:
        """Check a page of headers, since a stream with a damaged one might never be due, unnoticed.

        It takes microseconds per header, and reads no histories.
        """
        ...

    def verify(self, on_progress: Progress | None = None) -> list[Corruption]:
        """Check every record, chain, header and page; an empty list means that all is well.

        It may take minutes, and hinders no other reader or writer. `on_progress` receives how much is done,
        and the total; what it raises ends the check, and is raised here.
        """
        ...


class EventStore(EventReader, Protocol):
    """What every store offers."""

    @property
    def epoch(self) -> int:
        """The number of the current open; each open and reopen first advances it, with a synced write."""
        ...

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write all of `writes` in one durable transaction, in order; one that is refused harms no other.

        Raises:
            CommitUnknown: the outcome of the whole batch is open; the store is halted.
            StoreFull: nothing was written; the store is halted.
            StoreHalted: nothing was written; the store was halted before.
            StoreFenced: nothing was written, and this process never may again.
            StoreUnusable: nothing was written, and the file is damaged; the store is halted.
        """
        ...

    def reopen(self) -> None:
        """Open again after an error has halted the store, with a synced write.

        Raises:
            StoreError: it cannot be reopened (yet); the store stays halted.
            StoreFenced: another owner has opened it meanwhile; this process must stop.
        """
        ...

    def resolve(self, writes: Sequence[Write]) -> list[Outcome | None]:
        """Return, after `reopen`, the outcomes of a batch for which they were unknown; None: not written."""
        ...

    def mend(self) -> list[str]:
        """Rebuild the indexes that do not match their tables, and return their names.

        Raises:
            StoreError: as `commit`.
        """
        ...

    def checkpoint(self, *, idle: bool) -> None:
        """Move the log into the file, when the engine is idle or the log has grown too long."""
        ...

    def close(self) -> None:
        """Close for good and release the ownership. Idempotent."""
        ...
