"""Commits in SQLite's log after a damaged place.

SQLite takes the first frame that does not match its checksum for the end of the log, as it is after a crash.
If the frame has rotted, the commits after it were acknowledged, and would silently be overwritten. So before
anything is written, the log is searched for later frames that belong to it and end a commit. The heads of
frames suffice for that; after a clean close there are none.

While another process has the log open, SQLite keeps the end that they share. Sound frames after that end are
of a process that died before it shared its commit: it was never acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from ..files.location import sync_directory

if TYPE_CHECKING:
    import apsw

    from ..files.location import FileLocation

logger = logging.getLogger("persistasaurus")

# https://sqlite.org/fileformat2.html#the_write_ahead_log
_HEADER: Final = struct.Struct(">I4xI4x8s2I")
"""The magic number, the size of a page, the salts, and the checksum that those of the frames continue."""
_SUMMED: Final = 24
"""How many bytes of the header the checksum covers."""
_FRAME: Final = struct.Struct(">4xI8s2I")
"""The size of the database if this ends a commit, else 0; the salts, and the checksum up to here."""
_FRAME_SUMMED: Final = 8
"""How many bytes of a frame's head the checksum covers, with all of the page after it."""
_AS_A_DRAFT: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_STATISTICS: Final = Path("/proc/stat")
_BOOTED: Final = "btime "


class _Log(NamedTuple):
    is_header_sound: bool
    is_big_endian: bool
    salts: bytes
    checksum: tuple[int, int]
    page_size: int

    @property
    def frame_size(self) -> int:
        return _FRAME.size + self.page_size

    def frame_at(self, number: int) -> int:
        """Return the offset of a frame, counted from 0."""
        return _HEADER.size + number * self.frame_size


def save_lost_commits(connection: apsw.Connection, location: FileLocation, *, is_synced: bool) -> int:
    """Report commits after a damaged place of the log, and keep a copy of it beside the store.

    The connection must have read, and nothing may be written before. `is_synced`: each commit was synced
    before the next one began. Return how many commits there are, reported or not.

    Raises:
        OSError: a copy is needed, and cannot be made.
    """
    path = location.log_path
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size < _HEADER.size + _FRAME.size:
                return 0
            # The function of SQLite 3.51 refuses this mode, which its pragma takes.
            (_, pages, _), *_ = connection.execute("PRAGMA wal_checkpoint(NOOP)")
            end = max(int(str(pages)), 0)
            log = _log(file.fileno(), connection)
            end = _sound_end(file.fileno(), log, end)
            commits = _commits_behind(file.fileno(), found.st_size, log, end)
    except FileNotFoundError:
        return 0
    # After a power failure during a commit, its last page may be on the disk without those before it.
    if found.st_mtime > _booted_at():
        least = 1
    elif is_synced and log.is_header_sound:
        least = 2
    else:
        return commits
    if commits < least:
        return commits
    copy = _kept(path, log.salts)
    logger.error(
        "The log of the store %s is damaged after its page %d: %d later commits in it were acknowledged, and"
        " cannot be read; flows continue from before them. The log is kept as %s. Check the disk;"
        " a backup or a replica may have what is missing.",
        location,
        end,
        commits,
        copy.name,
    )
    return commits


def kept_logs(store: Path) -> list[Path]:
    """Return the copies of damaged logs beside a store."""
    prefix = f"{store.name}-wal.damaged-"
    return sorted(path for path in store.parent.iterdir() if path.name.startswith(prefix))


def _log(file: int, connection: apsw.Connection) -> _Log:
    head = os.pread(file, _HEADER.size, 0)
    magic, page_size, salts, first, second = _HEADER.unpack(head)
    is_big_endian = bool(magic & 1)
    checksum = (first, second)
    is_sound = _checksum(head[:_SUMMED], (0, 0), is_big_endian=is_big_endian) == checksum
    if not is_sound:
        # Then all frames are after the end. They say themselves to which log they belong.
        salts = _FRAME.unpack(os.pread(file, _FRAME.size, _HEADER.size))[1]
        page_size = connection.pragma("page_size")
    return _Log(is_sound, is_big_endian, salts, checksum, page_size)


def _checksum(data: bytes, before: tuple[int, int], *, is_big_endian: bool) -> tuple[int, int]:
    words = struct.unpack(f"{'>' if is_big_endian else '<'}{len(data) // 4}I", data)
    first, second = before
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _sound_end(file: int, log: _Log, end: int) -> int:
    """Return the first frame from `end` on that does not continue the log."""
    if not log.is_header_sound:
        return end
    checksum = log.checksum
    if end:
        _, _, first, second = _FRAME.unpack(os.pread(file, _FRAME.size, log.frame_at(end - 1)))
        checksum = (first, second)
    while True:
        frame = os.pread(file, log.frame_size, log.frame_at(end))
        if len(frame) < log.frame_size:
            return end
        _, salts, *told = _FRAME.unpack_from(frame)
        if salts != log.salts:
            return end
        for part in (frame[:_FRAME_SUMMED], frame[_FRAME.size :]):
            checksum = _checksum(part, checksum, is_big_endian=log.is_big_endian)
        if checksum != tuple(told):
            return end
        end += 1


def _commits_behind(file: int, size: int, log: _Log, end: int) -> int:
    commits = 0
    for at in range(log.frame_at(end), size - _FRAME.size, log.frame_size):
        pages, salts, _, _ = _FRAME.unpack(os.pread(file, _FRAME.size, at))
        commits += pages > 0 and salts == log.salts
    return commits


def _booted_at() -> float:
    """Return when the machine was started, in seconds since the epoch; infinity if it is unknown."""
    try:
        told = _STATISTICS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return float("inf")
    return next(
        (float(line.removeprefix(_BOOTED)) for line in told if line.startswith(_BOOTED)), float("inf")
    )


def _kept(log: Path, salts: bytes) -> Path:
    copy = log.with_name(f"{log.name}.damaged-{salts.hex()}")
    draft = copy.with_name(f".{copy.name}.draft")
    try:
        descriptor = os.open(draft, _AS_A_DRAFT, 0o600)
        with os.fdopen(descriptor, "wb") as target, log.open("rb") as source:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        draft.rename(copy)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    sync_directory(copy.parent)
    return copy
