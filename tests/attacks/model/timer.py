"""A flow sleeps. Alarms may go off early, and processes die; it shall wake in time, and once.

The regular look for what is due is left out: it would only find a lost timer late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from model.explorer import Guard, Model
from persistasaurus.actors.flows.flow_actor import FlowActor
from persistasaurus.actors.system import FlowSystem
from persistasaurus.flows.machine.machine import FlowMachine
from persistasaurus.flows.machine.pending import Timer as FlowTimer

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = 2
TIME = 6
CRASHES = 2


class State(NamedTuple):
    now: int = 0
    is_set: bool = False
    """The log has the timer."""
    wake_at: int | None = None
    """What the header says."""
    has_fired: bool = False
    went_on: int = 0
    is_up: bool = True
    due: int | None = None
    """What the flow's machine believes."""
    alarm: int | None = None
    is_woken: bool = False
    crashes: int = 0
    is_saving: bool = False
    owes_record: bool = False
    fault: str = ""


class Timer(Model):
    guards: ClassVar[dict[str, Guard]] = {
        "own look": Guard(
            "a flow looks at the clock itself", FlowMachine._tick, "timer.due.has_come(moment)"
        ),
        "arm again": Guard("who was woken too early is armed again", FlowActor._look, "self._armed = None"),
        "boot": Guard("a start looks for what is due", FlowSystem._run, "self._timers.tell(LoadDue())"),
        "one transaction": Guard(
            "the header says it with the record",
            FlowActor._go_on,
            "self._records(decision.events, machine),\n            change,",
        ),
        "absolute": Guard("the log has the instant", FlowTimer.confirm, "Due(event.due"),
        "record first": Guard(
            "what follows waits for the record",
            FlowActor._go_on,
            "self.write(append, self._act, decision)",
        ),
    }

    def initial(self) -> State:
        return State()

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        if state.is_set and state.now < TIME:
            yield "time goes by", state._replace(now=state.now + 1)
        if not state.is_up:
            yield "a process starts", self._booted(state)
            return
        if not state.is_set:
            yield "the flow goes to sleep", self._set(state)
        if state.is_saving:
            yield "the header follows", state._replace(wake_at=LENGTH, is_saving=False)
        if state.alarm is not None and state.now >= state.alarm - 1:
            yield "the alarm goes off", state._replace(alarm=None, is_woken=True)
        if state.is_woken and not state.is_saving:
            yield "the flow looks at the clock", self._look(state)
        if state.owes_record:
            yield "that it woke is recorded", state._replace(has_fired=True, wake_at=None, owes_record=False)
        if state.has_fired and not state.went_on:
            yield "the flow goes on", state._replace(went_on=1)
        if state.crashes < CRASHES:
            dead = state._replace(
                is_up=False, due=None, alarm=None, is_woken=False, crashes=state.crashes + 1
            )
            yield "the process is killed", dead._replace(is_saving=False, owes_record=False)

    def _set(self, state: State) -> State:
        asleep = state._replace(is_set=True, due=LENGTH, alarm=LENGTH)
        if self._has["one transaction"]:
            return asleep._replace(wake_at=LENGTH)
        return asleep._replace(is_saving=True)

    def _booted(self, state: State) -> State:
        up = state._replace(is_up=True)
        if state.has_fired or not state.is_set or state.wake_at is None or not self._has["boot"]:
            return up
        due = LENGTH if self._has["absolute"] else state.now + LENGTH
        return up._replace(alarm=state.wake_at, due=due)

    def _look(self, state: State) -> State:
        looked = state._replace(is_woken=False)
        if state.has_fired or state.due is None:
            return looked
        if state.now < state.due and self._has["own look"]:
            return looked._replace(alarm=state.due) if self._has["arm again"] else looked
        if self._has["record first"]:
            return looked._replace(has_fired=True, wake_at=None)
        fault = "it woke twice" if state.went_on else ""
        return looked._replace(went_on=state.went_on + 1, due=None, owes_record=True, fault=fault)

    def wrong(self, state: State) -> str | None:
        if state.fault:
            return state.fault
        if (state.has_fired or state.went_on) and state.now < LENGTH:
            return "it woke too early"
        if state.due is not None and state.due > LENGTH:
            return "it sleeps longer than it was to"
        return None

    def is_done(self, state: State) -> bool:
        return bool(state.went_on and state.has_fired)
