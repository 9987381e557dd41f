# ruff: noqa: FBT001 - rules get what Hypothesis draws
"""Timers against a list of who wants to be woken when: none is lost, and none waits longer than it should."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from machines.passing import pass_time
from machines.size import seeded, size
from persistasaurus.actors.flows import timers
from persistasaurus.actors.flows.clock import JumpAwareClock
from persistasaurus.actors.flows.loader import Loader
from persistasaurus.actors.flows.timers import Arm, LoadDue, Timers
from persistasaurus.actors.runtime.alarms import ManualAlarms
from persistasaurus.actors.runtime.environment import Environment
from persistasaurus.actors.runtime.primitives import MICROSECONDS, ManualClock
from persistasaurus.actors.runtime.serial import Turns
from persistasaurus.store import Append, Durability, HeaderChange, NewRecord, SqliteStore, StreamState

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.store import Outcome

FLOWS = st.sampled_from("abcde")


@seeded
class TimersMachine(RuleBasedStateMachine):
    horizon_s = 30.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.store = SqliteStore.open(
            ":memory:", now=self.clock.now, durability=Durability.MAY_LOSE_LAST_COMMITS
        )
        self.due: dict[str, tuple[int, float, float]] = {}
        """By flow: the instant on the calendar, on the clock that cannot jump, and how late it may be."""
        self.versions: dict[str, int] = {}
        self.jumps = 0
        self._boot()

    @property
    def lost_alarm_s(self) -> float:
        """Tell how late may be who was not armed for: until the next look into the store."""
        return self.horizon_s / 2 + 0.5

    def _boot(self) -> None:
        self.alarms = ManualAlarms(self.clock)
        self.turns = Turns(clock=self.clock)
        environment = Environment(clock=self.clock, alarms=self.alarms, dispatcher=self.turns.dispatcher)
        self.jump_aware = JumpAwareClock(self.clock)
        dispatcher = environment.dispatcher("control")
        loader = Loader.start_on(dispatcher, self.store)
        self.rooms: list[Callable[[], None]] = []
        self.timers = Timers.start_on(
            dispatcher,
            loader,
            environment,
            self.jump_aware,
            self._wake,
            self.horizon_s,
            when_room=self.rooms.append,
        )
        self.timers.tell(LoadDue())
        self._settle()

    def _settle(self) -> None:
        self.turns.run_until_idle()
        while self.rooms:
            self.rooms.pop(0)()
            self.turns.run_until_idle()

    def teardown(self) -> None:
        self._advance(3000)
        assert not self.due, "somebody sleeps for ever"
        self.alarms.close()
        self.store.close()

    def _wake(self, flow_id: str) -> None:
        """Do as a flow does: look at the clock, record that the time has come, or have itself armed again."""
        if flow_id not in self.due:
            return
        _, elapsed, late = self.due[flow_id]
        if self.clock.elapsed() >= elapsed - 1e-6:
            assert self.clock.elapsed() <= elapsed + late, f"{flow_id} was woken too late"
            del self.due[flow_id]
            self._write(flow_id, None)
        else:
            self.timers.tell(Arm(flow_id, elapsed))

    def _write(self, flow_id: str, wake_at: int | None) -> None:
        version = self.versions.get(flow_id, 0)
        record = (NewRecord(self.clock.now(), "slept", b"{}"),)
        header = HeaderChange("waiting", StreamState.OPEN, wake_at)
        outcome: Outcome
        (outcome,) = self.store.commit([Append(flow_id, version, record, header, None if version else "nap")])
        assert not isinstance(outcome, Exception), outcome
        self.versions[flow_id] = version + 1

    @rule(flow_id=FLOWS, seconds=st.floats(0, 600), is_armed=st.booleans())
    def sleep(self, flow_id: str, seconds: float, is_armed: bool) -> None:
        moment = self.jump_aware.now()
        wake_at = moment.wall + int(seconds * MICROSECONDS)
        elapsed = moment.elapsed + seconds
        self._write(flow_id, wake_at)
        # Without its message there is only the store to know it from, by the calendar as it is then.
        forgotten = self.lost_alarm_s if not moment.jumps else math.inf
        self.due[flow_id] = wake_at, elapsed, 0.5 if is_armed else forgotten
        if is_armed:
            self.timers.tell(Arm(flow_id, elapsed))
        self._settle()

    @rule(flow_id=FLOWS)
    def wake_by_something_else(self, flow_id: str) -> None:
        if self.due.pop(flow_id, None) is not None:
            self._write(flow_id, None)
            self._settle()

    @rule(seconds=st.sampled_from([0.001, 1.0, 14.9, 31.0, 300.0]))
    def advance(self, seconds: float) -> None:
        self._advance(seconds)

    def _advance(self, seconds: float) -> None:
        pass_time(self.clock, seconds, self._settle)

    @precondition(lambda self: self.jumps < 2)
    @rule(seconds=st.sampled_from([-600.0, -90.0, -5.0, 5.0, 90.0, 600.0]))
    def jump(self, seconds: float) -> None:
        self.jumps += 1
        self.clock.jump_wall(seconds)
        self.jump_aware.now()
        # Whoever is armed stays so; the others are found by one calendar or the other.
        self.due = {
            name: (wall, elapsed, late if late < 1 else math.inf)
            for name, (wall, elapsed, late) in self.due.items()
        }

    @rule()
    def die(self) -> None:
        self.alarms.close()
        # The next process has the calendar as it is now, and nothing else.
        moment = self.clock.now(), self.clock.elapsed()
        self.due = {
            name: (wall, max(moment[1], moment[1] + (wall - moment[0]) / MICROSECONDS), self.lost_alarm_s)
            for name, (wall, _, _) in self.due.items()
        }
        self._boot()

    @invariant()
    def nobody_sleeps_too_long(self) -> None:
        now = self.clock.elapsed()
        late = {name: now - elapsed for name, (_, elapsed, may) in self.due.items() if now > elapsed + may}
        assert not late, f"still asleep, so many seconds too long: {late}"


class CrowdedTimersMachine(TimersMachine):
    """Has more timers than fit into memory, and more of them due than are woken at a time."""

    horizon_s = 1000.0

    def __init__(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(timers, "_KNOWN_MAX", 2)
        self.patch.setattr(timers, "_PAGE", 2)
        super().__init__()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.patch.undo()


TestTimers = TimersMachine.TestCase
TestCrowdedTimers = CrowdedTimersMachine.TestCase
TestCrowdedTimers.settings = size(25, 30)
TestTimers.settings = size(25, 30)
