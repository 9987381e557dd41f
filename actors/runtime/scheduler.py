"""The scheduler: what an actor needs of whatever runs it, threads or the turns of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from .posts import Inbox, Runnable
    from .watchdog import Watchdog

__all__ = ["DeadLetterCallback", "DispatcherFactory", "Scheduler"]

DeadLetterCallback: TypeAlias = Callable[[str, Any], None]
"""Told the name of the dead actor and the message, in whichever thread finds out."""


class Scheduler(Protocol):
    """What an actor needs of whatever runs it."""

    @property
    def throughput(self) -> int:
        """How many messages an actor may handle before others have their turn."""
        ...

    @property
    def live_actors(self) -> int:
        """How many actors have been started and have not ended."""
        ...

    @property
    def ready(self) -> Callable[[Any], None]:
        """Have the given actor run, soon."""
        ...

    def beside(self, on_dead_letter: DeadLetterCallback | None = None) -> Scheduler:
        """Return a scheduler for other actors on the same threads, which is closed apart, and before."""
        ...

    def runs_caller(self) -> bool:
        """Tell whether the caller is run by this, and must not wait for it to end."""
        ...

    def attach(self, mailbox: Inbox, actor: Runnable) -> None:
        """Take an actor in, before it is `ready` for the first time."""
        ...

    def detach(self, mailbox: Inbox) -> None:
        """Forget an actor that has come to its end."""
        ...

    def dead_letter(self, recipient: str, message: Any) -> None:
        """Report a message that nobody will ever handle."""
        ...

    def watch(self, watchdog: Watchdog) -> None:
        """Have a watchdog look after the actors; before there are any."""
        ...

    def start_workers(self) -> None:
        """Start now what runs actors, rather than with the first of them.

        Raises:
            RuntimeError: the machine grants no thread.

        """
        ...

    def close(self, timeout: float | None = None) -> bool:
        """Stop all actors; tell whether they ended within `timeout` seconds."""
        ...


class DispatcherFactory(Protocol):
    """Makes the dispatchers that all actors run on."""

    def __call__(
        self,
        name: str,
        *,
        workers: int = 2,
        on_dead_letter: DeadLetterCallback | None = None,
        has_watchman: bool = False,
    ) -> Scheduler:
        """Make a dispatcher. With a watchman, another thread takes over from a stuck one in milliseconds."""
        ...
