"""The event store's contract: what every implementation offers, and what may be relied upon.

A store keeps *streams* of opaque encoded *records*. Each stream has a *header* that says how it
stands, so that nobody must read a stream to find out whether there is something to do, and an
*inbox* of signals that were acknowledged and not yet consumed.

Threads: `commit`, `checkpoint`, `reopen`, `resolve` and `close` belong to one thread at a time,
the journal's. Reading is open to every thread, also while the store is halted; what is closed, or was
inherited by a forked child, raises `StoreHalted` on every use.

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
    """It is there. One fdatasync a commit; group commit makes it nearly free."""
    MAY_LOSE_LAST_COMMITS = "may-lose-last-commits"
    """The last commits may be gone, in whole; the file is never corrupt. Survives a killed process."""


class StoreLimits(msgspec.Struct, frozen=True):
    """What a store refuses, so that one stream cannot take the room of all."""

    inbox: int = 10_000
    """How many signals may wait unconsumed in one stream's inbox (`InboxFull`)."""
    data: int = 16 * 1024 * 1024
    """How many bytes one record or one signal may carry (`RecordTooLarge`)."""


class StreamState(enum.IntEnum):
    """How a stream stands, as far as a store must know."""

    OPEN = 0
    HELD = 1
    """Takes signals, but is not due because of them: somebody must look first."""
    ENDED = 2
    """Takes no signals any more; what was left in its inbox went to the dead letters."""
    FAILED = 3
    """Takes no new signals, and keeps those in its inbox: somebody may let it go on."""

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
    """A record in the store's one total order. Positions rise in commit order and are never reused."""

    position: int
    stream: str
    record: Record


class Header(msgspec.Struct, frozen=True, gc=False):
    """How a stream stands. Instants are microseconds since the epoch, UTC."""

    stream: str
    type: str
    status: str
    state: StreamState
    version: int
    wake_at: int | None
    """The earliest instant at which the stream has something to do; None: only a signal can tell."""
    created_at: int
    """When the first record happened."""
    updated_at: int
    """When the newest record happened."""
    damage: str | None = None
    """What of the stream is not as it was written, in words; None: nothing that can be seen from here."""
    is_sound: bool = True
    """False: it is the header itself. It tells what can be read; how the stream stands, its records say."""


class Inspection(msgspec.Struct, frozen=True):
    """What `inspect` has found: the damaged headers among those that it has looked at."""

    damaged: list[Header]
    is_index_damaged: bool
    """An index does not fit its table: streams may not be found when they are due, or by name. See `mend`."""
    after: int | None
    """From where to go on; None: that was all."""


class Unreadable(msgspec.Struct, frozen=True):
    """What stands in the place of a record that is not what was written, or cannot be read."""

    position: int | None
    """Its place in the order of all; None: it was looked for in its stream."""
    stream: str | None
    """None: nobody can tell whose it is."""
    version: int | None
    reason: str


class HeaderChange(msgspec.Struct, frozen=True, gc=False):
    """What an append makes of the header. Only sent when it differs from what the header says."""

    status: str
    state: StreamState
    wake_at: int | None


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """Something that was acknowledged and can no longer be delivered, with the reason."""

    id: int
    at: int
    """When it was given up: the instant of the last record of that append, else the store's clock."""
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
    """What it takes to go on with a stream, all of it as of one instant.

    An exception in the place of `records` or `signals` is a `RecordCorrupt`: they are not what was written.
    """

    header: Header
    records: list[Record] | Exception
    """The first of its records, in order."""
    signals: list[InboxEntry] | Exception
    """The first of its unconsumed signals, in the order of their arrival."""
    has_more: bool
    """Whether there are records after these; `read` has them."""


class Append(msgspec.Struct, frozen=True, gc=False):
    """One decision of one stream: all of it is written, or nothing.

    `expected` is the version after which the records go; 0 creates the stream, which needs `type`,
    `header` and at least one record. `consumed` are the ids of inbox entries that these records make
    use of, and `rejected` are inbox entries that go to the dead letters, each with its reason. `given_up`
    are keys of signals that were consumed, now or before, and that nobody will take after all: they go to
    the dead letters as well, unless they are there already. When `header` ends the stream, the entries
    left in its inbox go to the dead letters in the same transaction. An append without records may still
    change the header, consume entries or give signals up.

    To a stream whose header is damaged only an append goes that has `type` and `header`: it makes the header
    anew. To one whose newest record cannot be read only one without records goes. All else is refused with
    `RecordCorrupt`, and so is whatever would have to be written where the file is damaged.

    As long as an OPEN stream has entries in its inbox, its `wake_at` is no later than the oldest of them,
    whatever `header` says; what `header` asked for comes back when they are gone.
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

    `only_again`: nobody would take it, so it is answered if it came before, and refused otherwise.

    If what was recorded the first time is damaged since, and its checksum says that it was this, it is
    written again.
    """

    stream: str
    name: str
    key: str
    data: bytes
    at: int
    only_again: bool = False


class PastSignal(msgspec.Struct, frozen=True, gc=False):
    """A signal as it stands in a stream that is restored.

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
    """All of one stream, as it was in another store: it is written whole, or not at all.

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
"""What became of one write: an exception means that nothing of this write was written.

A `StoreError` is for the caller to act upon. A `ValueError`, `TypeError` or the like means that the write
made no sense: an instant out of range, text that is not Unicode, an inbox entry that does not wait.
"""


class Corruption(msgspec.Struct, frozen=True, gc=False):
    """One finding of `verify`; `version` is None when the header or the file itself is meant."""

    stream: str | None
    version: int | None
    reason: str


class EventReader(Protocol):
    """What can be read of a store. The conformance suite in `tests/layers/conformance` says it in detail."""

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

        `after` is the (`wake_at`, stream) of the last header of the page before.

        Raises:
            StreamNotFound: there is no such stream.
        """
        ...

    def next_wake_at(self) -> int | None:
        """Return the earliest `wake_at` of all streams."""
        ...

    def newest_at(self) -> int | None:
        """Return when the newest record or signal of all came, as its writer's calendar told it."""
        ...

    def read(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record]:
        """Read records of one stream in order, each checked against its checksum.

        Raises:
            StreamNotFound: there is no such stream.
            RecordCorrupt: a record is not what was written.
        """
        ...

    def read_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord]:
        """Read records of all streams in the global order, from behind a position.

        Raises:
            RecordCorrupt: one of them is not what was written; see `scan_all`.
        """
        ...

    def scan(self, stream: str, *, after: int = 0, limit: int | None = None) -> list[Record | Unreadable]:
        """Read records as `read` does, and go on behind those that are damaged.

        Raises:
            StreamNotFound: there is no such stream.
        """
        ...

    def scan_all(self, *, after: int = 0, limit: int = 1000) -> list[GlobalRecord | Unreadable]:
        """Read records as `read_all` does, and go on behind those that are damaged."""
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
        """Read what it takes to go on with each of these streams, all in one question to the store.

        At most so many `records` and `signals` of each. None: there is no such stream. A `StoreError` in the
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
        """Look at headers, a page at a time: who is damaged may never be due, and nobody would notice.

        It costs microseconds a header; histories are not looked at.
        """
        ...

    def verify(self, on_progress: Progress | None = None) -> list[Corruption]:
        """Check every record, chain, header and page; an empty list means that all is well.

        It may take minutes, while everybody else goes on reading and writing. `on_progress` is told how
        much is done, and the total; what it raises ends the work, and is raised here.
        """
        ...


class EventStore(EventReader, Protocol):
    """What every store offers."""

    @property
    def epoch(self) -> int:
        """Advanced with a synced write by each open and reopen, before anything is answered."""
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
        """Open anew behind a synced write, after an error has halted the store.

        Raises:
            StoreError: it cannot be reopened (yet); the store stays halted.
            StoreFenced: another owner has opened it meanwhile; this process must stop.
        """
        ...

    def resolve(self, writes: Sequence[Write]) -> list[Outcome | None]:
        """Tell, after `reopen`, what became of a batch whose outcome was unknown; None: not written."""
        ...

    def mend(self) -> list[str]:
        """Make the indexes anew that do not fit their tables; return which.

        Raises:
            StoreError: as `commit`.
        """
        ...

    def checkpoint(self, *, idle: bool) -> None:
        """Keep the log short: move it into the file when there is leisure, or when it has grown too long."""
        ...

    def close(self) -> None:
        """Close for good and release the ownership. Idempotent."""
        ...
