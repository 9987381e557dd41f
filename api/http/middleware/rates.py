"""Rate limits and limits of concurrency: token buckets on the environment's clock, in bounded memory."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ....actors.runtime.primitives import Lock
from .problem import ProblemError, too_many

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ....actors.runtime.primitives import Clock


class Rates:
    """A bucket for each key: `burst` at once, refilled at `rate` a second. Usable from any thread.

    It remembers the `remembered` keys that were used last. A forgotten key has a full bucket.
    """

    def __init__(self, clock: Clock, rate: float, burst: int, remembered: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._remembered = remembered
        self._lock = Lock()
        # Which instant a bucket is full at: one number says all about it.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: str) -> float:
        """Take one and return 0, or take nothing and return the seconds until one is available."""
        with self._lock:
            now = self._clock.elapsed()
            full_at = max(self._full_at.get(key, now), now) + 1 / self._rate
            missing = full_at - now - self._burst / self._rate
            # Sums of thousands of small numbers are a little off.
            if missing > 1e-6 / self._rate:
                return missing
            self._full_at[key] = full_at
            self._full_at.move_to_end(key)
            if len(self._full_at) > self._remembered:
                self._full_at.popitem(last=False)
            return 0

    def take(self, key: str, detail: str) -> None:
        """Take one.

        Raises:
            ProblemError: 429, with `Retry-After`.
        """
        if seconds := self.wait(key):
            raise too_many(detail, seconds)


class InFlight:
    """Counts the requests of each caller that are being answered. Used on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of.total()

    def enter(self, name: str) -> None:
        """Begin one more, to be followed by `leave`.

        Raises:
            ProblemError: 429, with `Retry-After`.
        """
        if self._of[name] >= self._most:
            raise too_many(f"this caller has too many requests in progress (the limit is {self._most})", 1)
        self._of[name] += 1

    def leave(self, name: str) -> None:
        self._of[name] -= 1
        if not self._of[name]:
            del self._of[name]


class OpenStream:
    """An answer that stays open. `ended` is set when the server stops."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = asyncio.Event()


class Streams:
    """The open streams, of which each caller may have a limited number. Used on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[OpenStream] = set()
        self._waits: set[asyncio.Future[None]] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._open)

    def begin(self) -> None:
        """Accept streams (again)."""
        self._stopping = False

    def end(self) -> None:
        """End all streams and waits, and accept no more."""
        self._stopping = True
        for stream in self._open:
            stream.ended.set()
        for stopped in self._waits:
            if not stopped.done():
                stopped.set_result(None)

    def enter(self, name: str) -> OpenStream:
        """Open one more, to be followed by `leave`.

        Raises:
            ProblemError: 429 or 503, with `Retry-After`.
        """
        if self._stopping:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping", {"Retry-After": "1"})
        if sum(stream.name == name for stream in self._open) >= self._most:
            raise too_many(f"this caller has too many open streams (the limit is {self._most}): close one", 1)
        stream = OpenStream(name)
        self._open.add(stream)
        return stream

    def leave(self, stream: OpenStream) -> None:
        self._open.discard(stream)

    async def wait(self, answer: Awaitable[Any]) -> Any:
        """Wait for something that may take long, such as a long poll.

        Raises:
            TimeoutError: the server stops.
        """
        waiting, stopped = asyncio.ensure_future(answer), asyncio.get_running_loop().create_future()
        self._waits.add(stopped)
        if self._stopping:
            stopped.set_result(None)
        try:
            await asyncio.wait((waiting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise TimeoutError("the server stops")
            return waiting.result()
        finally:
            self._waits.discard(stopped)
            waiting.cancel()
