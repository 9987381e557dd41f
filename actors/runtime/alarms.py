"""Alarms: call back at an instant of `Clock.elapsed`.

`Alarms(clock)` fires from one daemon thread, started with the first alarm. `ManualAlarms(clock)`
fires from within `ManualClock.advance`, so that tests neither sleep nor race. Both fire in the order
of the instants, and at the same instant in the order in which the alarms were set.

    alarm = alarms.call_at(clock.elapsed() + 10, lambda: ref.tell(WakeUp()))
    alarm.cancel()
"""

from __future__ import annotations

import heapq
import logging
from itertools import count
from typing import TYPE_CHECKING

from .primitives import Condition, Lock, Thread, is_current_thread, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from .primitives import Clock, ManualClock

__all__ = ["Alarm", "Alarms", "ManualAlarms"]

logger = logging.getLogger("persistasaurus")

# Waiting is done on a clock that stands still while the machine is suspended: look up now and then.
_NAP_S_MAX = 30.0
# Below this many, cancelled alarms in the heap are not worth a clearing out.
_CANCELLED_MIN = 64


class Alarm:
    """An alarm that was set."""

    __slots__ = ("_callback", "instant")

    def __init__(self, instant: float, callback: Callable[[], None]) -> None:
        self.instant = instant
        self._callback: Callable[[], None] | None = callback

    @property
    def is_pending(self) -> bool:
        """Whether the alarm has neither fired nor been cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """See to it that the alarm does not fire. Does nothing when it has; takes no lock."""
        self._callback = None

    def fire(self) -> None:
        """Call back, once. What the callback raises is logged, and harms no other alarm."""
        callback, self._callback = self._callback, None
        if callback is None:
            return
        try:
            callback()
        except BaseException:
            logger.exception("An alarm's callback failed")


class _Heap:
    """Alarms by instant, then by age. The caller holds the lock."""

    __slots__ = ("_entries", "_numbers", "_sweep_at")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Alarm]] = []
        self._numbers = count()
        self._sweep_at = _CANCELLED_MIN

    def push(self, alarm: Alarm) -> None:
        if len(self._entries) >= self._sweep_at:
            self._sweep()
        heapq.heappush(self._entries, (alarm.instant, next(self._numbers), alarm))

    def next_instant(self) -> float | None:
        while self._entries and not self._entries[0][2].is_pending:
            heapq.heappop(self._entries)
        return self._entries[0][0] if self._entries else None

    def pop_due(self, now: float) -> Alarm | None:
        instant = self.next_instant()
        if instant is None or instant > now:
            return None
        return heapq.heappop(self._entries)[2]

    def clear(self) -> None:
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def _sweep(self) -> None:
        """Forget the cancelled ones, so that setting and cancelling for ever takes no memory."""
        self._entries = [entry for entry in self._entries if entry[2].is_pending]
        heapq.heapify(self._entries)
        self._sweep_at = max(_CANCELLED_MIN, 2 * len(self._entries))


class Alarms:
    """Alarms in real time. All callbacks run in one thread, so they must be tiny."""

    def __init__(self, clock: Clock, *, name: str = "persistasaurus-alarms") -> None:
        self._clock = clock
        self._name = name
        # Entered by itself: Ctrl-C may strike in a condition's methods, but in none of a lock's.
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._heap = _Heap()
        self._thread: Thread | None = None
        self._is_closed = False

    def call_at(self, instant: float, callback: Callable[[], None], /) -> Alarm:
        """Call back when the clock reaches `instant`, never early; the past means at once.

        After `close`, the alarm is taken and never fires: whoever sets one then is being shut down too.
        """
        alarm = Alarm(instant, callback)
        with self._lock:
            if self._is_closed:
                return alarm
            earliest = self._heap.next_instant()
            self._heap.push(alarm)
            if self._thread is None:
                self._start()
            elif earliest is None or instant < earliest:
                self._changed.notify()
        return alarm

    def start(self) -> None:
        """Start the thread, so that no alarm will find that there is none to be had.

        Raises:
            RuntimeError: there is none to be had.
        """
        with self._changed:
            if self._thread is None and not self._is_closed:
                self._start()

    def _start(self) -> None:
        self._thread = start_thread(self._run, self._name, daemon=True)

    def close(self) -> None:
        """Fire nothing any more, and end the thread; waits for a callback that is running."""
        with self._lock:
            self._is_closed = True
            self._heap.clear()
            thread = self._thread
            self._changed.notify()
        if thread is not None and not is_current_thread(thread):
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                alarm = self._wait_until_due()
            if alarm is None:
                return
            alarm.fire()
            # A callback that is kept here would keep an actor alive through the wait that follows.
            del alarm

    def _wait_until_due(self) -> Alarm | None:
        """Wait for the next alarm; None: closed."""
        while not self._is_closed:
            now = self._clock.elapsed()
            alarm = self._heap.pop_due(now)
            if alarm is not None:
                return alarm
            instant = self._heap.next_instant()
            self._changed.wait(None if instant is None else min(instant - now, _NAP_S_MAX))
        return None


class ManualAlarms:
    """Alarms that fire when a `ManualClock` is advanced, in the thread that advances it.

    An alarm for the past fires with the next `advance`, be it by 0 seconds.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._heap = _Heap()
        self._is_closed = False
        clock.wake(self)

    def call_at(self, instant: float, callback: Callable[[], None], /) -> Alarm:
        """Call back when the clock is advanced to `instant`. After `close`: never."""
        alarm = Alarm(instant, callback)
        with self._lock:
            if not self._is_closed:
                self._heap.push(alarm)
        return alarm

    def start(self) -> None:
        """Do nothing: there is no thread."""

    def next_instant(self) -> float | None:
        """Tell the instant of the next alarm."""
        with self._lock:
            return self._heap.next_instant()

    def fire_due(self) -> None:
        """Fire what is due by now."""
        while (alarm := self._pop_due()) is not None:
            alarm.fire()

    def close(self) -> None:
        """Fire nothing any more."""
        with self._lock:
            self._is_closed = True
            self._heap.clear()

    def _pop_due(self) -> Alarm | None:
        now = self._clock.elapsed()
        with self._lock:
            return self._heap.pop_due(now)
