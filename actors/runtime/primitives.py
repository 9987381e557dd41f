"""Primitives: clocks, alarms, locks, queues, threads and ids. The one place where the engine touches them.

Nothing else in the engine imports `time`, `threading`, `queue`, `uuid`, `secrets` or `random`. What an engine
uses of this is bound together in an `Environment`, which a simulation replaces.
"""

from __future__ import annotations

import os
import resource
import secrets
import threading
import time
from queue import Empty as QueueEmpty
from queue import Full as QueueFull
from queue import SimpleQueue
from threading import TIMEOUT_MAX, Condition, Event, Lock, RLock, Thread
from threading import local as ThreadLocal  # noqa: N812 - it is a class
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

__all__ = [
    "TIMEOUT_MAX",
    "AlarmHandle",
    "AlarmService",
    "AlarmSource",
    "Clock",
    "Condition",
    "Event",
    "Lock",
    "ManualClock",
    "ProcessLock",
    "QueueEmpty",
    "QueueFull",
    "RLock",
    "SimpleQueue",
    "Startable",
    "SystemClock",
    "Thread",
    "ThreadLocal",
    "ThreadStarter",
    "current_thread_id",
    "current_thread_name",
    "is_current_thread",
    "is_main_thread",
    "new_event_loop",
    "new_id",
    "new_seed",
    "start_process",
    "start_thread",
]

MICROSECONDS = 1_000_000
# Decoding what is nested as deeply as Python 3.13 allows takes more than 2 MiB. It is address space only.
STACK_BYTES_MIN = 4 * 1024 * 1024
# What a libc other than glibc gives a thread unless it is asked for more.
_OTHER_LIBC_STACK_BYTES = 128 * 1024
# Suspended time counts; without CLOCK_BOOTTIME a laptop's sleep would delay every timer by as much.
_ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ProcessLock:
    """A lock of the whole process; free in a forked child, whoever had it in the parent.

    `with lock.held:`, and not the object itself: Ctrl-C may strike in each line of Python, but in none of a
    lock's own methods.
    """

    def __init__(self) -> None:
        self.held = Lock()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.held = Lock()


_starting = ProcessLock()


@runtime_checkable
class Clock(Protocol):
    """Two readings of time, which must not be mixed: one for people, one for waiting."""

    def now(self) -> int:
        """Tell the wall clock in microseconds since the epoch, UTC. May jump either way."""
        ...

    def elapsed(self) -> float:
        """Tell the seconds since some fixed instant. Never goes back, and counts suspended time."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> int:
        """Tell the wall clock in microseconds since the epoch, UTC."""
        return time.time_ns() // 1000

    def elapsed(self) -> float:
        """Tell the seconds since boot, suspended time included where the system can tell."""
        return time.clock_gettime(_ELAPSED_CLOCK)


class AlarmSource(Protocol):
    """Something that a `ManualClock` wakes as its time goes by."""

    def next_instant(self) -> float | None:
        """Tell the earliest elapsed instant at which there is something to fire."""
        ...

    def fire_due(self) -> None:
        """Fire what is due at the clock's present instant."""
        ...


class ManualClock:
    """A clock that only moves when it is told to. Safe to read and move from any thread.

    Alarms fire in the thread that calls `advance`, in the order of their instants, each while the
    clock shows exactly its instant.
    """

    def __init__(self, now: int = 1_700_000_000 * MICROSECONDS, elapsed: float = 0.0) -> None:
        self._lock = Lock()
        self._offset = now - round(elapsed * MICROSECONDS)
        self._elapsed = elapsed
        self._sources: list[AlarmSource] = []

    def now(self) -> int:
        """Tell the wall clock in microseconds since the epoch, UTC."""
        with self._lock:
            return self._offset + round(self._elapsed * MICROSECONDS)

    def elapsed(self) -> float:
        """Tell the seconds this clock has been advanced."""
        with self._lock:
            return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks and fire what falls due, also what that in turn arms."""
        if seconds < 0:
            raise ValueError(f"Time does not run backwards: {seconds} s. The wall clock can jump_wall().")
        target = self.elapsed() + seconds
        while (due := self._next_source(target)) is not None:
            instant, source = due
            self._move_to(instant)
            source.fire_due()
        self._move_to(target)

    def pass_over(self, seconds: float) -> None:
        """Let time pass on both clocks and fire nothing: what falls due is late, with the next `advance`."""
        self._move_to(self.elapsed() + seconds)

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does. Fires nothing."""
        with self._lock:
            self._offset += round(seconds * MICROSECONDS)

    def wake(self, source: AlarmSource) -> None:
        """Ask `source` at each `advance` what is due."""
        with self._lock:
            self._sources.append(source)

    def next_instant(self) -> float | None:
        """Tell the earliest elapsed instant at which something will fire."""
        with self._lock:
            sources = list(self._sources)
        return min((i for s in sources if (i := s.next_instant()) is not None), default=None)

    def _next_source(self, target: float) -> tuple[float, AlarmSource] | None:
        with self._lock:
            sources = list(self._sources)
        due = [(i, s) for s in sources if (i := s.next_instant()) is not None and i <= target]
        return min(due, key=lambda pair: pair[0], default=None)

    def _move_to(self, instant: float) -> None:
        with self._lock:
            self._elapsed = max(self._elapsed, instant)


def new_id() -> str:
    """Make an id that nobody has seen before: 128 random bits in hex."""
    return secrets.token_hex(16)


def new_seed() -> int:
    """Draw the seed for a generator of one's own."""
    return secrets.randbits(64)


def current_thread_name() -> str:
    """Name the calling thread, for messages to people."""
    return threading.current_thread().name


def current_thread_id() -> int:
    """Return what tells the calling thread from all others that live, as `sys._current_frames` does."""
    return threading.get_ident()


def is_current_thread(thread: Thread) -> bool:
    """Tell whether the caller runs on `thread`, which must not wait for itself."""
    return thread.ident == threading.get_ident()


def is_main_thread() -> bool:
    """Tell whether the caller runs on the main thread, the only one that signals of the system reach."""
    return threading.current_thread() is threading.main_thread()


def start_thread(target: Callable[[], None], name: str, *, daemon: bool) -> Thread:
    """Start a thread with at least 4 MiB of stack, whatever the host chose for its own threads.

    Decoding deeply nested bytes on a smaller stack would kill the process.
    """
    thread = Thread(target=target, name=name, daemon=daemon)
    with _starting.held:
        # To read the host's setting is to reset it.
        hosts = threading.stack_size()
        try:
            threading.stack_size(_stack_bytes(hosts))
            thread.start()
        finally:
            threading.stack_size(hosts)
    return thread


def _stack_bytes(configured: int) -> int:
    """Decide on a stack size; 0: the default, which is large enough."""
    in_force = configured or _default_stack_bytes()
    return configured if in_force >= STACK_BYTES_MIN else STACK_BYTES_MIN


def _default_stack_bytes() -> int:
    """Tell what a thread gets when nobody asks: on glibc, the soft limit of the process."""
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return _OTHER_LIBC_STACK_BYTES
    soft, _hard = resource.getrlimit(resource.RLIMIT_STACK)
    return STACK_BYTES_MIN if soft == resource.RLIM_INFINITY else soft


class Startable(Protocol):
    """A process that is to be started, as `multiprocessing` makes it."""

    def start(self) -> None:
        """Start it."""
        ...


def start_process(process: Startable) -> None:
    """Start a process.

    Raises:
        OSError, MemoryError: the machine cannot give one, or not its pipes.
    """
    process.start()


def new_event_loop() -> AbstractEventLoop:
    """Make an asyncio loop. Imports asyncio, which costs more than all the rest.

    Raises:
        OSError: the machine cannot give the files that it takes.
    """
    from asyncio import new_event_loop  # noqa: PLC0415

    return new_event_loop()


class AlarmHandle(Protocol):
    """An alarm that was set."""

    def cancel(self) -> None:
        """See to it that the alarm does not fire. Does nothing when it has."""
        ...


class AlarmService(Protocol):
    """Timed wake-ups, the only ones there are."""

    def call_at(self, instant: float, callback: Callable[[], None], /) -> AlarmHandle:
        """Call back when `Clock.elapsed` reaches `instant`, never early; the past means at once.

        Callbacks share one thread: they only `tell` somebody.
        """
        ...

    def start(self) -> None:
        """Take what it needs from the machine now, so that no alarm will lack it.

        Raises:
            RuntimeError: there is no thread to be had.
        """
        ...

    def close(self) -> None:
        """Fire nothing any more."""
        ...


class ThreadStarter(Protocol):
    """Starts the threads that steps run on."""

    def __call__(self, target: Callable[[], None], name: str, *, daemon: bool) -> Thread:
        """Start one.

        Raises:
            RuntimeError, MemoryError: the machine cannot give one now.
        """
        ...
