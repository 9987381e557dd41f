"""Where events live: streams of records in one SQLite file.

`EventStore` is the contract, `SqliteStore` keeps it. A store knows nothing of flows: it keeps opaque
encoded records, says which streams are due, and holds acknowledged signals until they are consumed. What
`commit` has returned survives the loss of power; what it could not write for certain it calls unknown, and
answers for after `reopen`.
"""

from __future__ import annotations

from .contract import (
    Append,
    Appended,
    Corruption,
    DeadLetter,
    Deliver,
    Delivered,
    Durability,
    EventReader,
    EventStore,
    GlobalRecord,
    Header,
    HeaderChange,
    InboxEntry,
    Inspection,
    NewRecord,
    Outcome,
    PastSignal,
    Record,
    Restore,
    StoreLimits,
    StreamState,
    Unreadable,
    Write,
)
from .errors import (
    CommitUnknown,
    ImportConflict,
    InboxFull,
    NeverDelivered,
    NotAnExport,
    NotWritten,
    QueryFailed,
    QueryInterrupted,
    RecordCorrupt,
    RecordTooLarge,
    SignalConflict,
    StoreError,
    StoreFenced,
    StoreFull,
    StoreHalted,
    StoreOwned,
    StoreUnusable,
    StreamEnded,
    StreamNotFound,
    WrongExpectedVersion,
)
from .files.owner import Owner
from .files.spool import Spool, SpoolFull
from .sqlite.query_rows import Rows
from .sqlite.reader import StoreReader
from .sqlite.store import SqliteStore

__all__ = [
    "Append",
    "Appended",
    "CommitUnknown",
    "Corruption",
    "DeadLetter",
    "Deliver",
    "Delivered",
    "Durability",
    "EventReader",
    "EventStore",
    "GlobalRecord",
    "Header",
    "HeaderChange",
    "ImportConflict",
    "InboxEntry",
    "InboxFull",
    "Inspection",
    "NeverDelivered",
    "NewRecord",
    "NotAnExport",
    "NotWritten",
    "Outcome",
    "Owner",
    "PastSignal",
    "QueryFailed",
    "QueryInterrupted",
    "Record",
    "RecordCorrupt",
    "RecordTooLarge",
    "Restore",
    "Rows",
    "SignalConflict",
    "Spool",
    "SpoolFull",
    "SqliteStore",
    "StoreError",
    "StoreFenced",
    "StoreFull",
    "StoreHalted",
    "StoreLimits",
    "StoreOwned",
    "StoreReader",
    "StoreUnusable",
    "StreamEnded",
    "StreamNotFound",
    "StreamState",
    "Unreadable",
    "Write",
    "WrongExpectedVersion",
]
