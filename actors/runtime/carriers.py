"""Carriers: the threads that run actors, and whatever else is ready, to completion.

All that is ready waits in one queue. So many carriers as there are `workers` take from it, most often one:
then a message from one actor to the next wakes no thread, and whoever makes something ready wakes a carrier
only if none is awake. The queue does both in a single call of C, which Ctrl-C cannot strike in the middle.

A carrier may get stuck: code of the user blocks or computes, or the disk is slow. It is *relieved* then:
another carrier, a spare one or a new one, takes from the queue in its place. A carrier that waits for a
future is relieved at once, any other by the watchman within milliseconds, or by the watchdog within a quarter
of a second. When its turn is over, a relieved carrier steps aside and becomes a spare one.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from .futures import waiting
from .posts import Post
from .primitives import Condition, Lock, SimpleQueue, Thread, start_thread
from .watchman import Watchman

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from .posts import Inbox, Runnable, Task
    from .watchdog import Watchdog

__all__ = ["Carrier", "Carriers"]

logger = logging.getLogger("persistasaurus")

# So many threads may be held by work that was given up; it is some for each flow that blocks.
_LOST_MAX = 1000
# So many carriers that are not needed are kept for the next time that one gets stuck.
_SPARE_MAX = 2


class Carrier(Post):
    """One of the threads, and how to wake it when it has stepped aside."""

    __slots__ = ("is_dismissed", "wake_flag")

    def __init__(self, host: Carriers) -> None:
        super().__init__(host)
        self.wake_flag = Lock()
        self.wake_flag.acquire()
        self.is_dismissed = False


class Carriers:
    """The threads of one dispatcher, and of those beside it.

    `lock` guards the threads, and the actors of the dispatchers; `changed` is notified of what `close`
    waits for.
    """

    def __init__(
        self, name: str, *, workers: int, max_threads: int, daemon: bool, has_watchman: bool
    ) -> None:
        self.name = name
        self.workers = workers
        self._max_threads = max(workers, max_threads)
        self._daemon = daemon
        self._queue: SimpleQueue[Task | None] = SimpleQueue()
        # The queue's own method: making something ready enters no frame of ours.
        self.ready: Callable[[Any], None] = self._queue.put
        # Entered by itself: Ctrl-C may strike in a condition's methods, but in none of a lock's.
        self.lock = Lock()
        self.changed = Condition(self.lock)
        self._actors: list[Mapping[Inbox, Runnable]] = []
        """Those of each dispatcher."""
        self._threads: set[Thread] = set()
        self._thread_numbers = count()
        self._spare: list[Carrier] = []
        self._relieved = 0
        self._lost = 0
        self._is_short = False
        self._watchdog: Watchdog | None = None
        self._watchman = Watchman(self, f"{name}-watchman") if has_watchman else None
        self._is_closed = False

    # --------------------------------------------------------- for dispatchers, which hold the lock
    @property
    def threads(self) -> int:
        """How many carriers there are."""
        return len(self._threads)

    @property
    def is_closed(self) -> bool:
        """Whether they take no more actors."""
        return self._is_closed

    def carry(self, actors: Mapping[Inbox, Runnable]) -> None:
        """Run the actors of one more dispatcher, which adds them before it calls `fill_up`."""
        self._actors.append(actors)

    def fill_up(self) -> None:
        """Have as many carriers take from the queue as may, as far as there are any.

        Raises:
            RuntimeError: there is none, and the machine grants no thread.
        """
        if self._watchman is not None:
            self._watchman.start()
        while self._taking() < self.workers and self._call_in():
            pass

    def retire(self) -> None:
        """End the threads as soon as there are no actors."""
        self._is_closed = True
        self.retire_if_idle()

    def retire_if_idle(self) -> None:
        """End the threads if nothing can come any more. To be called when an actor has ended."""
        if not self._is_idle():
            return
        spare, self._spare = self._spare, []
        for carrier in spare:
            carrier.is_dismissed = True
            self._forget(carrier)
            carrier.wake_flag.release()
        self._queue.put(None)

    def dismiss_watchman(self) -> None:
        """Have nobody look after the carriers any more."""
        if self._watchman is not None:
            self._watchman.close()

    # ------------------------------------------------------------------------------ for everybody
    @property
    def lacks_threads(self) -> bool:
        """Whether the machine has refused a thread, and none was to be had since."""
        return self._is_short

    def runs_caller(self) -> bool:
        """Tell whether the caller runs on one of the carriers."""
        post = waiting.post
        return post is not None and post.host is self

    def watch(self, watchdog: Watchdog) -> None:
        """Have a watchdog look after the carriers; before there are any."""
        self._watchdog = watchdog

    @contextmanager
    def blocking(self) -> Generator[None]:
        """Wait in here for something slow: another carrier takes over until this one's turn is over.

        Anywhere but on one of these carriers, and inside another `blocking`, this does nothing.
        """
        post = waiting.post
        if post is None or post.host is not self or post.is_waiting:
            yield
            return
        post.is_waiting = True
        self.relieve(post)
        try:
            yield
        finally:
            post.is_waiting = False

    def wait(self, wake: Lock, timeout: float) -> bool:
        """Wait for a lock on one of the carriers, and take it."""
        with self.blocking():
            return wake.acquire(timeout=timeout)

    def relieve(self, post: Post) -> None:
        """Have another carrier take from the queue in place of one that is stuck in its turn.

        When the machine has granted no thread for that, the next call asks it again.
        """
        with self.lock:
            if post.is_lost:
                return
            if not post.is_relieved:
                # First shown, then looked: a carrier whose turn is over does both the other way round.
                post.is_relieved = True
                if post.work is None:
                    post.is_relieved = False
                    return
                self._relieved += 1
            self.fill_up()

    def ask_again(self) -> None:
        """Ask for the threads that the machine has refused."""
        with self.lock:
            self.fill_up()

    def lose(self, post: Post) -> None:
        """Count on a relieved carrier no longer; whoever closes the dispatcher does not wait for it."""
        with self.lock:
            if self._lost >= _LOST_MAX or not post.is_relieved or post.is_lost:
                return
            self._lost += 1
            post.is_lost = True
            self._relieved -= 1
            self._forget(post)

    # ------------------------------------------------------------------------------------- inside
    def _taking(self) -> int:
        """Return how many carriers take from the queue, now or when they are through."""
        return len(self._threads) - self._relieved - len(self._spare)

    def _call_in(self) -> bool:
        """Have one more carrier take from the queue; False: there is none to be had."""
        if self._spare:
            self._spare.pop().wake_flag.release()
            return True
        if len(self._threads) >= self._max_threads:
            return False
        name = f"{self.name}-{next(self._thread_numbers)}"
        try:
            self._threads.add(start_thread(self._work, name, daemon=self._daemon))
        except RuntimeError:
            # The system's limit on threads: slower is better than not at all.
            if not self._threads:
                raise
            if not self._is_short:
                self._is_short = True
                logger.warning(
                    "%s continues with %d threads for now", self.name, self._taking(), exc_info=True
                )
            return False
        self._is_short = False
        return True

    def _work(self) -> None:
        waiting.by = self
        waiting.post = carrier = Carrier(self)
        lookers = [looker for looker in (self._watchdog, self._watchman) if looker is not None]
        for looker in lookers:
            looker.add(carrier)
        try:
            self._work_as(carrier, lookers)
        finally:
            for looker in lookers:
                looker.remove(carrier)

    def _work_as(self, carrier: Carrier, lookers: list[Watchdog | Watchman]) -> None:
        take = self._queue.get
        while True:
            task = take()
            if task is not None:
                # First what it is at, then whether anybody looks; those who look do it the other way round.
                carrier.work = task
                carrier.turn += 1
                for looker in lookers:
                    if looker.is_asleep:
                        looker.wake()
                _run(task)
                # Kept here, a dead actor would live on until the next one has something to do.
                carrier.work = None
                del task
                if carrier.is_relieved and not self._comes_back(carrier):
                    return
            elif self._may_retire(carrier):
                return

    def _comes_back(self, carrier: Carrier) -> bool:
        """Take from the queue again, or step aside until that is wanted; False: the thread ends."""
        with self.lock:
            if not carrier.is_relieved:
                return True  # it was through by then
            carrier.is_relieved = False
            if carrier.is_lost:
                self._lost -= 1
                return False
            self._relieved -= 1
            if self._taking() <= self.workers:
                return True
            if self._is_idle() or len(self._spare) >= _SPARE_MAX:
                self._forget(carrier)
                return False
            self._spare.append(carrier)
        carrier.wake_flag.acquire()
        return not carrier.is_dismissed

    def _may_retire(self, carrier: Carrier) -> bool:
        with self.lock:
            if not self._is_idle():
                return False
            self._forget(carrier)
        # For the next. Their number is not known: Ctrl-C may have come between a start and its being noted.
        self._queue.put(None)
        return True

    def _forget(self, post: Post) -> None:
        self._threads = {thread for thread in self._threads if thread.ident != post.thread}
        self.changed.notify_all()

    def _is_idle(self) -> bool:
        return (self._is_closed or not self._daemon) and not any(self._actors)


def _run(task: Task) -> None:
    try:
        task._run_slice()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - hidden from proxies
    except BaseException:
        # Nothing gets here but a failure to fail, such as a log handler that raises.
        logger.critical("%s is given up", type(task), exc_info=True)
        task._run_failed()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above
