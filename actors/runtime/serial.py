"""Actors on one thread: the caller's, in an order of the caller's choosing, in virtual time.

    turns = Turns(choose=random.Random(seed).randrange, clock=clock)
    environment = Environment(clock=clock, alarms=ManualAlarms(clock), dispatcher=turns.dispatcher, ...)
    with turns:                                # futures waited for in here run the actors meanwhile
        ref = Greeter.start_on(environment.dispatcher("flows"))
        assert ref.ask("hello") == "hello"
        turns.run_until_idle()

The same choices give the same run. What can only be waited for in vain is found at once, and raised.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ...flows.errors import DeadlockError
from .futures import waiting
from .posts import Post

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Self

    from .futures import WaitStrategy
    from .posts import Inbox, Runnable
    from .primitives import Lock, ManualClock
    from .scheduler import DeadLetterCallback
    from .watchdog import Watchdog

__all__ = ["DeadlockError", "SerialDispatcher", "Turns"]

logger = logging.getLogger("persistasaurus")


def _first(_count: int) -> int:
    return 0


class Turns:
    """The actors that could run now, and who of them does.

    Args:
        choose: given how many could run, answers with the number of the one that does, from 0.
        clock: moved on to the next alarm when somebody waits and nobody can run.
        throughput: how many messages the chosen actor handles; 1 allows every interleaving.

    """

    def __init__(
        self,
        choose: Callable[[int], int] = _first,
        clock: ManualClock | None = None,
        *,
        throughput: int = 1,
    ) -> None:
        self.throughput = throughput
        self._choose = choose
        self._clock = clock
        self._runnable: list[Runnable] = []
        self._watchdog: Watchdog | None = None
        self._at_work = 0
        self._outer: list[WaitStrategy | None] = []

    def __enter__(self) -> Self:
        """From here on, whoever waits for a future on this thread runs actors meanwhile."""
        self._outer.append(waiting.by)
        waiting.by = self
        return self

    def __exit__(self, *_exc_info: object) -> None:
        waiting.by = self._outer.pop()

    def dispatcher(
        self,
        name: str,
        *,
        workers: int = 1,
        on_dead_letter: DeadLetterCallback | None = None,
        has_watchman: bool = False,
    ) -> SerialDispatcher:
        """Make a dispatcher whose actors take turns with those of all others."""
        del workers, has_watchman  # There is one thread, and while somebody waits on it, others have turns.
        return SerialDispatcher(name, self, on_dead_letter)

    def add(self, actor: Runnable) -> None:
        """Let an actor take part in what `choose` chooses from."""
        self._runnable.append(actor)

    def run_one(self) -> bool:
        """Let one actor run; False: there is none that could."""
        if not self._runnable:
            return False
        actor = self._runnable.pop(self._choose(len(self._runnable)))
        watchdog = self._watchdog
        if watchdog is None:
            actor._run_slice()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - hidden from proxies
            return True
        post = Post(self)
        post.work = actor
        watchdog.add(post)
        self._at_work += 1
        try:
            actor._run_slice()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        finally:
            self._at_work -= 1
            post.work = None
            watchdog.remove(post)
        return True

    def watch(self, watchdog: Watchdog) -> None:
        """Have a watchdog look after those who wait in their turn: only then does time go by in one."""
        self._watchdog = watchdog

    def relieve(self, post: Post) -> None:
        """Do nothing: others have their turns while somebody waits."""

    def lose(self, post: Post) -> None:
        """Do nothing: there is no thread to lose."""

    def run_until_idle(self, max_turns: int = 1_000_000) -> int:
        """Let actors run until nobody can; tell how many turns it took.

        Raises:
            DeadlockError: there is still no end to it after `max_turns`.

        """
        for turns in range(max_turns):
            if not self.run_one():
                return turns
        raise DeadlockError(f"Still busy after {max_turns} turns")

    def wait(self, wake: Lock, timeout: float) -> bool:
        """Let actors run, and time go by, until `wake` can be taken.

        Raises:
            DeadlockError: that will never be.

        """
        deadline = None if timeout < 0 or self._clock is None else self._clock.elapsed() + timeout
        if self._watchdog is not None and self._at_work:
            self._watchdog.wake()
        while not wake.acquire(blocking=False):
            if not self.run_one() and not self._pass_time(deadline):
                if timeout < 0:
                    raise DeadlockError("No actor can run and no alarm is set, but a caller waits")
                return False
        return True

    def blocking(self) -> AbstractContextManager[None]:
        """Do nothing: there is one thread."""
        return nullcontext()

    def _pass_time(self, deadline: float | None) -> bool:
        """Go on to the next alarm; False: there is none, or it comes too late."""
        if self._clock is None:
            return False
        instant = self._clock.next_instant()
        now = self._clock.elapsed()
        if deadline is not None and (instant is None or instant > deadline):
            self._clock.advance(max(0.0, deadline - now))
            return bool(self._runnable)
        if instant is None:
            return False
        self._clock.advance(max(0.0, instant - now))
        return True


class SerialDispatcher:
    """A dispatcher without threads. See `Turns`, which runs its actors."""

    def __init__(self, name: str, turns: Turns, on_dead_letter: DeadLetterCallback | None) -> None:
        self.name = name
        self.throughput = turns.throughput
        self.ready: Callable[[Any], None] = turns.add
        self._turns = turns
        self._on_dead_letter = on_dead_letter
        self._actors: dict[Inbox, Runnable] = {}

    @property
    def live_actors(self) -> int:
        """How many actors have been started and have not ended."""
        return len(self._actors)

    def beside(self, on_dead_letter: DeadLetterCallback | None = None) -> SerialDispatcher:
        """Make another one, which is closed apart."""
        return SerialDispatcher(self.name, self._turns, on_dead_letter)

    def runs_caller(self) -> bool:
        """Tell that the caller need not beware of waiting: others have their turns meanwhile."""
        return False

    def attach(self, mailbox: Inbox, actor: Runnable) -> None:
        """Take an actor in."""
        self._actors[mailbox] = actor

    def detach(self, mailbox: Inbox) -> None:
        """Forget an actor that has come to its end."""
        self._actors.pop(mailbox, None)

    def watch(self, watchdog: Watchdog) -> None:
        """Have a watchdog look after all who take turns."""
        self._turns.watch(watchdog)

    def start_workers(self) -> None:
        """Do nothing: whoever runs the turns is there."""

    def dead_letter(self, recipient: str, message: Any) -> None:
        """Report a message that nobody will ever handle."""
        if self._on_dead_letter is not None:
            self._on_dead_letter(recipient, message)
        else:
            logger.info("Dead letter for %s: %s", recipient, type(message).__name__)

    def close(self, timeout: float | None = None) -> bool:
        """Stop all actors, latest first, and run until nobody can; tell whether they ended."""
        del timeout  # Nothing takes time here.
        for actor in reversed(list(self._actors.values())):
            actor.actor_ref.stop(block=False)
        self._turns.run_until_idle()
        return not self._actors
