"""Posts: what each thread of the engine works on, for others to see, and what they may ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .primitives import current_thread_id

if TYPE_CHECKING:
    from types import FrameType

    from .stacks import Held

__all__ = ["Inbox", "Post", "Runnable", "Task", "WorkerHost"]


class Inbox(Protocol):
    """What whoever runs an actor needs of its mailbox."""

    @property
    def budget(self) -> int:
        """How many messages it may still take in this slice: it goes down with each that is."""
        ...

    def close(self, cause: BaseException | None) -> None:
        """Refuse what is queued and what comes later. Harmless when repeated, or from another thread."""
        ...

    def detach(self) -> None:
        """Let go of the actor."""
        ...


class Task(Protocol):
    """Something that runs in its turn: an actor, or a step that is short."""

    @property
    def may_block(self) -> bool:
        """Whether it may hold its thread for as long as it likes."""
        ...

    def described(self) -> str:
        """Say, for messages to people, who this is and what it is at."""
        ...

    def _run_slice(self) -> None:
        """Run on the calling thread, until its slice is over. Raises nothing."""
        ...

    def _run_failed(self) -> None:
        """Give up, since it has raised something all the same."""
        ...


class Runnable(Task, Protocol):
    """What whoever runs an actor needs of it."""

    @property
    def actor_urn(self) -> str:
        """What tells it from all other actors."""
        ...

    @property
    def actor_inbox(self) -> Inbox:
        """Where its messages wait."""
        ...

    @property
    def actor_stopped(self) -> Any:
        """Set when it takes no more messages."""
        ...

    @property
    def actor_ref(self) -> Any:
        """Its reference, to stop it by."""
        ...


class WorkerHost(Protocol):
    """Whoever has the threads."""

    def relieve(self, post: Post) -> None:
        """See to it that another thread does the work meanwhile, until this one is through."""
        ...

    def lose(self, post: Post) -> None:
        """Count on this thread no longer: it ends when it is through."""
        ...


class Post:
    """Where a thread says what it works on. The thread alone writes `work` and `turn`, and takes no lock."""

    __slots__ = (
        "anchor",
        "blamed_s",
        "held",
        "held_since",
        "host",
        "is_given_up",
        "is_lost",
        "is_relieved",
        "is_waiting",
        "looks",
        "progress",
        "reported_at_s",
        "same_s",
        "seen_turn",
        "thread",
        "turn",
        "work",
    )

    def __init__(self, host: WorkerHost) -> None:
        self.host = host
        self.thread = current_thread_id()
        self.work: Task | None = None
        self.turn = 0
        self.is_waiting = False
        """It waits in a way that its host knows of."""
        self.is_relieved = False
        """Another thread has its place, until its turn is over."""
        self.is_lost = False
        self.seen_turn = self.looks = 0
        """Which turn the watchman has seen last, and how often, weighted."""
        self.begin((0, 0))

    def begin(self, progress: tuple[int, int]) -> None:
        """Begin to watch a piece of work."""
        self.progress = progress
        self.same_s = self.blamed_s = self.reported_at_s = 0.0
        self.anchor: FrameType | None = None
        self.held: Held | None = None
        """Where it is held, when that has been reported; and since when, in microseconds since the epoch."""
        self.held_since = 0
        self.is_given_up = False
