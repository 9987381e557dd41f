"""The watchman: sees within milliseconds that a carrier is stuck, and has another one take over.

One carrier runs everything, so whatever holds it holds up all others: a step that waits for a lock, a body
that computes, a slow disk. What such code waits for may need a carrier to come about. So this is what keeps
the engine alive, and not a matter of speed.

A carrier counts its turns. The watchman looks every two milliseconds while one is at work, and relieves it
when it sees the same turn again: after one look when the process uses no processor, since it waits for
something outside then; after some more when the process is busy, since it may only wait for the GIL. Little
is lost when a carrier is relieved without need: two are awake for the rest of its turn.

Nobody reports when work begins: a carrier that takes some wakes the watchman if it sleeps. It sleeps soon
after the last turn, and while all who work have been relieved.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Protocol

from .primitives import Lock, Thread, start_thread

if TYPE_CHECKING:
    from .posts import Post

__all__ = ["Watchman"]

LOOK_S = 0.002
# So many looks must see the same turn: at one while nothing runs in the process, each counts for as many.
_LOOKS_BUSY = 5
# Below this share of one processor, it is not the GIL that a carrier waits for.
_IDLE_SHARE = 0.5
# So many looks at nothing, and the watchman sleeps: one who must be woken costs more than one who looks.
_QUIET_LOOKS = 10
# A thread that the machine has refused is asked for again, but not 500 times a second.
_SHORTAGE_S = 0.05


class Watched(Protocol):
    """Whoever has the carriers."""

    @property
    def lacks_threads(self) -> bool:
        """Whether the machine has refused a thread, and none was to be had since."""
        ...

    def ask_again(self) -> None:
        """Ask for the threads that were refused."""
        ...


class Watchman:
    """Looks after the carriers of one host, on a thread of its own."""

    def __init__(self, host: Watched, name: str) -> None:
        self._host = host
        self._name = name
        self._posts: dict[Post, None] = {}
        self._thread: Thread | None = None
        self._bell = Lock()
        self._bell.acquire()
        self._is_closed = False
        self.is_asleep = True

    def start(self) -> None:
        """Start the thread, unless there is one.

        Raises:
            RuntimeError: the machine grants none.
        """
        if self._thread is None and not self._is_closed:
            self._thread = start_thread(self._keep_watch, self._name, daemon=True)

    def add(self, post: Post) -> None:
        """Look after a carrier from now on."""
        self._posts[post] = None

    def remove(self, post: Post) -> None:
        """Look after it no longer."""
        self._posts.pop(post, None)

    def wake(self) -> None:
        """Look from now on, while anybody works. To be called by those who do, when this `is_asleep`."""
        self.is_asleep = False
        try:
            self._bell.release()
        except RuntimeError:
            return  # another one has rung it

    def close(self) -> None:
        """Look no more, and end the thread."""
        self._is_closed = True
        self.wake()
        if self._thread is not None:
            self._thread.join()

    def _keep_watch(self) -> None:
        while True:
            self._bell.acquire()
            self._watch_until_quiet()
            if self._is_closed:
                return
            self.is_asleep = True
            # Whoever began meanwhile may have taken this to be awake.
            if any(_is_stuck(post) for post in list(self._posts)):
                self.wake()

    def _watch_until_quiet(self) -> None:
        quiet = 0
        while quiet < _QUIET_LOOKS and not self._is_closed:
            used, is_short = _used_s(), self._host.lacks_threads
            # Nobody rings while this is awake, but whoever closes it.
            self._bell.acquire(timeout=_SHORTAGE_S if is_short else LOOK_S)
            if is_short:
                self._host.ask_again()
            is_busy = _used_s() - used > _IDLE_SHARE * LOOK_S
            quiet = 0 if self._look(1 if is_busy else _LOOKS_BUSY) or is_short else quiet + 1

    def _look(self, weight: int) -> bool:
        """Relieve those who are stuck; tell whether there was anything to see."""
        found = False
        for post in list(self._posts):
            if post.turn != post.seen_turn:
                post.seen_turn, post.looks = post.turn, 0
                found = True
            elif _is_stuck(post):
                post.looks += weight
                found = True
                if post.looks >= _LOOKS_BUSY:
                    post.host.relieve(post)
        return found


def _is_stuck(post: Post) -> bool:
    """Tell whether a carrier is at work, and no other has its place."""
    return post.work is not None and not post.is_relieved and not post.is_lost


def _used_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
