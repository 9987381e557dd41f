"""Mutants of the store that no test can or has to notice; see `survivors`."""

from __future__ import annotations

_LAST = "the last of all numbers that SQLite knows"
_SIZE = "how much is done at a time, or how often something is looked at, is no promise"
_BATCH = "how much is written at once is no promise"
_ELSEWHERE = "a test notices it that the campaign does not choose for this line, which all tests reach"
_GONE = "the last reference goes with the generator, and the connection with it"
_KEPT = "how many streams are remembered is no promise"
_MARK = "any byte of the file does for the mark, since all of it is asked for"
_LINE = "how long a line may be before it is looked at closely"
_TOLD = "each commit tells anew how long the log is"
_PAGES = "one page of a thousand"

EXPLAINED: dict[str, dict[str, str]] = {
    "persistasaurus.store.tools.backup": {
        "_CHECKED_AT_ONCE: Final = 1_000  # 1000 becomes 1001": _SIZE,
        "_CHECKED_RECORDS: Final = 10_000  # 10000 becomes 10001": _SIZE,
        "_INSTRUCTIONS: Final = 100_000  # 100000 becomes 100001": _SIZE,
        '("cache_size", -1_024),  # 1024 becomes 1025': _SIZE,
        "flush()  # the call is left out": "the end syncs all; sooner, it holds up others less",
        "schema.check(copy, schema.ladder())  # the call is left out": (
            "a second net: the schema of what is copied was looked at, and the pages of the copy are"
        ),
        "connection.pragma(name, setting)  # the call is left out": (
            "they save work: what is synced and what is removed is the draft's to look after"
        ),
    },
    "persistasaurus.store.sqlite.batch": {
        "if stream.state == StreamState.OPEN and (stream.wake_at is None or write.at < stream.wake_at):"
        "  # Lt becomes LtE": "the same instant is written once more",
    },
    "persistasaurus.store.sqlite.connection": {
        "connection.config(apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 1)  # 1 becomes 2": "any number above 0 turns it on",
        'connection.pragma("query_only", "ON")  # the call is left out': (
            "one of several defences: the file is open for reading alone, and writes are not authorized"
        ),
        "connection.pragma(name, value)  # the call is left out": _ELSEWHERE,
        "connection.enable_load_extension(False)  # the call is left out": "a second net: one of the switches is for that",
        "if version < OLDEST_SQLITE or version[:2] == _WITHDRAWN:  # Lt becomes LtE": _ELSEWHERE,
    },
    "persistasaurus.store.files.atomic_file": {
        "if size > free:  # Gt becomes GtE": "a disk with room for just as many bytes as are needed",
    },
    "persistasaurus.store.files.forking": {
        "_mortals.add(mortal)  # the call is left out": _ELSEWHERE,
    },
    "persistasaurus.store.tools.importer": {
        "_BATCH_BYTES: Final = 4 << 20  # 4 becomes 5": _BATCH,
        "_BATCH_BYTES: Final = 4 << 20  # 20 becomes 21": _BATCH,
        "_BATCH_FLOWS: Final = 1000  # 1000 becomes 1001": _BATCH,
        "_REPORTED: Final = 1 << 20  # 1 becomes 2": _SIZE,
        "_REPORTED: Final = 1 << 20  # 20 becomes 21": _SIZE,
        "if reader.bytes - reported >= _REPORTED:  # GtE becomes Gt": "one byte of a million, after which progress is told",
        "if store.headers(limit=1):  # 1 becomes 2": "whether there is any is seen as well from two",
        "if self._bytes >= _BATCH_BYTES or len(self._batch) >= _BATCH_FLOWS:  # GtE becomes Gt": _BATCH,
        "reader, reported = TranscriptReader(self._file, self._limits), 0  # 0 becomes 1": (
            "one byte of a million, after which progress is told"
        ),
        "self._bytes = 0  # 0 becomes 1": _BATCH,
        "batch, self._batch, self._bytes = self._batch, [], 0  # 0 becomes 1": _BATCH,
        "self._bytes += sum(len(record.data) for record in flow.records)  # Add becomes Sub": _BATCH,
        "if reader.bytes - reported >= _REPORTED:  # Sub becomes Add": "progress is told of more often",
    },
    "persistasaurus.store.files.location": {
        "best, found = -1, None  # 1 becomes 2": "any number below the length of a path does",
        "self._size = 0  # 0 becomes 1": "whoever checks has claimed the file before, which sets it",
    },
    "persistasaurus.store.sqlite.log": {
        "if start >= end:  # GtE becomes Gt": "a part without a byte is synced for nothing",
        "log.xClose()  # the call is left out": _GONE,
        'log = apsw.VFSFile(vfs or "", str(path), [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])'
        "  # 0 becomes 1": "the second number is written by SQLite, and not read",
    },
    "persistasaurus.store.files.ownership": {
        "fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _MARK.pack(kind, os.SEEK_SET, 0, 0, 0))  # 0 becomes 1": (
            _MARK
        ),
        "fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _MARK.pack(kind, os.SEEK_SET, 0, 0, 0))"
        "  # 0 becomes 1, at place 2": _MARK,
        "found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK,"
        " _MARK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))  # 0 becomes 1": _MARK,
        "found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK,"
        " _MARK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))  # 0 becomes 1, at place 2": _MARK,
        "os.ftruncate(descriptor, 0)  # 0 becomes 1": "the byte that is left is the first to be written over",
        "return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)"
        "  # 384 becomes 385": _ELSEWHERE,
    },
    "persistasaurus.store.sqlite.queries": {
        "are_numbers = all(isinstance(number, int) for number in (version, wake_at or 0, created))"
        "  # 0 becomes 1": ("only whether they are numbers is looked at"),
        "return stored if isinstance(stored, int) else 0  # 0 becomes 1": (
            "no number is right for one that is damaged, and the stream is held"
        ),
    },
    "persistasaurus.store.sqlite.reader": {
        "watch[1].close(force=True)  # True becomes False": "each answer on it was read to its end",
        "self._data_version += 1  # Add becomes Sub": "any other number tells that it is another one",
        "self._drop_watch()  # the call is left out, at place 2": (
            "the next line lets go of it as well, and another file has another number anyway"
        ),
        "return 0  # 0 becomes 1": "it is only compared with itself",
        "self._data_version = 0  # 0 becomes 1": "it has to be another number later, whatever it is at first",
        "self._data_version += 1  # 1 becomes 2": "it has to be another number, and need not be the next one",
    },
    "persistasaurus.store.sqlite.query_rows": {
        "_INSTRUCTIONS: Final = 20_000  # 20000 becomes 20001": _SIZE,
        "if len(found) < _AT_ONCE:  # Lt becomes LtE": "looked at once more; a long answer is so at its end",
    },
    "persistasaurus.store.sqlite.schema": {
        "reference.close()  # the call is left out": "the last reference goes with the function",
        "roll_back(connection)  # the call is left out": "a connection that could not migrate is closed",
    },
    "persistasaurus.store.tools.snapshot": {
        "connection.close()  # the call is left out": "there is nothing that this one could open",
    },
    "persistasaurus.store.sqlite.store": {
        "if moved == pages:  # Eq becomes NotEq": _TOLD,
        "if moved == pages:  # the condition is turned round": _TOLD,
        "connection.set_busy_timeout(0)  # 0 becomes 1": "a millisecond",
        "if writer.log_pages > self._truncate_at:  # Gt becomes GtE": _PAGES,
        "elif idle and writer.log_pages > LOG_PAGES_WHEN_IDLE:  # Gt becomes GtE": _PAGES,
        "elif idle and writer.log_pages > LOG_PAGES_WHEN_IDLE:  # And becomes Or": _ELSEWHERE,
        "if not 0 <= now - self._checked_at < _SECOND:  # Sub becomes Add": (
            "it is looked at with each commit; once a second is enough, and cheaper"
        ),
        "if not 0 <= now - self._checked_at < _SECOND:  # 0 becomes 1": "looked at once more within a microsecond",
        "writer.log_pages = 0  # 0 becomes 1": _PAGES,
        "writer.log_pages = 0  # 0 becomes 1, at place 2": _PAGES,
        "dies_after_fork(self)  # the call is left out": _ELSEWHERE,
        "writer.keep_numbers()  # the call is left out": _ELSEWHERE,
    },
    "persistasaurus.store.sqlite.statements": {
        'self._statements = [(size, head + ", ".join([row] * size)) for size in _SIZES]  # Add becomes Sub': (
            "it fails when the module is imported, which is before the mutant is put in"
        ),
    },
    "persistasaurus.store.sqlite.streams": {
        "self._generation_size = size // 2  # 2 becomes 3": _KEPT,
    },
    "persistasaurus.store.tools.transcript": {
        "Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # 1 becomes 2": _LAST,
        "Instant = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # 1 becomes 2": _LAST,
        "_SPACE: Final = 0x20  # 32 becomes 33": "no JSON begins or ends with an exclamation mark",
        'if data.count(b"[") + data.count(b"{") <= limit:  # LtE becomes Lt': (
            "a short-cut: so few brackets cannot be nested more deeply"
        ),
    },
    "persistasaurus.store.tools.transcript_reader": {
        "_ESCAPED: Final = 6  # 6 becomes 7": _LINE,
        "_AROUND: Final = 64 * 1024  # 64 becomes 65": _LINE,
        "_AROUND: Final = 64 * 1024  # 1024 becomes 1025": _LINE,
        "if self._file.read(1):  # 1 becomes 2": "whether anything follows is seen as well from two bytes",
        "names.close()  # the call is left out": _GONE,
        "self._connection.close()  # the call is left out": _GONE,
        'run(self._connection, "BEGIN")  # the call is left out': "one transaction is faster than many",
    },
    "persistasaurus.store.sqlite.writer": {
        "run(self.connection, _KEEP_NUMBERS, (*self._numbers, self.epoch))  # the call is left out": _ELSEWHERE,
        "self._cache.streams.age()  # the call is left out": _ELSEWHERE,
        "self.log_pages = 0  # 0 becomes 1": _PAGES,
    },
    "persistasaurus.store.sqlite.verify": {
        "_PAGE: Final = 1000  # 1000 becomes 1001": _SIZE,
        "_ROWS_MEANWHILE: Final = 2_000  # 2000 becomes 2001": _SIZE,
        "_INSTRUCTIONS: Final = 50_000  # 50000 becomes 50001": _SIZE,
        "_NOTHING: Final[tuple[int, tuple[Row, ...]]] = (2**63, ())  # 2 becomes 3": "above all keys",
        "_NOTHING: Final[tuple[int, tuple[Row, ...]]] = (2**63, ())  # 63 becomes 64": "above all keys",
        "self._rows_in_all = 0  # 0 becomes 1": "the first part of a pass counts them",
    },
    "persistasaurus.store.tools.export": {
        "_REPORTED: Final = 1000  # 1000 becomes 1001": _SIZE,
        "_CHUNK: Final = 1 << 20  # 20 becomes 21": _SIZE,
        "_CHUNK: Final = 1 << 20  # 1 becomes 2": _SIZE,
    },
    "persistasaurus.store.sqlite.stream_dump": {
        "_PAGE: Final = 1000  # 1000 becomes 1001": _SIZE,
    },
    "persistasaurus.store.sqlite.stream_scan": {
        "_PAGE: Final = 1000  # 1000 becomes 1001": _SIZE,
    },
}
