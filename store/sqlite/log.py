"""SQLite's log after a failed sync: its content may not be on the disk, and no later sync puts it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw

if TYPE_CHECKING:
    from pathlib import Path

_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_AT_ONCE: Final = 64 * 1024
"""At most a page's maximum: SQLite's files take a write of 128 KiB for one that met a full disk."""


def write_again(path: Path, vfs: str | None, sure: int, page_size: int) -> None:
    """Write all of the log but its first `sure` pages again, in place, and sync it.

    After a failed sync, the kernel takes the pages for written. If the log were moved into the file as it
    reads now, and the power failed, the older part of it on the disk would overwrite newer pages. Synced
    pages are not touched: the power may fail now, too.

    Raises:
        apsw.Error: it cannot be written or synced.
    """
    if not path.exists():
        return
    log = apsw.VFSFile(vfs or "", str(path), [apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READWRITE, 0])
    try:
        if sure == 0:
            # As SQLite does: the header of a new log is on the disk before any page of it.
            _write_part(log, 0, _HEADER)
        start = _HEADER + sure * (_FRAME_HEADER + page_size)
        if not log.xDeviceCharacteristics() & apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE:
            # SQLite has padded the last sector with copies, and synced only up to its beginning.
            start -= start % log.xSectorSize()
        _write_part(log, start, log.xFileSize())
    finally:
        log.xClose()


def _write_part(log: apsw.VFSFile, start: int, end: int) -> None:
    end = min(end, log.xFileSize())
    if start >= end:
        return
    for offset in range(start, end, _AT_ONCE):
        log.xWrite(log.xRead(min(_AT_ONCE, end - offset), offset), offset)
    log.xSync(apsw.SQLITE_SYNC_NORMAL)
