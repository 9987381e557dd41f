"""The watchdog: finds out whose code holds a thread of the engine, and where in the source.

Bodies, queries and listeners run on a few threads that all flows share. One that blocks, or computes
without end, takes such a thread away. The watchdog sees to it that another takes its place, if the watchman
has not, says in the log after a second which line it is, and at last gives the work up: then whoever is told
sees to the flow.

    watchdog = Watchdog(clock, alarms, WatchdogRules(), on_held)
    dispatcher.watch(watchdog)

Nobody tells it when work begins and ends: a thread only leaves at its post what it works on, and calls the
watchdog when it sleeps. It sleeps while nobody works, so that an idle system is never woken by it.

What counts is one call into somebody's code that does not return. A long replay makes many calls, a thread
that gets no processor is found in the engine's own code now and then, and neither is held against anybody.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .primitives import MICROSECONDS, Lock
from .stacks import held_at, is_debugged, split, stack_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from .posts import Post, Runnable, Task
    from .primitives import AlarmService, Clock
    from .stacks import Held

__all__ = ["AGAIN", "LATE_S", "LOOK_S", "Watchdog", "WatchdogRules"]

logger = logging.getLogger("persistasaurus")

LOOK_S = 0.25
LATE_S = 1.5 * LOOK_S
"""A look that comes later was kept from it by what may also have kept the work: nobody is to blame."""
AGAIN = 10.0
"""What is reported once is reported again when it has lasted that many times as long."""


class WatchdogRules(NamedTuple):
    """When something is done about code that holds a thread. Seconds."""

    report_s: float = 1.0
    give_up_s: float = 5.0


class Watchdog:
    """Looks at its posts a few times a second, as long as there is work at any of them.

    `on_held` is told, on the thread of the alarms, of work that is to be given up; it answers whether it is.
    """

    def __init__(
        self,
        clock: Clock,
        alarms: AlarmService,
        rules: WatchdogRules,
        on_held: Callable[[Task, Held], bool],
    ) -> None:
        self._clock = clock
        self._alarms = alarms
        self._rules = rules
        self._on_held = on_held
        self.on_report: Callable[[], None] = lambda: None
        """Called when something has been reported, on the thread of the alarms."""
        self._posts: dict[Post, None] = {}
        self._awake = Lock()
        self._looked_at = 0.0
        self._is_closed = False
        self.is_asleep = True

    @property
    def lost(self) -> int:
        """How many threads do work that was given up."""
        return sum(post.is_lost for post in list(self._posts))

    def blocking(self) -> list[tuple[Task, Held, int]]:
        """Tell what work was reported, and still goes on: where, and since when."""
        found = [(post.work, post.held, post.held_since) for post in list(self._posts) if not post.is_lost]
        return [(work, held, since) for work, held, since in found if work is not None and held is not None]

    def add(self, post: Post) -> None:
        """Watch a post from now on."""
        self._posts[post] = None

    def remove(self, post: Post) -> None:
        """Watch it no longer."""
        self._posts.pop(post, None)

    def wake(self) -> None:
        """Look from now on, until there is no work. To be called when there is some, and it `is_asleep`."""
        if not self._is_closed and self._awake.acquire(False):
            self.is_asleep = False
            self._looked_at = self._clock.elapsed()
            try:
                self._look_later()
            except RuntimeError:  # no thread to be had, and so none for alarms; there may be one later
                self.is_asleep = True
                self._awake.release()

    def close(self) -> None:
        """Look no more."""
        self._is_closed = True

    def _look_later(self) -> None:
        self._alarms.call_at(self._looked_at + LOOK_S, self._look)

    def _look(self) -> None:
        now = self._clock.elapsed()
        passed = now - self._looked_at
        self._looked_at = now
        posts = list(self._posts)
        held = [post for post in posts if _is_held(post)]
        for post in held:
            self._look_at(post, passed)
        if any(post.work is not None for post in posts) and not self._is_closed:
            self._look_later()
            return
        self.is_asleep = True
        self._awake.release()
        # Whoever began meanwhile may have taken it to be awake.
        if any(post.work is not None for post in list(self._posts)):
            self.wake()

    def _look_at(self, post: Post, passed: float) -> None:
        work = post.work
        found = None if work is None else _caller(post.thread, work)
        if work is not None and found is not None:
            self._judge(post, work, *found, passed)
        else:
            post.anchor = None
        post.host.relieve(post)

    def _judge(
        self, post: Post, work: Task, anchor: FrameType, inward: list[FrameType], passed: float
    ) -> None:
        """Report, or give up, work that one call has held for long."""
        if anchor is not post.anchor:
            post.anchor = anchor
            post.same_s = post.blamed_s = LOOK_S
        else:
            post.same_s += min(passed, 2 * LOOK_S)
            post.blamed_s += passed if passed <= LATE_S else 0.0
        first = self._rules.report_s
        due = max(first, post.reported_at_s) * AGAIN if post.reported_at_s else first
        if post.same_s >= due:
            post.reported_at_s = post.same_s
            post.held_since = self._clock.now() - int(post.same_s * MICROSECONDS)
            post.held = held_at(inward)
            _report(work, post.held, post.same_s)
            self.on_report()
        is_due = post.blamed_s >= self._rules.give_up_s and not post.is_given_up
        if is_due and not is_debugged(inward):
            post.is_given_up = True
            if self._on_held(work, held_at(inward)):
                post.host.lose(post)


def _is_held(post: Post) -> bool:
    """Tell whether a post is where it was at the last look."""
    work = post.work
    if work is None or work.may_block or post.is_waiting or post.is_lost:
        post.begin((post.turn, 0))
        return False
    progress = (post.turn, cast("Runnable", work).actor_inbox.budget)
    if progress != post.progress:
        post.begin(progress)
        return False
    return True


def _report(work: Task, held: Held, seconds: float) -> None:
    logger.warning(
        "%s has held a thread of the engine for %.1f s, at %s in %s(). All others continue without it."
        " Move code that takes time, or waits, into a step.\n%s",
        work.described(),
        seconds,
        held.line,
        held.function,
        held.stack,
    )


_slice: CodeType | None = None


def watches(run_slice: Any) -> Any:
    """Name the function under whose frame, with the actor as `self`, all work of an actor is done."""
    global _slice  # noqa: PLW0603 - told once, by the module that cannot be imported from here
    _slice = run_slice.__code__
    return run_slice


def _caller(thread: int, work: Task) -> tuple[FrameType, list[FrameType]] | None:
    """Return the frame of ours that has called somebody's code, and the frames from there inward."""
    frames = stack_of(thread)
    for number, frame in enumerate(frames):
        if frame.f_code is _slice and frame.f_locals.get("self") is work:
            ours, inward = split(frames[number:])
            return (ours[-1], inward) if inward else None
    return None
