"""The black box: a small file beside a store that says what was going on when its process died.

The log cannot say it: what kills the process is not recorded. A segfault in a flow's body would come back at
each start without a trace of the flow. So a name is written into a slot before user code runs, and removed
afterwards. The file is mapped into memory and never synced: a write takes about a microsecond and survives
the process, though not the machine. After a power cut no code is to blame.

While the process lives, others can read in it what keeps it from its work: `present_in`.

The file also says whether the process was told to end. A signal leaves a mark (`faulthandler` writes it
within the signal handler, even while Python is blocked, and the signal then has its usual effect), and so do
the end of the interpreter and an orderly close. All of it is a hint about suspects, on which no promise
depends. A damaged or missing file says nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import mmap
import os
import signal
import struct
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAGIC: Final = b"psblack1"
_HEAD: Final = struct.Struct("<8s36s32sqB3xI")
_BEAT: Final = struct.Struct("<q")
_BEAT_AT: Final = 76
_ENDED_AT: Final = 84
_SUSPICIONS_AT: Final = 256
_PRESENT_AT: Final = 48 * 1024
_SLOTS_AT: Final = 64 * 1024
_SLOT: Final = 1024
_SLOTS: Final = 128
_SIZE: Final = _SLOTS_AT + _SLOTS * _SLOT
_LENGTH: Final = struct.Struct("<H")
_FREE: Final = b"\0\0"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


class Suspicion(msgspec.Struct, frozen=True, array_like=True):
    """How many times in a row the process died while a stream's code ran, at this version of the stream."""

    deaths: int
    version: int


class Blocking(msgspec.Struct, frozen=True, array_like=True):
    """Code that holds a thread of the engine: of which stream, where it is, and since when.

    `what` is a step or a query by name, or empty for the flow's own code. `since` is in microseconds since
    the epoch, UTC.
    """

    stream: str
    what: str
    place: str
    since: int


class Present(msgspec.Struct, frozen=True, array_like=True):
    """What keeps a process from its work: blocking code, and threads lost to abandoned code."""

    blocking: tuple[Blocking, ...] = ()
    lost_threads: int = 0


class Past(NamedTuple):
    """How the previous process ended, as far as is known."""

    is_blameless: bool = False
    """It was told to end, or the machine stopped, or its code was another: no stream is to blame."""
    running: tuple[str, ...] = ()
    """The streams whose code was running."""
    alive_at: int | None = None
    """When it was last known to be alive, in microseconds since the epoch, UTC."""
    suspicions: Mapping[str, Suspicion] = {}


class BlackBox:
    """The file of one process. Without a path it writes into memory, and `past` is empty.

    `code` identifies the code that runs, in at most 32 bytes. All methods are thread-safe.
    """

    def __init__(self, path: Path | None = None, code: bytes = b"", memory: bytearray | None = None) -> None:
        self.past = Past()
        self._descriptor: int | None = None
        self._map: mmap.mmap | bytearray = bytearray(_SLOTS_AT)
        self._free = deque(range(_SLOTS_AT, _SIZE, _SLOT))
        if path is not None:
            self._open(path, code)
        elif memory is not None:
            self.past = _past_in(bytes(memory), code)
            memory[:] = _fresh(code)
            self._map = memory
        else:
            self._free.clear()

    def _open(self, path: Path, code: bytes) -> None:
        with contextlib.suppress(OSError):
            self.past = _past_in(path.read_bytes(), code)
        draft = path.with_name(f"{path.name}.new")
        draft.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_APPEND
        # A new file, so that a previous owner that is still alive writes into its own.
        self._descriptor = descriptor = os.open(draft, flags, 0o600)
        try:
            os.write(descriptor, _fresh(code))
            draft.rename(path)
            self._map = mmap.mmap(descriptor, _SIZE)
            _marks.go_to(descriptor)
            atexit.register(self.end)
        except BaseException:
            self.close()
            raise

    @property
    def is_real(self) -> bool:
        """Whether the notes outlive the process."""
        return bool(self._free) or self._descriptor is not None

    # ------------------------------------------------------------------------------- what goes on
    def begin(self, name: str) -> int:
        """Note that user code is about to run; return the slot, or 0 if none was free."""
        try:
            slot = self._free.pop()
        except IndexError:
            return 0
        data = name.encode()[: _SLOT - 2]
        size = len(data)
        try:  # not `suppress`, which is slow: this runs for each message of each flow
            self._map[slot : slot + 2 + size] = size.to_bytes(2, "little") + data
        except ValueError:
            return 0  # closed
        return slot

    def finish(self, slot: int) -> None:
        """Note that it has ended."""
        if not slot:
            return
        try:
            self._map[slot : slot + 2] = _FREE
        except ValueError:
            return  # closed
        self._free.append(slot)

    def beat(self, now: int) -> None:
        with contextlib.suppress(ValueError):
            self._map[_BEAT_AT : _BEAT_AT + 8] = _BEAT.pack(now)

    def suspect(self, suspicions: Mapping[str, Suspicion]) -> None:
        """Note the suspects for the next process."""
        data = msgspec.json.encode(suspicions)
        if len(data) <= _PRESENT_AT - _SUSPICIONS_AT:
            with contextlib.suppress(ValueError):
                self._map[_SUSPICIONS_AT : _SUSPICIONS_AT + len(data)] = data
                self._map[_ENDED_AT + 4 : _ENDED_AT + 8] = len(data).to_bytes(4, "little")

    def note(self, present: Present) -> None:
        """Note what other processes may read; of the blocking code, as much as there is room for."""
        room = _SLOTS_AT - _PRESENT_AT - _LENGTH.size
        data = msgspec.json.encode(present)
        while len(data) > room:
            present = Present(present.blocking[: len(present.blocking) // 2], present.lost_threads)
            data = msgspec.json.encode(present)
        with contextlib.suppress(ValueError):
            # A concurrent reader finds nothing, rather than half of it.
            self._map[_PRESENT_AT : _PRESENT_AT + 2] = _FREE
            self._map[_PRESENT_AT + 2 : _PRESENT_AT + 2 + len(data)] = data
            self._map[_PRESENT_AT : _PRESENT_AT + 2] = _LENGTH.pack(len(data))

    def end(self) -> None:
        """Note an orderly end: code that still runs is not to blame."""
        with contextlib.suppress(ValueError):
            self._map[_ENDED_AT : _ENDED_AT + 1] = b"\1"

    def close(self) -> None:
        """Close the file. Later notes are lost."""
        atexit.unregister(self.end)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _marks.leave(descriptor)
            if isinstance(self._map, mmap.mmap):
                self._map.close()
            os.close(descriptor)


class _Marks:
    """Has signals that end the process leave a mark at the end of a file: one for each process."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._nowhere: int | None = None

    def go_to(self, descriptor: int) -> None:
        self._descriptor = descriptor
        for number in _SIGNALS:
            faulthandler.register(number, file=descriptor, all_threads=False, chain=True)

    def leave(self, descriptor: int) -> None:
        """Redirect the marks to /dev/null if they go to this file.

        The handlers stay: others may have been installed over them since.
        """
        if self._descriptor == descriptor:
            if self._nowhere is None:
                self._nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            self.go_to(self._nowhere)

    def forget(self) -> None:
        """Leave no marks in a forked child, whose end says nothing about its parent's."""
        if self._descriptor is not None:
            self.leave(self._descriptor)


_marks = _Marks()
os.register_at_fork(after_in_child=_marks.forget)


def _boot() -> bytes:
    try:
        return _BOOT.read_bytes().strip()[:36]
    except OSError:
        return b""


def _fresh(code: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, _boot(), code, 0, 0, 0).ljust(_SIZE, b"\0")


def _past_in(data: bytes, code: bytes) -> Past:
    if len(data) < _SIZE or not data.startswith(_MAGIC):
        return Past()
    _, boot, old_code, beat, has_ended, length = _HEAD.unpack_from(data)
    was_marked = len(data) > _SIZE
    is_other = boot.rstrip(b"\0") != _boot() or old_code.rstrip(b"\0") != code.rstrip(b"\0")
    try:
        suspicions = msgspec.json.decode(data[_SUSPICIONS_AT:][:length] or b"{}", type=dict[str, Suspicion])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        suspicions = {}
    used = (slot for slot in range(_SLOTS_AT, _SIZE, _SLOT) if data[slot : slot + 2] != _FREE)
    running = tuple(_name_in(data, slot) for slot in used)
    return Past(bool(has_ended) or was_marked or is_other, running, beat or None, suspicions)


def _name_in(data: bytes, slot: int) -> str:
    (length,) = _LENGTH.unpack_from(data, slot)
    return data[slot + 2 : slot + 2 + min(length, _SLOT - 2)].decode(errors="replace")


def blackbox_of(store: Path) -> Path:
    return store.with_name(f"{store.name}.blackbox")


def present_in(store: Path) -> Present:
    """Return what the process that has a store open says of itself, empty if it says nothing."""
    try:
        with blackbox_of(store.resolve()).open("rb") as file:
            data = file.read(_SLOTS_AT)
    except OSError:
        return Present()
    if len(data) < _SLOTS_AT or not data.startswith(_MAGIC):
        return Present()
    (length,) = _LENGTH.unpack_from(data, _PRESENT_AT)
    try:
        return msgspec.json.decode(data[_PRESENT_AT + 2 :][:length] or b"[]", type=Present)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Present()


def suspicions_after(past: Past, version_of: Callable[[str], int | None]) -> dict[str, Suspicion]:
    """Return the suspects after a death: streams whose code ran without progress since the last one.

    `version_of` returns the version of a stream that could run again, and None for all others.
    """
    if past.is_blameless:
        return dict(past.suspicions)
    found: dict[str, Suspicion] = {}
    for name in past.running:
        version = version_of(name)
        if version is not None:
            before = past.suspicions.get(name)
            deaths = before.deaths if before is not None and before.version == version else 0
            found[name] = Suspicion(deaths + 1, version)
    return found
