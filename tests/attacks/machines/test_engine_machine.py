"""The engine as a whole against lists: signals, sleeps, rest, pauses, failures, lost code and deaths."""

# ruff: noqa: FBT001 - rules get what Hypothesis draws

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines.size import seeded, size
from persistasaurus import Flow, SupervisorRules, current_step, flow, signal, sleep, step
from persistasaurus.actors.testing.mortal import Death
from persistasaurus.actors.testing.schedule import Pace
from persistasaurus.actors.testing.simulation import Simulation
from persistasaurus.flows import events
from persistasaurus.flows.errors import FlowEnded, FlowParked

if TYPE_CHECKING:
    from persistasaurus import FlowSystem

WANTED = 3
NAP_S = 7.0
effects: Counter[str] = Counter()
broken: set[str] = set()
"""The flows whose next step fails."""


class Collector(Flow):
    """Takes three words, with a step and a nap after each."""

    @flow(name="collector")
    async def collect(self) -> list[int]:
        found: list[int] = []
        while len(found) < WANTED:
            found.append(await self.word())
            await self.note(found[-1])
            await sleep(NAP_S)
        return found

    @signal
    def word(self, number: int) -> int:
        return number

    @step
    def note(self, number: int) -> None:
        if current_step().flow_id in broken:
            raise ConnectionError("somebody has to mend it")
        effects[f"{current_step().flow_id}/{number}"] += 1


FLOWS = st.sampled_from("abc")


@seeded
class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        effects.clear()
        broken.clear()
        self.sent: dict[str, list[int]] = {}
        """By flow: the words that were acknowledged, in order."""
        self.paused: set[str] = set()
        self.deaths = 0

    @initialize(
        seed=st.integers(0, 1000), late=st.sampled_from([0.0, 0.3]), idle_s=st.sampled_from([0.5, 1000.0])
    )
    def begin(self, seed: int, late: float, idle_s: float) -> None:
        rules = SupervisorRules(idle_s=idle_s, max_idle=1)
        self.simulation = Simulation([Collector], seed=seed, pace=Pace(late, 0.01), rules=rules)

    def _has_ended(self, system: FlowSystem, flow_id: str) -> bool:
        return system.flow(flow_id).status == "completed"

    # -------------------------------------------------------------------------------------- clients
    @rule(flow_id=FLOWS)
    def start(self, flow_id: str) -> None:
        self.simulation.insist(lambda system: system.start(Collector.collect, flow_id=flow_id))
        self.sent.setdefault(flow_id, [])

    @precondition(lambda self: self.sent)
    @rule(flow_id=FLOWS, number=st.integers(0, 5), again=st.booleans())
    def send(self, flow_id: str, number: int, again: bool) -> None:
        if flow_id not in self.sent:
            return

        def sending(system: FlowSystem) -> bool:
            try:
                system.flow(flow_id).signal(Collector.word, number, signal_id=f"word-{number}")
            except FlowEnded:
                return False
            return True

        for _ in range(1 + again):
            is_taken = self.simulation.insist(sending)
            is_known = number in self.sent[flow_id]
            assert is_taken or not is_known, "what was acknowledged before is refused now"
            if is_taken and not is_known:
                self.sent[flow_id].append(number)

    @precondition(lambda self: self.sent)
    @rule(flow_id=FLOWS)
    def pause(self, flow_id: str) -> None:
        if flow_id not in self.sent:
            return

        def pausing(system: FlowSystem) -> bool:
            try:
                system.flow(flow_id).pause()
            except (FlowEnded, FlowParked):
                return False
            return True

        if self.simulation.insist(pausing):
            self.paused.add(flow_id)

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        for flow_id in sorted(self.paused):
            self.simulation.insist(lambda system, name=flow_id: system.flow(name).resume())
        self.paused.clear()

    @rule(flow_id=FLOWS)
    def mend(self, flow_id: str) -> None:
        """Let it run on, with all that it was sent before it failed."""
        broken.discard(flow_id)
        if flow_id in self.sent:
            self.simulation.insist(lambda system: self._retry(system, flow_id))

    def _retry(self, system: FlowSystem, flow_id: str) -> None:
        handle = system.flow(flow_id)
        if handle.status == "failed":
            handle.retry()

    # ------------------------------------------------------------------------------ what goes wrong
    @rule(flow_id=FLOWS)
    def break_down(self, flow_id: str) -> None:
        broken.add(flow_id)

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.0, 40.0]))
    def advance(self, seconds: float) -> None:
        self.simulation.advance(seconds)

    @rule()
    def die(self) -> None:
        self.deaths += 1
        self.simulation.crash()

    @rule(commits=st.integers(1, 3), durable=st.booleans())
    def die_at_a_commit(self, commits: int, durable: bool) -> None:
        self.deaths += 1
        self.simulation._deaths.append(Death(self.simulation.commits + commits, durable))

    @rule()
    def lose_the_code_for_a_while(self) -> None:
        self.simulation.crash()
        self.simulation.flows = []
        self.simulation.advance(1)
        self.simulation.crash()
        self.simulation.flows = [Collector]
        self.simulation.advance(1)

    @rule(flow_id=FLOWS)
    def ring_for_nothing(self, flow_id: str) -> None:
        self.simulation.insist(lambda system: system.client.wake(flow_id))

    @rule()
    def close_in_good_order(self) -> None:
        self.simulation.stop()

    # --------------------------------------------------------------------------------------- always
    @precondition(lambda self: hasattr(self, "simulation"))
    @invariant()
    def histories_are_right(self) -> None:
        for flow_id, sent in self.sent.items():
            history = self.simulation.insist(lambda system, name=flow_id: system.flow(name).events())
            received = [int(e.event.key[5:]) for e in history if isinstance(e.event, events.SignalReceived)]
            assert received == sent[: len(received)]
            due = {e.event.timer: e.event.due for e in history if isinstance(e.event, events.TimerSet)}
            fired = [(e.event.timer, e.at) for e in history if isinstance(e.event, events.TimerFired)]
            assert len({timer for timer, _ in fired}) == len(fired)
            assert all(at.timestamp() * 1e6 >= due[timer] - 1 for timer, at in fired), "it woke too early"
            completed = [e.event.step for e in history if isinstance(e.event, events.StepCompleted)]
            assert len(set(completed)) == len(completed)
            if flow_id in self.paused:
                status = self.simulation.insist(lambda system, name=flow_id: system.flow(name).status)
                assert status in ("paused", "parked"), status

    def teardown(self) -> None:
        if not hasattr(self, "simulation"):
            return
        simulation = self.simulation
        with simulation:
            simulation._deaths.clear()
            self.resume()
            for flow_id in [*self.sent] * 3:  # what fails meanwhile has begun to before
                self.mend(flow_id)
                simulation.advance(1)
            for flow_id in self.sent:
                for number in range(WANTED + 3):
                    self.send(flow_id, number, again=False)
                result = simulation.insist(lambda system, name=flow_id: system.flow(name).result(timeout=600))
                assert result == self.sent[flow_id][:WANTED]
                for number in result:
                    assert 1 <= effects[f"{flow_id}/{number}"] <= 1 + simulation.crashes
            assert simulation.insist(lambda system: system.store.verify()) == []


TestEngine = EngineMachine.TestCase
TestEngine.settings = size(30, 25)
