"""The errors of a store, by what the caller does next.

StoreError
├── WrongExpectedVersion   another writer was first: read the stream again
├── StreamNotFound         nothing was written
├── StreamEnded            nothing was written
├── InboxFull              nothing was written: slow down, try again later
├── SignalConflict         nothing was written: the key was used with another payload
├── NeverDelivered         nothing was written: the signal never came before
├── RecordTooLarge         nothing was written
├── CommitUnknown          the outcome is unknown: reopen, then resolve by identity
├── StoreFull              nothing was written, the disk is full: free space, then reopen
├── StoreHalted            the store takes no writes until it is reopened
├── StoreFenced            another process owns the store now: stop
├── StoreOwned             another process owns the store: do not open it
├── StoreUnusable          not a store, too new, unsafe schema, or SQLite too old
├── RecordCorrupt          what was read is not what was written: park that stream
├── ProjectionDamaged      a projection's file is damaged: build it anew
├── QueryFailed            a user's statement cannot be run: correct it
├── NotWritten             a backup or an export was not written, nothing is left of it
├── NotAnExport            the file cannot be imported, nothing was written
└── ImportConflict         a stream exists with another history: nothing was written
"""

from __future__ import annotations

from reprlib import Repr
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .contract import InboxEntry

_names = Repr()
_names.maxstring = 200
"""How names are shown that nothing has, and that may have any length."""


class StoreError(Exception):
    """Base of everything that a store raises on purpose. `code` is as in `PersistasaurusError`."""

    code: ClassVar[str] = "store"


class WrongExpectedVersion(StoreError):
    """The stream is not at the version that the writer expected; nothing of its append was written."""

    code = "wrong-expected-version"

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream!r} is at version {actual}, not {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class StreamNotFound(StoreError):
    """No stream has this id; nothing was written."""

    code = "stream-not-found"

    def __init__(self, stream: str) -> None:
        super().__init__(f"no stream {_names.repr(stream)}")
        self.stream = stream


class StreamEnded(StoreError):
    """The stream has ended, or has failed, and accepts no more signals; nothing was written."""

    code = "stream-ended"

    def __init__(self, stream: str, status: str) -> None:
        super().__init__(f"stream {stream!r} has ended ({status})")
        self.stream = stream
        self.status = status


class InboxFull(StoreError):
    """Too many signals wait unconsumed in the stream's inbox; nothing was written."""

    code = "inbox-full"

    def __init__(self, stream: str, limit: int) -> None:
        super().__init__(f"stream {stream!r} has {limit} unconsumed signals, which is the limit")
        self.stream = stream
        self.limit = limit


class SignalConflict(StoreError):
    """The key was used before, with another name or payload; nothing was written.

    `first` is the signal that used it, for callers that can tell whether other bytes mean the same.
    """

    code = "signal-conflict"

    def __init__(self, stream: str, key: str, first: InboxEntry | None = None) -> None:
        super().__init__(f"signal {key!r} was sent to stream {stream!r} before, with another name or payload")
        self.stream = stream
        self.key = key
        self.first = first


class NeverDelivered(StoreError):
    """The signal was to be answered only if it came before, which it did not; nothing was written."""

    code = "never-delivered"

    def __init__(self, stream: str, key: str) -> None:
        super().__init__(f"signal {key!r} was never sent to stream {stream!r}")
        self.stream = stream
        self.key = key


class RecordTooLarge(StoreError):
    """A record or payload exceeds the store's limit; nothing was written."""

    code = "record-too-large"


class CommitUnknown(StoreError):
    """A commit failed in a way that leaves its outcome open: it may be on disk, or not.

    The store is halted. After `reopen`, `resolve` returns the outcome of each write.
    """

    code = "commit-unknown"


class StoreFull(StoreError):
    """The disk is full: nothing of the batch was written, and the store is halted until reopened."""

    code = "store-full"


class StoreHalted(StoreError):
    """The store takes no writes until it has been reopened."""

    code = "store-halted"


class StoreFenced(StoreError):
    """A later owner has advanced the epoch; this one must stop at once and write nothing more."""

    code = "store-fenced"


class StoreOwned(StoreError):
    """Another process owns the store; the message names it."""

    code = "store-owned"


class StoreUnusable(StoreError):
    """The file is not a store of ours, is newer than this code, or cannot be used safely."""

    code = "store-unusable"


class RecordCorrupt(StoreError):
    """A record's checksum does not match its content or its place in the chain.

    `version` is None if it is about another part of the stream, such as an entry of its inbox.
    """

    code = "record-corrupt"

    def __init__(self, stream: str, version: int | None, reason: str) -> None:
        what = "stream" if version is None else f"record {version} of stream"
        super().__init__(f"{what} {stream!r} is corrupt: {reason}")
        self.stream = stream
        self.version = version


class ProjectionDamaged(StoreError):
    """The file of a projection is damaged; the store is not. It is built anew from the store's events."""

    code = "projection-damaged"


class QueryFailed(StoreError):
    """A user's statement cannot be run, or would do more than read; nothing was changed."""

    code = "query-failed"


class QueryInterrupted(QueryFailed):
    """A statement was stopped before its end, by `interrupt` or because its store was closed."""

    code = "query-interrupted"


class NotWritten(StoreError):
    """A backup or an export could not be written; nothing of it is left, and nothing else was changed."""

    code = "not-written"


class NotAnExport(StoreError):
    """A file is not a complete export, or was changed; `line` says where, if a line is to blame."""

    code = "not-an-export"

    def __init__(self, line: int | None, reason: str) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.line = line
        self.reason = reason


class ImportConflict(StoreError):
    """Streams of an export are in the store already, with another history; nothing was written."""

    code = "import-conflict"

    def __init__(self, streams: tuple[str, ...], reason: str) -> None:
        super().__init__(reason)
        self.streams = streams
