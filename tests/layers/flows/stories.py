# ruff: noqa: BLE001 - builders, of values and errors of any type
"""A story of one flow: its machine, its log, and a world that does what the machine decides, by hand."""

from datetime import timedelta

import msgspec
from persistasaurus.flows import FlowMachine, Limits, events
from persistasaurus.flows.machine.effects import Reconcile, RunAlone, RunStep, Warn
from persistasaurus.flows.machine.failure import failure_of
from persistasaurus.flows.machine.history import Recorded
from persistasaurus.flows.machine.in_doubt import Evidence
from persistasaurus.flows.machine.messages import (
    MayRunAlone,
    Reconciled,
    ReconcileFailed,
    SignalArrived,
    StartRequested,
    StepErrored,
    StepSucceeded,
    Tick,
    Timestamp,
)

SECOND = 1_000_000
EPOCH = 1_700_000_000 * SECOND


class Story:
    """Drives a machine. Every event goes through its bytes, as it does in a store."""

    def __init__(self, definition, *args, limits=None, flow_id="ada", **kwargs) -> None:
        self.definition = definition
        self.limits = limits or Limits()
        self.flow_id = flow_id
        self.wall, self.elapsed = EPOCH, 100.0
        self.log = []
        self.commits = []  # the length of the log after each decision
        self.runs = {}  # steps that are to run
        self.turns, self.reconciles, self.warnings, self.rejected = [], {}, [], []
        self.entry = 0
        self.call = definition(*args, **kwargs)
        self.machine = self.new_machine()

    evidence = Evidence()
    """What is known of the end of the process before."""

    def new_machine(self):
        machine = FlowMachine(self.flow_id, self.definition, self.limits)
        machine.evidence = self.evidence
        return machine

    @property
    def moment(self):
        return Timestamp(self.wall, self.elapsed)

    @property
    def status(self):
        return self.machine.status

    @property
    def kinds(self):
        return [events.kind(r.event) for r in self.log]

    @property
    def result(self):
        return msgspec.json.decode(bytes(self.machine.ended.result))

    @property
    def error(self):
        return self.machine.ended.error

    def of(self, kind):
        return [r.event for r in self.log if type(r.event) is kind]

    # ------------------------------------------------------------------------------ what happens
    def start(self):
        self.tell(StartRequested(self.call.data, 42))
        return self

    def tell(self, message):
        before = len(self.log)
        self.take(self.machine.handle(message, self.moment))
        return self.kinds[before:]

    def take(self, decision) -> None:
        for event in decision.events:
            stored = events.decode(events.encode(event))
            self.log.append(Recorded(len(self.log) + 1, self.wall, stored))
        assert self.machine.version == len(self.log)
        if decision.events:
            self.commits.append(len(self.log))
        self.rejected += decision.rejected
        for effect in decision.effects:
            self.carry_out(effect)

    def carry_out(self, effect) -> None:
        match effect:
            case RunStep(run, attempt):
                assert self.machine.is_running(run.number, attempt)
                self.runs[run.number] = effect
            case RunAlone(step):
                self.turns.append(step)
            case Reconcile(run):
                self.reconciles[run.number] = run
            case Warn(text):
                self.warnings.append(text)

    def advance(self, seconds, jump=0.0) -> None:
        """Let time pass; `jump`: how much further the calendar is set."""
        self.elapsed += seconds
        self.wall += round((seconds + jump) * SECOND)

    def run(self, number=None):
        """Run a step that is to run (the only one, if not said which)."""
        effect = self.runs.pop(next(iter(self.runs)) if number is None else number)
        run = effect.run
        self.advance(0.001)
        try:
            data, value = run.step.run(self.machine.lend(run), run.arguments(), self.limits.payload)
        except Exception as error:
            return self.tell(StepErrored(run.number, effect.attempt, failure_of(error), error))
        return self.tell(StepSucceeded(run.number, effect.attempt, data, value))

    def signal(self, call, key="k"):
        self.entry += 1
        return self.tell(SignalArrived(self.entry, call.name, key, call.data))

    def send(self, name, value):
        self.entry += 1
        return self.tell(SignalArrived(self.entry, name, "k", msgspec.json.encode(value)))

    def tick(self):
        return self.tell(Tick())

    def wait(self):
        """Let the time pass that the alarm shows, and ring."""
        self.advance(max(self.machine.alarm.remaining(self.moment), 0))
        return self.tick()

    def finish(self, rng=None):
        """Do whatever is left to do, in some order."""
        for _ in range(10_000):
            doings = [(self.run, n) for n in self.runs] + [(self.turn, n) for n in self.turns]
            doings += [(self.reconcile, n) for n in self.reconciles]
            if self.machine.alarm is not None:
                doings.append((self.wait,))
            if not doings:
                return self
            doing, *args = doings[0] if rng is None else rng.choice(doings)
            doing(*args)
        raise AssertionError("no end")

    def turn(self, number) -> None:
        self.turns.remove(number)
        self.tell(MayRunAlone(number))

    def reconcile(self, number) -> None:
        run = self.reconciles.pop(number)
        try:
            done = run.step.call_other(run.step.reconcile, self.machine.lend(run), run.arguments())
        except Exception as error:
            self.tell(ReconcileFailed(number, failure_of(error)))
            return
        self.tell(Reconciled(number, None if done is None else run.step.result.seal(done.result)[0]))

    # ---------------------------------------------------------------------------------- restarts
    def fork(self, length=None, definition=None):
        """Return a story that goes on from a prefix of this one's log, in another process."""
        other = Story.__new__(Story)
        other.__dict__.update(self.__dict__)
        other.log = list(self.log[:length])
        other.commits = [c for c in self.commits if c <= len(other.log)]
        other.runs, other.turns, other.reconciles = {}, [], {}
        other.warnings, other.rejected = [], []
        other.definition = definition or self.definition
        other.elapsed = 5.0
        other.machine = other.new_machine()
        other.machine.replay(other.log)
        return other

    def restart(self, length=None, definition=None, down=0.0, jump=0.0):
        other = self.fork(length, definition)
        other.wall += round((down + jump) * SECOND)
        other.take(other.machine.recovered(other.moment))
        return other

    def repair(self, definition=None):
        other = Story.__new__(Story)
        other.__dict__.update(self.__dict__)
        other.definition = definition or self.definition
        other.log, other.commits = list(self.log), list(self.commits)
        other.runs, other.turns, other.reconciles, other.warnings = {}, [], {}, []
        other.machine = other.new_machine()
        other.take(other.machine.repair(other.log, "ada", "fixed", other.moment))
        return other


def same_at_every_prefix(story, *, ends=True, same_result=True) -> None:
    """Replay every prefix that a crash could leave, and run each on to the same end."""
    for length in story.commits:
        replayed = story.fork(length)
        assert replayed.machine.version == length
        replayed.machine.close()
        if ends:
            resumed = story.restart(length).finish()
            if resumed.machine.ended is not None:
                assert type(resumed.machine.ended) is type(story.machine.ended)
                if same_result and hasattr(story.machine.ended, "result"):
                    assert resumed.result == story.result
            resumed.fork()
            resumed.machine.close()


__all__ = ["EPOCH", "SECOND", "Story", "same_at_every_prefix", "timedelta"]
