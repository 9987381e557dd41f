"""The schedule of a simulated process: whose turn it is, and when. After death there are no turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..runtime.serial import Turns

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from ..runtime.primitives import AlarmService, ManualClock

__all__ = ["Pace", "ProcessDied", "Schedule"]


class ProcessDied(BaseException):
    """The simulated process has died during a call.

    It is not an `Exception`, so that code under test does not take it for an error of its own.
    """


class Pace(NamedTuple):
    """How turns are spread over virtual time.

    A share of `late` of all turns comes up to `by_s` seconds late. Without that, time passes only when
    nothing has anything to do, and a race against a timer is always won.
    """

    late: float = 0.0
    by_s: float = 0.0


PROMPT = Pace()
_HURRY = 0.05


class Schedule(Turns):
    """The turns of one simulated process, in an order that the seed decides.

    `note` receives each choice, so that two runs can be compared. `before_turn` may call `die`.
    """

    def __init__(
        self,
        rng: Random,
        clock: ManualClock,
        alarms: AlarmService,
        pace: Pace = PROMPT,
        note: Callable[[bytes], Any] = len,
    ) -> None:
        super().__init__(rng.randrange, clock, throughput=1)
        self._rng = rng
        self.time = clock
        self._alarms = alarms
        self._pace = pace
        self._note = note
        self.is_dead = False
        self.turns = 0
        self.before_turn: Callable[[], None] | None = None

    def add(self, actor: Any) -> None:
        """Let an actor take a turn, now or a little later."""
        if self.is_dead:
            return
        if self._pace.late and self._rng.random() < self._pace.late:
            at = self.time.elapsed() + self._rng.random() * self._pace.by_s
            self._alarms.call_at(at, lambda: super(Schedule, self).add(actor))
        else:
            super().add(actor)

    def run_one(self) -> bool:
        """Run one turn; False: there is none to run.

        Raises:
            ProcessDied: the process has died, before the turn or in it.
        """
        if self.is_dead:
            raise ProcessDied
        if self._pace.late and self._rng.random() < _HURRY:
            self._pass_a_little()
        if self.before_turn is not None and self._runnable:
            self.before_turn()
            self.look_alive()
        ran = super().run_one()
        self.look_alive()
        if ran:
            self.turns += 1
            self._note(b"%d %d;" % (len(self._runnable), round(self.time.elapsed() * 1000)))
        return ran

    def look_alive(self) -> None:
        """Check that the process lives. Raises ProcessDied: it has died."""
        if self.is_dead:
            raise ProcessDied

    def _pass_a_little(self) -> None:
        """Advance to the next alarm while others still have something to do."""
        instant = self.time.next_instant()
        wait = 0.0 if instant is None else instant - self.time.elapsed()
        if instant is not None and wait <= self._pace.by_s:
            self.time.advance(max(0.0, wait))

    def die(self) -> None:
        """End all turns."""
        self.is_dead = True
        self._runnable.clear()
