"""Notifies followers on an event loop of commits. One reader serves them all.

However many follow, each event is read from the store, and written as JSON, once. A follower that is too far
behind for the batches in memory reads from the store until it has caught up.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from litestar.concurrency import sync_to_thread

from ....flows.errors import PersistasaurusError
from .feeds import AllFlowsFeed, EventBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ....actors import FlowSystem

_PACE_S: Final = 0.05
"""Followers are notified at most this often; after a quiet time, at once."""
_FOLLOWER_S: Final = 0.002
"""The interval grows by this for each follower, so that many followers leave time for requests."""
_AT_ONCE: Final = 16
_KEPT_BYTES: Final = 4 << 20
_KEPT_BATCHES: Final = 64


class Subscription:
    """A follower of one flow, or of all flows (None). `has_news` is set when there may be something new."""

    def __init__(self, flow_id: str | None, loop: _LoopReader) -> None:
        self.flow_id = flow_id
        self.has_news = asyncio.Event()
        self._loop = loop

    def batch(self, after: int) -> EventBatch | None:
        """Return what happened to all flows after a position, if it is in memory."""
        return self._loop.batch(after)


class CommitNotifier:
    """Notifies the followers of one application of a system's commits.

    It listens to the journal only while there are followers. The journal's thread only wakes an event loop,
    once for all commits until the loop gets to it.
    """

    def __init__(self, system: FlowSystem) -> None:
        self._system = system
        self._loops: dict[asyncio.AbstractEventLoop, _LoopReader] = {}

    def position(self) -> int | None:
        """Return a position after which followers hear everything; None: there are no followers yet."""
        loop = self._loops.get(asyncio.get_running_loop())
        return None if loop is None else loop.position

    def check(self) -> None:
        """Check that there can still be commits. Raises SystemClosed: there will be no more."""
        self._system.client.admission.check_open()

    @contextmanager
    def subscribe(self, flow_id: str | None = None) -> Generator[Subscription]:
        """Follow a flow, or all flows, for as long as the block lasts. On the loop's thread.

        Raises:
            SystemClosed: there will be no more commits.
        """
        running = asyncio.get_running_loop()
        loop = self._loops.get(running)
        if loop is None:
            loop = _LoopReader(self._system, running)
            loop.begin()
            self._loops[running] = loop
        subscription = Subscription(flow_id, loop)
        loop.subscriptions.add(subscription)
        if loop.position is not None:
            subscription.has_news.set()  # they have read before they listened
        try:
            yield subscription
        finally:
            loop.subscriptions.discard(subscription)
            if not loop.subscriptions:
                self._loops.pop(running, None)
                loop.end()


class _LoopReader:
    """The followers on one event loop, and what is read for them."""

    def __init__(self, system: FlowSystem, loop: asyncio.AbstractEventLoop) -> None:
        self._system = system
        self._feed = AllFlowsFeed(system)
        self._loop = loop
        self._is_awake = False
        self._committed = asyncio.Event()
        self._kept: deque[EventBatch] = deque()
        self._kept_bytes = 0
        self._unlisten: Callable[[], None] = lambda: None
        self._reading: asyncio.Task[None] | None = None
        self.subscriptions: set[Subscription] = set()
        self.position: int | None = None
        """Everything up to here is read; None: not known yet."""

    def begin(self) -> None:
        self._unlisten = self._system.on_commit(self._wake_soon)
        self._reading = self._loop.create_task(self._read_on())

    def end(self) -> None:
        self._unlisten()
        if self._reading is not None:
            self._reading.cancel()

    def batch(self, after: int) -> EventBatch | None:
        if after == self.position:
            return EventBatch(after, [], after)  # there is nothing, or it is being read
        place = bisect_right(self._kept, after, key=lambda batch: batch.after) - 1
        if place < 0 or self._kept[place].reached <= after:
            return None
        found, is_last = self._kept[place], place + 1 == len(self._kept)
        if found.after != after:
            found = EventBatch(after, [one for one in found.events if one[0] > after], found.reached)
        return found._replace(has_more=not is_last)

    def _wake_soon(self) -> None:
        """Have the loop read on. Runs on the journal's thread."""
        if not self._is_awake:
            self._is_awake = True
            with suppress(RuntimeError):  # the loop is closed, and its followers with it
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        # Before the event, so that a commit in between wakes the loop again.
        self._is_awake = False
        self._committed.set()

    async def _read_on(self) -> None:
        """Read what is committed, as long as there are followers."""
        while True:
            read_at = self._loop.time()
            self._committed.clear()
            try:
                if self.position is None:
                    self.position = await sync_to_thread(self._feed.newest)
                    await self._notify(None)
                else:
                    await self._read_to_the_end(self.position)
            except PersistasaurusError:
                self.position = None
                await self._notify(None)  # each follower reads for itself, and gets the error
            await self._committed.wait()
            pace = max(_PACE_S, _FOLLOWER_S * len(self.subscriptions))
            await asyncio.sleep(read_at + pace - self._loop.time())

    async def _read_to_the_end(self, position: int) -> None:
        has_more = True
        while has_more:
            batch = await sync_to_thread(self._feed.read, position)
            if batch.reached > position:
                self._keep(batch)
                self.position = position = batch.reached
                await self._notify(batch.flows)
            has_more = batch.has_more

    def _keep(self, batch: EventBatch) -> None:
        self._kept.append(batch)
        self._kept_bytes += batch.size
        while len(self._kept) > 1 and (self._kept_bytes > _KEPT_BYTES or len(self._kept) > _KEPT_BATCHES):
            self._kept_bytes -= self._kept.popleft().size

    async def _notify(self, flows: frozenset[str] | None) -> None:
        """Wake the followers of these flows (None: of any), and those who follow all."""
        for number, subscription in enumerate(tuple(self.subscriptions), 1):
            if flows is None or subscription.flow_id is None or subscription.flow_id in flows:
                subscription.has_news.set()
            if not number % _AT_ONCE:
                await asyncio.sleep(0)  # let requests run in between
