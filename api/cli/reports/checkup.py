"""The checks of `doctor`: programs, the store's file and its surroundings, and pending work."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import TYPE_CHECKING, Literal

import apsw
import msgspec

from ....actors.handle import to_microseconds
from ....actors.remote.client import RemoteClient
from ....actors.runtime.primitives import SystemClock
from ....store import RequestsDamaged, StoreError, StoreReader
from ....store.files.location import filesystem_of
from ..output.proposal import proposed
from ..output.quantities import ago, counted, duration, size
from ..output.quantities import since as text_since
from .case import blocking_now
from .projection_reports import UNREADABLE, projection_reports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SQLITE_MIN = (3, 51, 3)
_PYTHON_MIN = (3, 11)
_CORE = ("apsw", "msgspec", "pykka")
_EXTRAS = {"cli": ("rich-click",), "server": ("litestar", "uvicorn"), "diagram": ("mmdr",)}
_ROOM_BAD, _ROOM_WARN = 100 << 20, 1 << 30
_LOG_WARN = 64 << 20
_IN_MEMORY = ("tmpfs", "ramfs")
_SYNCS = 20
_PAGE = b"\0" * 4096
_SLOW_S, _TOO_FAST_S = 0.02, 0.000_005
_ADDITIONS_SHOWN = 5
_SHOWN = 5
_LATE_US = 10_000_000
_PARKED = "SELECT count(*) FROM flows WHERE status = 'parked'"
_BLOCKED = "SELECT flow_id FROM flows WHERE status = 'parked' AND error LIKE 'blocking:%' LIMIT ?"
_DEAD = "SELECT count(*) FROM dead_letters"


class Check(msgspec.Struct, frozen=True):
    """One check. `state`: `ok`; `warn`, worth a thought; `bad`, needs a fix."""

    name: str
    state: Literal["ok", "warn", "bad"]
    text: str
    todo: str = ""


def check_all(store: Path) -> Iterator[Check]:
    """Run every check; one that fails does not stop the others."""
    yield from _programs()
    if not store.exists():
        yield Check(
            "store", "warn", f"there is none at {store}", "the first `run` creates it; or give --store"
        )
        yield from _folder(store.absolute().parent)
        return
    yield from _file(store)
    yield from _content(store)
    yield from _folder(store.resolve().parent)


# ------------------------------------------------------------------------------------------- programs
def _programs() -> Iterator[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield _at_least("python", python, is_new=sys.version_info >= _PYTHON_MIN, least=_PYTHON_MIN)
    sqlite = apsw.sqlite_lib_version()
    is_new = tuple(int(part) for part in sqlite.split(".")[:3]) >= _SQLITE_MIN
    yield _at_least("sqlite", sqlite, is_new=is_new, least=_SQLITE_MIN)
    for name in ("persistasaurus", *_CORE):
        yield Check(name, "ok", _version(name) or "unknown version")
    for extra, names in _EXTRAS.items():
        missing = [name for name in names if _version(name) is None]
        found = ", ".join(f"{name} {_version(name)}" for name in names if name not in missing)
        if missing:
            text = f"not installed ({', '.join(missing)}): commands that need it say so"
            yield Check(f"extra {extra}", "ok", text, f"pip install 'persistasaurus[{extra}]'")
        else:
            yield Check(f"extra {extra}", "ok", found)


def _at_least(name: str, found: str, *, is_new: bool, least: tuple[int, ...]) -> Check:
    if is_new:
        return Check(name, "ok", found)
    needed = ".".join(map(str, least))
    return Check(name, "bad", f"{found} is older than {needed}", f"upgrade {name} to {needed} or later")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# ------------------------------------------------------------------------------------------- the file
def _file(store: Path) -> Iterator[Check]:
    found = store.stat()
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    if found.st_mode & stat.S_IWOTH:
        yield Check("permissions", "bad", f"every user may write to it ({mode})", f"chmod 600 {store}")
    elif found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Check("permissions", "warn", f"other users may use it, too ({mode})", f"chmod 600 {store}")
    elif found.st_uid != os.geteuid():
        yield Check("permissions", "warn", f"it belongs to user {found.st_uid}", "write to it as that user")
    else:
        yield Check("permissions", "ok", f"only its owner has access ({mode})")
    log = store.resolve().with_name(store.resolve().name + "-wal")
    length = log.stat().st_size if log.exists() else 0
    text = f"{size(found.st_size)}, plus {size(length)} in the write-ahead log"
    if length > _LOG_WARN:
        todo = "a long-running reader keeps SQLite from checkpointing the log: find it and end it"
        yield Check("size", "warn", text, todo)
    else:
        yield Check("size", "ok", text)


def _folder(folder: Path) -> Iterator[Check]:
    kind = filesystem_of(folder) or "unknown type"
    if kind in _IN_MEMORY:
        yield Check("filesystem", "warn", f"{kind}: in memory, so a power cut loses everything", "use a disk")
    else:
        yield Check("filesystem", "ok", kind)
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    state = "bad" if free < _ROOM_BAD else "warn" if free < _ROOM_WARN else "ok"
    todo = "" if state == "ok" else "free some space: a full disk stops all flows"
    yield Check("free space", state, size(free), todo)
    yield _sync(folder)


def _sync(folder: Path) -> Check:
    try:
        seconds = _sync_seconds(folder)
    except OSError as error:
        text = f"{folder} is not writable: {error.strerror}"
        return Check("sync", "warn", text, "an engine could not write there, either")
    typical = median(seconds)
    text = f"{typical * 1000:.2f} ms a commit (at most {max(seconds) * 1000:.2f} ms)"
    if typical > _SLOW_S:
        return Check("sync", "warn", text, "the disk is slow: each step of a flow takes at least this long")
    if typical < _TOO_FAST_S:
        todo = "it may be acknowledging writes it has not made. Use a different disk"
        return Check("sync", "warn", f"{text}: this is faster than any disk", todo)
    return Check("sync", "ok", text)


def _sync_seconds(folder: Path) -> list[float]:
    clock = SystemClock()
    seconds: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            began = clock.elapsed()
            file.write(_PAGE)
            file.flush()
            os.fdatasync(file.fileno())
            seconds.append(clock.elapsed() - began)
    return seconds


# ---------------------------------------------------------------------------------------- what is in it
def _content(store: Path) -> Iterator[Check]:
    try:
        reader = StoreReader.open(store)
    except StoreError as error:
        yield Check("store", "bad", str(error), "give --store FILE, or restore a backup")
        return
    with reader:
        yield Check("store", "ok", f"{store}, schema {reader.schema_version}")
        for look in _LOOKS:
            try:
                yield from look(reader, store)
            except StoreError as error:
                name = look.__name__.strip("_")
                yield Check(name, "bad", str(error), proposed("verify", store=store))


def _additions(reader: StoreReader, _: Path) -> Iterator[Check]:
    found = reader.additions()
    if found:
        shown = ", ".join(found[:_ADDITIONS_SHOWN])
        more = f" and {len(found) - _ADDITIONS_SHOWN} more" if len(found) > _ADDITIONS_SHOWN else ""
        yield Check("additions", "ok", f"other programs keep these in the file, too: {shown}{more}")


def _owner(reader: StoreReader, _: Path) -> Iterator[Check]:
    owner = reader.owner()
    if owner is None:
        yield Check("engine", "warn", "no process has the store open, so nothing runs", "start the program")
    else:
        opened = owner.since
        since = "" if opened is None else f", {text_since(to_microseconds(opened), SystemClock().now())}"
        yield Check("engine", "ok", f"process {owner.pid} on {owner.host}{since}")


def _headers(reader: StoreReader, store: Path) -> Iterator[Check]:
    damaged: list[str] = []
    is_index_damaged = False
    after: int | None = 0
    while after is not None:
        found = reader.inspect(after=after)
        damaged += [header.stream for header in found.damaged]
        is_index_damaged, after = is_index_damaged or found.is_index_damaged, found.after
    todo = f"the next start repairs what it can; {proposed('verify', store=store)}"
    if damaged:
        text = f"damaged for {counted(len(damaged), 'flow')}: {_some(damaged)}"
        yield Check("headers", "bad", text, todo)
    elif is_index_damaged:
        yield Check("headers", "bad", "an index is damaged: due flows may be missed", todo)
    else:
        yield Check("headers", "ok", "intact")


def _words(reader: StoreReader, store: Path) -> Iterator[Check]:
    damaged = reader.damaged_words()
    if damaged:
        some = _some([repr(word) for word in damaged])
        text = f"damaged, and with them all flows and events that use them: {some}"
        yield Check("words", "bad", text, f"restore a backup; {proposed('verify', store=store)}")
    else:
        yield Check("words", "ok", "intact")


def _log(reader: StoreReader, _: Path) -> Iterator[Check]:
    kept = reader.kept_logs()
    if kept:
        text = f"commits after a damaged page of the log could not be read; a copy is kept as {kept[-1].name}"
        more = f" and {len(kept) - 1} more" if len(kept) > 1 else ""
        todo = "check the disk, and which flows lack commits, then delete the copy"
        yield Check("log", "bad", f"{text}{more}", todo)


def _clock(reader: StoreReader, _: Path) -> Iterator[Check]:
    newest = next(
        iter(reader.query("SELECT max(at) FROM (SELECT at FROM record ORDER BY position DESC LIMIT 1)").rows)
    )
    now, at = SystemClock().now(), newest[0]
    if isinstance(at, int) and at - now > _LATE_US:
        text = f"the newest event is dated {ago(at, now)}: the clock has been set back"
        yield Check("clock", "warn", text, "correct the clock; until then timers fire late, never early")


def _late(reader: StoreReader, _: Path) -> Iterator[Check]:
    first, owner = reader.next_wake_at(), reader.owner()
    if first is None or owner is None:
        return
    # Nobody could do anything before the engine was there.
    since = first if owner.since is None else max(first, to_microseconds(owner.since))
    late = SystemClock().now() - since
    if late > _LATE_US:
        text = f"a flow has been due for {duration(late / 1_000_000)}"
        yield Check(
            "timers", "warn", text, "the engine may be overloaded, or the disk full; its log says more"
        )


def _blocking(reader: StoreReader, store: Path) -> Iterator[Check]:
    found, now = blocking_now(reader, store).blocking, SystemClock().now()
    if not found:
        yield Check("blocking", "ok", "no code holds a thread of the engine")
    for one in found[:_SHOWN]:
        what = f"{one.what!r} of {one.stream}" if one.what and one.stream else one.what or one.stream
        place = f", at {one.place}" if one.place else ""
        text = f"{what or 'a callback'} holds a thread of the engine, {text_since(one.since, now)}{place}"
        todo = "move slow or waiting code into a `def` step; the engine's log has the stack"
        yield Check("blocking", "warn", text, todo)


def _threads(reader: StoreReader, store: Path) -> Iterator[Check]:
    lost = blocking_now(reader, store).lost_threads
    todo = "abandoned code holds them until it ends or the engine is restarted"
    yield _none("lost threads", lost, todo)


def _blocked(reader: StoreReader, store: Path) -> Iterator[Check]:
    found = [str(flow_id) for (flow_id,) in reader.query(_BLOCKED, (_SHOWN + 1,))]
    if found:
        yield Check("parked: blocking", "warn", _some(found), proposed("explain", found[0], store=store))


def _parked(reader: StoreReader, store: Path) -> Iterator[Check]:
    yield _none("parked flows", _count(reader, _PARKED), proposed("list", store=store, status="parked"))


def _dead(reader: StoreReader, store: Path) -> Iterator[Check]:
    yield _none("dead letters", _count(reader, _DEAD), proposed("dead-letters", store=store))


def _projections(reader: StoreReader, store: Path) -> Iterator[Check]:
    found = list(projection_reports(store, reader.position()))
    wrong = [one for one in found if one.status in ("parked", UNREADABLE)]
    for one in wrong[:_SHOWN]:
        todo = f"remove the cause, then retry() or rebuild(); {proposed('projections', store=store)}"
        yield Check("projections", "warn", f"{one.name} is {one.status}: {one.reason}", todo)
    if found and not wrong:
        yield Check("projections", "ok", counted(len(found), "projection"))


def _requests(reader: StoreReader, store: Path) -> Iterator[Check]:
    try:
        with RemoteClient(store) as client:
            waiting, refused = client.pending_count(), len(client.refused())
    except RequestsDamaged as error:
        todo = (
            "the engine sets the file aside, within seconds or when it is started; then send again what was"
            " not answered"
        )
        yield Check("requests", "bad", str(error), todo)
        return
    except StoreError as error:
        yield Check("requests", "bad", str(error), "the engine takes no requests until this is mended")
        return
    if waiting and reader.owner() is None:
        yield Check("requests", "warn", f"{waiting} on record for the next start", "start the program")
    else:
        yield Check("requests", "ok", f"{waiting} waiting for the engine" if waiting else "none")
    if refused:
        yield _none("refused requests", refused, proposed("dead-letters", store=store))


def _count(reader: StoreReader, statement: str) -> int:
    return int(next(iter(reader.query(statement).rows))[0])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _none(name: str, count: int, todo: str) -> Check:
    return Check(name, "warn", str(count), todo) if count else Check(name, "ok", "none")


_LOOKS = (
    _additions,
    _owner,
    _headers,
    _words,
    _log,
    _clock,
    _late,
    _blocking,
    _threads,
    _parked,
    _blocked,
    _dead,
    _projections,
    _requests,
)
