"""Stores in a process that forks.

What is open belongs to the parent: a child drops the locks, and neither uses nor closes the rest. It can open
a store of its own, even if the parent was busy. For that, no thread may be within SQLite during the fork: a
mutex that it holds there would stay locked in the child for ever. So a fork waits until all threads have come
out, which takes no longer than a commit.
"""

from __future__ import annotations

import logging
import os
import weakref
from threading import Condition, Lock, RLock, get_ident
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from ..progress import Progress

logger = logging.getLogger("persistasaurus")

_PATIENCE_S: Final = 5.0
"""How long a fork waits at most."""


class Turnstile:
    """Counts the threads within SQLite, and lets none in while the process forks.

    Use it by `with`, reentrantly. A long stay comes out for a moment now and then, by `rest`.
    """

    def __init__(self) -> None:
        self._depths: dict[int, int] = {}
        self._set_up()

    def _set_up(self) -> None:
        self._changed = Condition(Lock())
        self._one_fork = RLock()
        self._forker: int | None = None

    def __enter__(self) -> None:
        me, depths = get_ident(), self._depths
        # Enter first, then look: a fork that begins in between waits.
        depths[me] = depths.get(me, 0) + 1
        if self._forker is not None and depths[me] == 1:
            self._step_aside(me)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        me, depths = get_ident(), self._depths
        depth = depths.get(me, 1) - 1
        if depth:
            depths[me] = depth
            return
        depths.pop(me, None)
        if self._forker is not None:
            with self._changed:
                self._changed.notify_all()

    def rest(self) -> None:
        """Let a waiting fork come first. Nothing of SQLite's may be locked."""
        me = get_ident()
        if self._forker is not None and me in self._depths:
            self._step_aside(me)

    def _step_aside(self, me: int) -> None:
        with self._changed:
            while self._forker not in (None, me):
                depth = self._depths.pop(me)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._forker in (None, me))
                self._depths[me] = depth

    def before_fork(self) -> None:
        """Wait until no other thread is within, and let none in."""
        self._one_fork.acquire()
        me = get_ident()
        with self._changed:
            self._forker = me
            is_empty = self._changed.wait_for(lambda: not self._depths.keys() - {me}, _PATIENCE_S)
        if not is_empty:
            logger.warning(
                "The process forks while a store is being used: the child may hang when it opens one"
            )

    def after_fork_in_parent(self) -> None:
        with self._changed:
            self._forker = None
            self._changed.notify_all()
        self._one_fork.release()

    def after_fork_in_child(self) -> None:
        self._depths = {me: depth for me, depth in self._depths.items() if me == get_ident()}
        self._set_up()


in_sqlite: Final = Turnstile()


def resting(on_progress: Progress) -> Progress:
    """Let forks come first whenever progress is reported."""

    def report(done: int, total: int) -> None:
        in_sqlite.rest()
        on_progress(done, total)

    return report


class Mortal(Protocol):
    """Something that must not live on in a forked child."""

    def die_after_fork(self) -> None:
        """Become unusable without touching what is shared with the parent."""
        ...


_mortals: weakref.WeakSet[Mortal] = weakref.WeakSet()


def dies_after_fork(mortal: Mortal) -> None:
    """Call `mortal.die_after_fork` in each forked child from now on."""
    _mortals.add(mortal)


# A forked child keeps what it inherits to its end: freeing it could wait for a lock of the parent's.
_graves: list[object] = []


def bury(*inherited: object) -> None:
    """Keep what a forked child has inherited, and must not touch any more."""
    _graves.extend(inherited)


def _begin_anew() -> None:
    in_sqlite.after_fork_in_child()
    for mortal in list(_mortals):
        mortal.die_after_fork()


os.register_at_fork(
    before=in_sqlite.before_fork, after_in_parent=in_sqlite.after_fork_in_parent, after_in_child=_begin_anew
)
