"""Dispatchers: many actors on few threads.

    dispatcher = Dispatcher("flows", workers=2)
    ref = FlowActor.start_on(dispatcher, flow_id)
    ...
    dispatcher.close(timeout=10)          # stops its actors, latest first, and ends its threads

`workers=1` gives whoever runs on it a thread of its own. An actor runs on one worker at a time, for
at most `throughput` messages, and then goes to the back of the queue.

A handler that must wait does so inside `with dispatcher.blocking():`, which lets another thread take
over the worker's slot meanwhile; futures of pooled actors do that by themselves.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from .futures import waiting
from .posts import Post
from .primitives import Condition, Lock, SimpleQueue, SystemClock, Thread, is_current_thread, start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .posts import Inbox, Runnable
    from .scheduler import DeadLetterCallback
    from .watchdog import Watchdog

__all__ = ["Dispatcher", "DispatcherClosedError"]

logger = logging.getLogger("persistasaurus")

# So many threads may be held by work that was given up; it is some for each flow that blocks.
_LOST_MAX = 1000

_numbers = count(1)
_clock = SystemClock()


class DispatcherClosedError(RuntimeError):
    """The dispatcher takes no actors any more."""


class Dispatcher:
    """Runs actors on a bounded number of threads.

    Args:
        name: how its threads are called.
        workers: how many threads run actors at a time.
        throughput: how many messages an actor may handle before others have their turn.
        max_threads: bounds the threads, those included that wait in `blocking()`. When all of them
            wait, nothing runs until one of them has what it waits for.
        daemon: whether the process may exit under its threads. If not, they last as long as there
            are actors, as Pykka's own do.
        on_dead_letter: told of messages that will never be handled; by default they are logged.

    """

    def __init__(  # noqa: PLR0913 - settings, all by name but the first, all with defaults
        self,
        name: str | None = None,
        *,
        workers: int = 2,
        throughput: int = 32,
        max_threads: int = 64,
        daemon: bool = True,
        on_dead_letter: DeadLetterCallback | None = None,
    ) -> None:
        self.name = name or f"persistasaurus-{next(_numbers)}"
        self.workers = workers
        self.throughput = throughput
        self._max_threads = max(workers, max_threads)
        self._daemon = daemon
        self._on_dead_letter = on_dead_letter
        self._queue: SimpleQueue[Runnable | None] = SimpleQueue()
        # The queue's own method: scheduling an actor enters no frame of ours.
        self.ready: Callable[[Any], None] = self._queue.put
        # Entered by itself: Ctrl-C may strike in a condition's methods, but in none of a lock's.
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._actors: dict[Inbox, Runnable] = {}
        self._threads: set[Thread] = set()
        self._thread_numbers = count()
        self._blocked = 0
        self._lost = 0
        self._is_short = False
        self._watchdog: Watchdog | None = None
        self._is_closed = False

    @property
    def live_actors(self) -> int:
        """How many actors have been started and have not ended."""
        with self._lock:
            return len(self._actors)

    @property
    def live_threads(self) -> int:
        """How many threads there are."""
        with self._lock:
            return len(self._threads)

    def attach(self, mailbox: Inbox, actor: Runnable) -> None:
        """Take an actor in.

        Raises:
            DispatcherClosedError: after `close`.

        """
        with self._lock:
            if self._is_closed:
                raise DispatcherClosedError(f"{self.name} is closed")
            self._fill_up()
            self._actors[mailbox] = actor

    def detach(self, mailbox: Inbox) -> None:
        """Forget an actor that has come to its end."""
        with self._lock:
            self._actors.pop(mailbox, None)
            if not self._actors:
                self._retire_if_idle()
                self._changed.notify_all()

    def dead_letter(self, recipient: str, message: Any) -> None:
        """Report a message that nobody will ever handle."""
        if self._on_dead_letter is None:
            logger.info("Dead letter for %s: %s", recipient, type(message).__name__)
            return
        try:
            self._on_dead_letter(recipient, message)
        except BaseException:
            logger.exception("The dead letter callback failed")

    @contextmanager
    def blocking(self) -> Generator[None]:
        """Wait in here for something slow: another thread takes over the worker's slot.

        Anywhere but on a worker of this dispatcher, and inside another `blocking`, this does nothing.
        """
        post = waiting.post
        if waiting.by is not self or post is None:
            yield
            return
        waiting.by = None
        post.is_waiting = True
        self.stand_in(post)
        try:
            yield
        finally:
            self._take_back(post)
            post.is_waiting = False
            waiting.by = self

    def wait(self, wake: Lock, timeout: float) -> bool:
        """Wait for a lock on one of the workers, and take it."""
        with self.blocking():
            return wake.acquire(timeout=timeout)

    def watch(self, watchdog: Watchdog) -> None:
        """Have a watchdog look after the actors; before there are any."""
        self._watchdog = watchdog

    def start_workers(self) -> None:
        """Start the threads now, rather than with the first actor.

        Raises:
            RuntimeError: the machine grants none.

        """
        with self._lock:
            self._fill_up()

    def close(self, timeout: float | None = None) -> bool:
        """Stop all actors, latest first, and end the threads; tell whether all has ended.

        What was sent to an actor before is handled first. Actors that are not through after `timeout`
        seconds are given up: they get no further message, what is queued is refused as if they were
        dead, and their thread ends when their handler returns. On one of its own threads, this
        does not wait.
        """
        deadline = None if timeout is None else _clock.elapsed() + timeout
        with self._lock:
            self._is_closed = True
            actors = list(self._actors.values())
            threads = list(self._threads)
            self._retire_if_idle()
        for actor in reversed(actors):
            _stop(actor)
        if any(is_current_thread(thread) for thread in threads):
            return False
        if not self._wait_until(lambda: not self._actors, deadline):
            self._give_up()
        return self._wait_until(lambda: not self._threads, deadline)

    def _wait_until(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        with self._lock:
            timeout = None if deadline is None else max(0.0, deadline - _clock.elapsed())
            return self._changed.wait_for(condition, timeout)

    def _give_up(self) -> None:
        with self._lock:
            left = list(self._actors.items())
        for mailbox, actor in left:
            logger.warning("%s did not stop in time", actor)
            actor.actor_stopped.set()
            mailbox.close(None)

    def _fill_up(self) -> None:
        """Start what threads are missing, as far as there are any. The caller holds the lock."""
        while len(self._threads) - self._blocked < self.workers and self._spawn():
            pass

    def _spawn(self) -> bool:
        name = f"{self.name}-{next(self._thread_numbers)}"
        try:
            self._threads.add(start_thread(self._work, name, daemon=self._daemon))
        except RuntimeError:
            # The system's limit on threads: slower is better than not at all.
            if not self._threads:
                raise
            if not self._is_short:
                self._is_short = True
                left = len(self._threads) - self._blocked
                logger.warning("%s continues with %d threads for now", self.name, left, exc_info=True)
            return False
        self._is_short = False
        return True

    def _work(self) -> None:
        waiting.by = self
        waiting.post = post = Post(self)
        watchdog = self._watchdog
        if watchdog is None:
            self._work_at(post, None)
            return
        watchdog.add(post)
        try:
            self._work_at(post, watchdog)
        finally:
            watchdog.remove(post)

    def _work_at(self, post: Post, watchdog: Watchdog | None) -> None:
        take = self._queue.get
        while True:
            actor = take()
            if actor is not None:
                # First what it is at, then whether anybody looks; the watchdog does it the other way round.
                post.work = actor
                post.turn += 1
                if watchdog is not None and watchdog.is_asleep:
                    watchdog.wake()
                _run(actor)
                # Kept here, a dead actor would live on until the next one has something to do.
                post.work = None
                del actor
                if post.has_stand_in:
                    self._take_back(post)
                if post.is_lost:
                    return
            elif self._may_retire():
                return

    def _may_retire(self) -> bool:
        with self._lock:
            surplus = len(self._threads) - self._blocked > self.workers
            if not surplus and not self._is_idle():
                return False
            self._threads = {thread for thread in self._threads if not is_current_thread(thread)}
            self._changed.notify_all()
            return True

    def _is_idle(self) -> bool:
        return not self._actors and (self._is_closed or not self._daemon)

    def _retire_if_idle(self) -> None:
        if self._is_idle():
            for _ in self._threads:
                self._queue.put(None)

    def stand_in(self, post: Post) -> None:
        """Have another thread take over the slot of the worker at a post, unless one has.

        When the machine has granted none, the next call for the same post asks it again.
        """
        with self._lock:
            if post.is_lost or post.work is None:
                return
            if not post.has_stand_in:
                post.has_stand_in = True
                self._blocked += 1
            if len(self._threads) - self._blocked < self.workers and len(self._threads) < self._max_threads:
                self._spawn()

    def lose(self, post: Post) -> None:
        """Count on the worker at a post no longer; whoever closes the dispatcher does not wait for it."""
        with self._lock:
            if self._lost >= _LOST_MAX or not post.has_stand_in or post.work is None:
                return
            self._lost += 1
            post.is_lost = True
            self._threads = {thread for thread in self._threads if thread.ident != post.thread}
            self._blocked -= 1
            self._changed.notify_all()

    def _take_back(self, post: Post) -> None:
        with self._lock:
            post.has_stand_in = False
            if post.is_lost:
                self._lost -= 1
                return
            self._blocked -= 1
            if len(self._threads) - self._blocked > self.workers:
                self._queue.put(None)


def _run(actor: Runnable) -> None:
    try:
        actor._run_slice()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - hidden from proxies
    except BaseException:
        # Nothing gets here but a failure to fail, such as a log handler that raises.
        logger.critical("%s is given up", type(actor), exc_info=True)
        actor.actor_stopped.set()
        actor.actor_inbox.close(None)
        actor.actor_inbox.detach()


def _stop(actor: Runnable) -> None:
    """Send the poison pill; the actor may be dead by now."""
    actor.actor_ref.stop(block=False)
