"""Who has a store open, found out without interfering with a process that opens it just then.

Trying the lock would mean to hold it for an instant. Instead, two queries of the kernel answer: for the mark
that an owner leaves on the lock's file (`F_OFD_GETLK`), and for its list of locks, which also has owners
without a mark.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from .ownership import introduction, is_marked

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCKS: Final = Path("/proc/locks")
_INTRODUCTION: Final = re.compile(r"process (\d{1,9}) on (\S+) since (\S+)")


class Owner(msgspec.Struct, frozen=True):
    """The process that has a store open. Unknown fields are None."""

    pid: int | None
    host: str | None
    since: datetime | None


def owner_of(lock: Path) -> Owner | None:
    """Return the holder of this file's lock; None if there is none, as far as can be seen from here."""
    try:
        found = lock.stat(follow_symlinks=False)
    except OSError:
        return None
    marked, text = _looked_into(lock)
    pids = list(_holders(os.major(found.st_dev), os.minor(found.st_dev), found.st_ino))
    if not pids and not marked:
        return None
    said = _INTRODUCTION.fullmatch(text)
    if said is None:
        return Owner(pids[0] if pids else None, None, None)
    # If the two differ, the kernel's number is the one that this process can use.
    return Owner(pids[0] if pids else int(said[1]), said[2], _instant(said[3]))


def _looked_into(lock: Path) -> tuple[bool, str]:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False, ""
    try:
        return is_marked(descriptor), introduction(descriptor)
    finally:
        os.close(descriptor)


def _holders(major: int, minor: int, inode: int) -> Iterator[int]:
    """Yield the processes that hold a `flock` on a file, if the system lists them."""
    try:
        lines = _LOCKS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    file = f"{major:02x}:{minor:02x}:{inode}"
    for line in lines:
        # Processes that only wait for a lock have an arrow in the second field.
        _, kind, *_ = fields = line.split()
        if kind == "FLOCK" and fields[5] == file and int(fields[4]) > 0:
            yield int(fields[4])


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
