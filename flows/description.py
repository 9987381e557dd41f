"""Events in words: the one place that describes each kind of event.

Everything that shows events takes its words from here and arranges them: as a line of a terminal, an arrow
of a diagram, an error. Names, messages and payloads are as recorded, so callers must escape them.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from . import events


class Deadline(NamedTuple):
    """An instant that an event sets, in microseconds since the epoch, UTC; `what` is its purpose."""

    what: str
    at: int


class Description(NamedTuple):
    """What an event says, in one form for all kinds. Fields that a kind lacks are empty.

    `subject` and `verb` make a sentence, as "step" and "started"; `step` or `sleep` is the number of the
    subject, and `name` its name. `args` and `result` are JSON. The `error` of a parked flow says why, with
    the reason as its type.
    """

    subject: str
    verb: str
    step: int = 0
    sleep: int = 0
    name: str = ""
    args: bytes | None = None
    result: bytes | None = None
    error: events.Failure | None = None
    attempt: int = 0
    due: Deadline | None = None
    by: str = ""
    why: str = ""

    @property
    def what(self) -> str:
        """The sentence, without number and name."""
        return f"{self.subject} {self.verb}".lstrip()

    @property
    def thing(self) -> str:
        """The subject with number and name: `step 1 'charge'`."""
        number = self.step if self.subject == "step" else self.sleep
        words = (self.subject, str(number) if number else "", repr(self.name) if self.name else "")
        return " ".join(word for word in words if word)

    def __str__(self) -> str:
        as_step = f" as step {self.step}" if self.step and self.subject == "signal" else ""
        return f"{self.thing} {self.verb}{as_step}".lstrip()


def describe(event: events.AnyEvent) -> Description:  # noqa: C901, PLR0911, PLR0912 - one line a kind
    match event:
        case events.FlowStarted():
            return Description("flow", "started", name=event.flow, args=event.args)
        case events.FlowCompleted():
            return Description("flow", "completed", result=event.result)
        case events.FlowFailed():
            return Description("flow", "failed", event.step or 0, error=event.error)
        case events.StepStarted():
            return Description("step", "started", event.step, name=event.name, args=event.args)
        case events.StepScheduled():
            due = Deadline("not before", event.due)
            return Description("step", "scheduled", event.step, name=event.name, args=event.args, due=due)
        case events.StepAttempted():
            return Description("step", "attempted", event.step, attempt=event.attempt)
        case events.StepCompleted():
            return Description("step", "completed", event.step, result=event.result)
        case events.StepFailed():
            due = None if event.retry_at is None else Deadline("again at", event.retry_at)
            return Description(
                "step", "failed", event.step, error=event.error, attempt=event.attempt, due=due
            )
        case events.StepInterrupted():
            return Description("step", "interrupted", event.step)
        case events.TimerSet():
            return Description("sleep", "set", sleep=event.timer, due=Deadline("until", event.due))
        case events.TimerFired():
            return Description("sleep", "over", sleep=event.timer)
        case events.SignalAwaited():
            return Description("signal", "awaited", event.step, name=event.name)
        case events.SignalReceived():
            return Description("signal", "received", name=event.name, args=event.args)
        case events.Paused():
            return Description("", "paused", by=event.by, why=event.why)
        case events.Resumed():
            return Description("", "resumed", by=event.by, why=event.why)
        case events.Repaired():
            return Description("", "repaired", by=event.by, why=event.why)
        case events.Parked():
            error = events.Failure(event.reason, event.message, event.traceback)
            return Description("", "parked", error=error)
        case _:
            assert_never(event)
