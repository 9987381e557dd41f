"""Dispatchers: many actors on few threads.

    dispatcher = Dispatcher("flows", workers=2)
    ref = FlowActor.start_on(dispatcher, flow_id)
    ...
    dispatcher.close(timeout=10)          # stops its actors, latest first, and ends its threads

An actor runs on one thread at a time, for at most `throughput` messages, and then goes to the back of the
queue. Dispatchers that are made by `beside` share threads and queue, and each stops its own actors: so what
others depend on is stopped after them.

A handler that must wait does so inside `with dispatcher.blocking():`, which lets another thread take over
meanwhile; futures of pooled actors do that by themselves.
"""

from __future__ import annotations

import logging
from itertools import count
from typing import TYPE_CHECKING, Any

from .carriers import Carriers
from .primitives import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .posts import Inbox, Runnable
    from .primitives import Lock
    from .scheduler import DeadLetterCallback
    from .watchdog import Watchdog

__all__ = ["Dispatcher", "DispatcherClosedError"]

logger = logging.getLogger("persistasaurus")

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
        max_threads: bounds the threads, those included that wait in `blocking()` or are stuck. When all of
            them are, nothing runs until one of them has what it waits for.
        daemon: whether the process may exit under its threads. If not, they last as long as there
            are actors, as Pykka's own do.
        on_dead_letter: told of messages that will never be handled; by default they are logged.
        has_watchman: whether another thread takes over within milliseconds from one that is stuck.
        carriers: the threads of another dispatcher, instead of its own; `beside` gives them.

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
        has_watchman: bool = False,
        carriers: Carriers | None = None,
    ) -> None:
        self.name = name or f"persistasaurus-{next(_numbers)}"
        self.throughput = throughput
        self._owns_carriers = carriers is None
        self.carriers = carriers or Carriers(
            self.name, workers=workers, max_threads=max_threads, daemon=daemon, has_watchman=has_watchman
        )
        self.ready: Callable[[Any], None] = self.carriers.ready
        self._lock = self.carriers.lock
        self._on_dead_letter = on_dead_letter
        self._actors: dict[Inbox, Runnable] = {}
        self.carriers.carry(self._actors)
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
            return self.carriers.threads

    def beside(self, on_dead_letter: DeadLetterCallback | None = None) -> Dispatcher:
        """Make a dispatcher for other actors on the same threads. It is closed before this one."""
        return Dispatcher(
            self.name, throughput=self.throughput, on_dead_letter=on_dead_letter, carriers=self.carriers
        )

    def attach(self, mailbox: Inbox, actor: Runnable) -> None:
        """Take an actor in.

        Raises:
            DispatcherClosedError: after `close`.
            RuntimeError: there is no thread, and the machine grants none.

        """
        with self._lock:
            if self._is_closed or self.carriers.is_closed:
                raise DispatcherClosedError(f"{self.name} is closed")
            # Noted first: wherever Ctrl-C strikes, whoever closes this finds the actor, or there is none.
            self._actors[mailbox] = actor
            try:
                self.carriers.fill_up()
            except RuntimeError:
                del self._actors[mailbox]
                raise

    def detach(self, mailbox: Inbox) -> None:
        """Forget an actor that has come to its end."""
        with self._lock:
            if self._actors.pop(mailbox, None) is not None:
                self.carriers.retire_if_idle()
            if not self._actors:
                self.carriers.changed.notify_all()

    def dead_letter(self, recipient: str, message: Any) -> None:
        """Report a message that nobody will ever handle."""
        if self._on_dead_letter is None:
            logger.info("Dead letter for %s: %s", recipient, type(message).__name__)
            return
        try:
            self._on_dead_letter(recipient, message)
        except BaseException:
            logger.exception("The dead letter callback failed")

    def blocking(self) -> AbstractContextManager[None]:
        """Return what is entered to wait for something slow: another thread takes over meanwhile.

        Anywhere but on one of the threads, and inside another `blocking`, it does nothing.
        """
        return self.carriers.blocking()

    def wait(self, wake: Lock, timeout: float) -> bool:
        """Wait for a lock on one of the threads, and take it."""
        return self.carriers.wait(wake, timeout)

    def watch(self, watchdog: Watchdog) -> None:
        """Have a watchdog look after the actors; before there are any."""
        self.carriers.watch(watchdog)

    def runs_caller(self) -> bool:
        """Tell whether the caller runs on one of the threads."""
        return self.carriers.runs_caller()

    def start_workers(self) -> None:
        """Start the threads now, rather than with the first actor.

        Raises:
            RuntimeError: the machine grants none.

        """
        with self._lock:
            self.carriers.fill_up()

    def close(self, timeout: float | None = None) -> bool:
        """Stop all actors, latest first, and end the threads; tell whether all has ended.

        What was sent to an actor before is handled first. Actors that are not through after `timeout`
        seconds are given up: they get no further message, what is queued is refused as if they were
        dead, and their thread ends when their handler returns. On one of its own threads, this
        does not wait. Threads that belong to another dispatcher are left to that one.
        """
        deadline = None if timeout is None else _clock.elapsed() + timeout
        with self._lock:
            self._is_closed = True
            actors = list(self._actors.values())
            if self._owns_carriers:
                self.carriers.retire()
        for actor in reversed(actors):
            _stop(actor)
        if self.runs_caller():
            return False
        if not self._wait_until(lambda: not self._actors, deadline):
            self._give_up()
        if not self._owns_carriers:
            return not self._actors
        has_ended = self._wait_until(lambda: not self.carriers.threads, deadline)
        self.carriers.dismiss_watchman()
        return has_ended

    def _wait_until(self, condition: Callable[[], bool], deadline: float | None) -> bool:
        with self._lock:
            timeout = None if deadline is None else max(0.0, deadline - _clock.elapsed())
            return self.carriers.changed.wait_for(condition, timeout)

    def _give_up(self) -> None:
        with self._lock:
            left = list(self._actors.items())
        for mailbox, actor in left:
            logger.warning("%s did not stop in time", actor)
            actor.actor_stopped.set()
            mailbox.close(None)


def _stop(actor: Runnable) -> None:
    """Send the poison pill; the actor may be dead by now."""
    actor.actor_ref.stop(block=False)
