"""The spool: a folder beside a store, where processes that do not own the store leave requests for the owner.

As in a maildir, there is no lock that a stopped or killed process could hold. A request is written
aside, synced, and given its name in `new/`: from then on it is durable. The owner takes the requests in
the order of their names, writes what it has to say to `answers/`, and removes the request last. When it
dies before it has answered, it meets the request again; one that has an answer is only removed then.

What was acknowledged by being there, and can never be done, is kept in `refused/` with the reason until
its sender has fetched the answer.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ..errors import RecordTooLarge, StoreError, StoreUnusable
from .private_folder import (
    NotAFileError,
    failure,
    is_private,
    make_private,
    names_in,
    read_own,
    sync,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE_MAX: Final = 16 * 1024 * 1024
_PENDING_MAX: Final = 10_000
_REFUSED_MAX: Final = 1_000
_LEFT_OVER_US: Final = 3600 * 1_000_000
_AS_FOUND: Final = ".as-found"

_DIGITS: Final = 20
_NAME: Final = re.compile(rf"[0-9]{{{_DIGITS}}}-[0-9a-z]{{1,64}}", re.ASCII)
_LAST: Final = 10**_DIGITS - 1


class SpoolFull(StoreError):
    """Too many requests wait for the store's owner; nothing was written."""

    code = "spool-full"


class Refused(msgspec.Struct, frozen=True):
    """A request that was on record and can never be done. `at`: microseconds since the epoch, UTC.

    `data` is the request; empty, when it was something that could not be read: that lies beside it.
    """

    name: str
    at: int
    data: bytes
    reason: str


class Spool:
    """The spool of the store at `store_path`. Senders `put` and `take_answer`; the rest is the owner's.

    The folder is created by the first `put`. Any number of senders may be at it, in any number of
    processes of the user whom the store belongs to; one object is for one thread.

    Args:
        store_path: the store's file; `folder` lies beside it, links followed.
        now: the clock, in microseconds since the epoch, UTC.
    """

    def __init__(self, store_path: str | os.PathLike[str], now: Callable[[], int]) -> None:
        self._store = Path(store_path).resolve()
        self.folder = self._store.with_name(self._store.name + ".spool")
        self._new = self.folder / "new"
        self._drafts = self.folder / "tmp"
        self._answers = self.folder / "answers"
        self._refused = self.folder / "refused"
        self._now = now
        self._last = 0
        self._is_prepared = False

    # Sending

    def put(self, data: bytes, token: str) -> str:
        """Leave a request, durably, and return its name; `token`: letters and digits that nobody else uses.

        Names sort in the order of a sender's calls.

        Raises:
            RecordTooLarge: it has more bytes than the owner would read; nothing was written.
            SpoolFull: too many requests wait; nothing was written.
            StoreFull: the disk is full; nothing was written.
            StoreUnusable: the folder cannot be used; the message says why, and what to do.
        """
        if len(data) > _SIZE_MAX:
            raise RecordTooLarge(f"{len(data):,} bytes are more than the limit of {_SIZE_MAX:,}")
        try:
            self._prepare()
            name = f"{self._next_number():0{_DIGITS}d}-{token}"
            write_whole(self._new / name, data, self._drafts, durable=True)
        except OSError as error:
            self._is_prepared = False
            raise failure(error, f"cannot write to {self.folder}") from error
        return name

    def _prepare(self) -> None:
        """Create the folders, and see that they, too, are durable; once for each sender."""
        if self._is_prepared:
            return
        owner = self._store.stat().st_uid
        if owner != os.geteuid():
            raise StoreUnusable(
                f"{self._store} belongs to another user ({owner}): be that user to write to it"
            )
        for folder in (self.folder, self._drafts, self._answers, self._refused, self._new):
            make_private(folder)
        sync(self.folder)
        sync(self.folder.parent)
        self._is_prepared = True

    def _next_number(self) -> int:
        """Return a number above those of all that waits: the clock's, unless that has been set back."""
        waiting = names_in(self._new)
        if len(waiting) >= _PENDING_MAX:
            raise SpoolFull(f"{len(waiting):,} requests wait in {self.folder}; nothing was written")
        newest = max(filter(_NAME.fullmatch, waiting), default="0")
        self._last = min(max(self._now(), self._last + 1, int(newest[:_DIGITS]) + 1), _LAST)
        return self._last

    def take_answer(self, name: str) -> bytes | None:
        """Return the answer to a request, and forget it; None: there is none (yet).

        Raises:
            StoreUnusable: the answer cannot be read.
        """
        answer = self._answers / name
        try:
            data = read_own(answer, _SIZE_MAX)
        except FileNotFoundError:
            return None
        except (OSError, NotAFileError) as error:
            raise StoreUnusable(f"the answer {answer} cannot be read: {error}") from error
        # The request first: as long as its answer is there, it is known to have been handled.
        for told in (self._new / name, answer, self._refused / name):
            with contextlib.suppress(OSError):
                told.unlink()
        return data

    # Handling

    def pending(self) -> list[str]:
        """Name what waits, in order; also what no sender has put there, for `read` to find out.

        Raises:
            StoreUnusable: others could have put things there; nothing of it is to be believed.
            OSError: it cannot be read now.
        """
        if not is_private(self.folder) or not is_private(self._new):
            return []
        return sorted(names_in(self._new))

    def read(self, name: str) -> bytes | None:
        """Return what a sender has left under a name; None: it is gone, or was answered.

        Raises:
            NotAFileError: nobody who keeps the rules has put it there: `set_aside` it.
            OSError: it cannot be read now.
        """
        if _NAME.fullmatch(name) is None:
            raise NotAFileError("its name is not that of a request")
        request = self._new / name
        if (self._answers / name).exists():
            # An owner has answered it and was killed before it could remove it: to do it again could
            # come to something else than its sender was told.
            request.unlink(missing_ok=True)
            return None
        try:
            return read_own(request, _SIZE_MAX)
        except FileNotFoundError:
            return None

    def answer(self, name: str, data: bytes, *, durable: bool = False) -> None:
        """Answer a request, and remove it. `durable`: not even the loss of power brings it back.

        Raises:
            StoreFull, StoreUnusable: it could not be; the request is still there.
        """
        try:
            self._prepare()
            self._write(self._answers / name, data, durable=durable)
            (self._new / name).unlink(missing_ok=True)
            if durable:
                sync(self._new)
        except OSError as error:
            raise failure(error, f"cannot answer in {self.folder}") from error

    def refuse(self, name: str, data: bytes, reason: str) -> None:
        """Keep a request that can never be done, until its sender hears of it by the `answer` that follows.

        Raises:
            StoreFull, StoreUnusable: it could not be; the request is still there.
        """
        try:
            self._prepare()
            self._keep(name, data, reason)
        except OSError as error:
            raise failure(error, f"cannot write to {self.folder}") from error

    def set_aside(self, name: str, reason: str) -> None:
        """Move what is no request out of the way, whatever it is.

        Raises:
            StoreFull, StoreUnusable: it could not be moved.
        """
        try:
            self._prepare()
            self._last = min(max(self._now(), self._last + 1), _LAST)
            label = f"{self._last:0{_DIGITS}d}-{os.getpid()}"
            self._keep(label, b"", f"{name!a} in {self._new.name} is no request: {reason}")
            (self._new / name).rename(self._refused / (label + _AS_FOUND))
        except OSError as error:
            raise failure(error, f"cannot move it to {self._refused}") from error

    def _keep(self, name: str, data: bytes, reason: str) -> None:
        entry = Refused(name, self._now(), data, reason)
        self._write(self._refused / name, msgspec.json.encode(entry), durable=True)

    def _write(self, to: Path, data: bytes, *, durable: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._drafts / to.name).unlink()  # of an owner that was killed while it wrote the same
        write_whole(to, data, self._drafts, durable=durable)

    # Looking after it

    def refused(self) -> list[Refused]:
        """Return what was refused and not told to its sender, oldest first.

        Raises:
            StoreUnusable: others could have put things there.
        """
        if not is_private(self.folder) or not is_private(self._refused):
            return []
        found: list[Refused] = []
        for name in sorted(filter(_NAME.fullmatch, names_in(self._refused))):
            with contextlib.suppress(OSError, NotAFileError, msgspec.MsgspecError):
                data = read_own(self._refused / name, 2 * _SIZE_MAX)
                found.append(msgspec.json.decode(data, type=Refused))
        return found

    def sweep(self) -> None:
        """Remove drafts and answers nobody has come back for in an hour, and all but the newest refused."""
        for folder in (self._drafts, self._answers):
            for name in self._trusted(folder):
                with contextlib.suppress(OSError):
                    if self._now() - (folder / name).lstat().st_mtime_ns // 1000 > _LEFT_OVER_US:
                        if folder is self._answers:
                            (self._new / name).unlink(missing_ok=True)
                        (folder / name).unlink()
        for name in self._trusted(self._refused)[:-_REFUSED_MAX]:
            with contextlib.suppress(OSError):
                (self._refused / name).unlink()

    def _trusted(self, folder: Path) -> list[str]:
        try:
            is_ours = is_private(self.folder) and is_private(folder)
            return sorted(names_in(folder)) if is_ours else []
        except (OSError, StoreUnusable):
            return []
