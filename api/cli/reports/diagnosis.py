"""Why a flow does not run, or what it is doing: findings, each with what the user can do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from ....actors.handle import from_microseconds
from ....actors.remote.protocol import SignalRequest, request_kind
from ....flows.events import Failure
from ....flows.summary import StepState
from ....store import StreamState
from ..output.proposal import proposed
from ..output.quantities import ago, local_time, since

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ....actors.remote.client import RefusedRequest
    from ....flows.summary import FlowSummary, OpenWait, StepSummary
    from ....store import Header, InboxEntry
    from ....store.files.black_box import Blocking

_SUSPICIOUS = 2
_POISONOUS = 3
_LATE_US = 5_000_000
_SECOND_US = 1_000_000
_ADVICE = {
    "in_doubt": "find out whether the step's effect has happened; a retry runs the step again",
    "poisoned": "find out whether the step takes the process down; a retry runs it again, and"
    " FlowSystem(limits=Limits(poison_after=...)) sets how often it may do that",
    "crashing": "the traceback shows what went wrong; fix that, then retry",
    "blocking": "put what blocks into a step, restart the engine with that code, then retry",
    "lethal": "find out why its code takes the process down; a retry runs it again",
    "history_limit": "give FlowSystem higher limits=Limits(...), then retry",
    "nondeterminism": "restore the code that the flow was started with, and restart the engine; or retry",
    "unknown_flow": "start the engine with the module that has this flow: persistasaurus run MODULE",
    "unreadable": "`persistasaurus verify` says what is damaged; a backup may have it intact",
}


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing to know about a flow. `kind` is one of a fixed list of words, for programs."""

    kind: str
    text: str
    todo: str = ""
    command: str = ""
    step: int | None = None
    name: str = ""
    attempt: int | None = None
    since: datetime | None = None
    due_at: datetime | None = None
    line: str = ""
    error: Failure | None = None
    by: str = ""
    why: str = ""
    reason: str = ""
    count: int | None = None


@dataclass(frozen=True)
class Case:
    """What is known about a flow at the instant `now`, in microseconds since the epoch, UTC.

    `engine_since` is when the current owner opened the store, if it has one; `store` is the path to use in
    proposed commands. `dead` are the flow's dead letters: each signal's name, and the reason. `damage` says
    what of the flow cannot be read; the summary then covers what happened before that. `blocking` is what of
    the flow holds a thread of the engine at this moment. `refused` are requests of other processes for it.
    """

    header: Header
    summary: FlowSummary
    inbox: Sequence[InboxEntry]
    engine_since: int | None
    now: int
    store: str
    dead: Sequence[tuple[str, str]] = ()
    damage: str = ""
    blocking: Sequence[Blocking] = ()
    refused: Sequence[RefusedRequest] = ()

    def command(self, verb: str, *words: str, **options: str) -> str:
        """Return a command line about this flow."""
        return proposed(verb, self.header.stream, *words, store=self.store, **options)


def diagnose(case: Case) -> list[Finding]:
    """Return the findings, the most important first."""
    if case.header.state.is_over:
        return [*_damaged(case), *_end(case), *_unread(case), *_early(case), *_dead(case), *_refused(case)]
    found = [*_damaged(case), *_engine(case), *_blocking(case), *_parked(case), *_paused(case)]
    steps = [_step(case, step) for step in case.summary.open_steps]
    doing = [*steps, *_sleeps(case), *(_wait(case, wait) for wait in case.summary.waits)]
    letters = [*_unread(case), *_early(case), *_dead(case), *_refused(case)]
    if not doing and case.summary.parked is None and not case.damage:
        doing.append(Finding(kind="between", text="Its code is running between two awaits."))
    return [*found, *doing, *letters]


def _damaged(case: Case) -> Iterator[Finding]:
    if case.damage:
        is_parked = case.header.status == "parked" and case.summary.parked is None
        yield Finding(
            kind="damaged",
            text=f"It is damaged{' and parked' if is_parked else ''}: {case.damage}.",
            todo="A backup may have it intact. To find out what else in the store is damaged:",
            command=proposed("verify", store=case.store),
            reason=case.damage,
        )


def _end(case: Case) -> Iterator[Finding]:
    summary = case.summary
    if summary.completed is not None:
        _, at = summary.completed
        yield Finding(
            kind="completed", text=f"It has completed {_when(at, case.now)}.", since=from_microseconds(at)
        )
    if summary.failed is not None:
        event, at = summary.failed
        step = summary.steps.get(event.step or 0)
        where = "" if step is None else f" in step {step.number} {step.name!r}"
        # The flow's error only repeats what its step's error says.
        error = step.error if step is not None and step.error is not None else event.error
        yield Finding(
            kind="failed",
            text=f"It has failed {_when(at, case.now)}{where}: {_said(error)}",
            todo="Once the cause is fixed, continue the flow; completed steps are not repeated:",
            command=case.command("retry", why="..."),
            step=event.step,
            since=from_microseconds(at),
            line=error.line or event.error.line,
            error=error,
        )


def _engine(case: Case) -> Iterator[Finding]:
    if case.engine_since is None:
        yield Finding(
            kind="no_engine",
            text="No process has the store open, so nothing in it runs.",
            todo="Start the program that runs these flows, or:",
            command=proposed("run", "MODULE", store=case.store),
        )


def _blocking(case: Case) -> Iterator[Finding]:
    for one in case.blocking:
        whose = f"{one.what!r}" if one.what else "Its code"
        yield Finding(
            kind="blocking",
            text=f"{whose} holds a thread of the engine, {since(one.since, case.now)}.",
            todo="Put what takes time, or waits, into a `def` step. The log has the stack.",
            since=from_microseconds(one.since),
            line=one.place,
            name=one.what,
        )


def _parked(case: Case) -> Iterator[Finding]:
    if case.summary.parked is None:
        return
    event, at = case.summary.parked
    reason, code = event.reason.replace("_", " "), f"parked-{event.reason.replace('_', '-')}"
    advice = _ADVICE.get(event.reason, "fix the cause, then retry")
    yield Finding(
        kind="parked",
        text=f"It is parked {since(at, case.now)}, {reason}: {event.message} [{code}]",
        todo=f"{advice[0].upper()}{advice[1:]}:",
        command=case.command("retry", why="..."),
        since=from_microseconds(at),
        reason=event.reason,
    )


def _paused(case: Case) -> Iterator[Finding]:
    if case.summary.paused is None:
        return
    event, at = case.summary.paused
    by = f" by {event.by}" if event.by else ""
    why = f": {event.why}" if event.why else ""
    yield Finding(
        kind="paused",
        text=f"It is paused{by} {since(at, case.now)}{why}. It starts no more steps until it is resumed.",
        command=case.command("resume"),
        since=from_microseconds(at),
        by=event.by,
        why=event.why,
    )


def _step(case: Case, step: StepSummary) -> Finding:
    kind, text = _step_text(case, step)
    is_error_new = step.state is StepState.RETRYING
    return Finding(
        kind=kind,
        text=f"Step {step.number} {step.name!r} {text}",
        step=step.number,
        name=step.name,
        attempt=step.attempts or None,
        since=from_microseconds(step.attempted_at or step.begun_at),
        due_at=None if step.due is None else from_microseconds(step.due),
        line=step.line,
        error=step.error if is_error_new else None,
    )


def _step_text(case: Case, step: StepSummary) -> tuple[str, str]:
    if step.state is StepState.SCHEDULED and step.due is not None:
        return "scheduled", f"{_due(case, step.due, 'run')}."
    if step.state is StepState.RETRYING and step.due is not None and step.error is not None:
        times = "once" if step.attempts == 1 else f"{step.attempts} times"
        last = _said(step.error)
        return "retrying", f"has failed {times}, and {_due(case, step.due, 'be retried')}. Last: {last}"
    begun = step.attempted_at or step.begun_at
    if step.state is StepState.INTERRUPTED:
        return "interrupted", f"was interrupted when its engine stopped, in attempt {step.attempts}."
    is_in_doubt = step.state is StepState.IN_DOUBT
    if case.engine_since is not None and begun >= case.engine_since and not is_in_doubt:
        return "running", f"has been running {since(begun, case.now)}, in attempt {step.attempts}."
    text = f"was running in attempt {step.attempts}, begun {_when(begun, case.now)}, when its process ended"
    if is_in_doubt or step.unresolved < _SUSPICIOUS:
        return "in_doubt", f"{text}. Its effect is unknown."
    return "suspect", (
        f"{text}: {step.unresolved} times in a row. The step is suspected of causing that, so only one such"
        f" step runs at a time. After {_POISONOUS} times its flow is parked, unless Limits(poison_after=...)"
        " says otherwise or the step ran for long each time."
    )


def _sleeps(case: Case) -> Iterator[Finding]:
    for sleep in case.summary.sleeps.values():
        yield Finding(
            kind="sleeping",
            text=f"It sleeps, and {_due(case, sleep.due, 'continue')}.",
            since=from_microseconds(sleep.begun_at),
            due_at=from_microseconds(sleep.due),
            line=sleep.line,
        )


def _wait(case: Case, wait: OpenWait) -> Finding:
    return Finding(
        kind="waiting",
        text=f"It waits for signal {wait.name!r} {since(wait.since, case.now)}.",
        command=case.command("signal", wait.name, "JSON"),
        step=wait.step or None,
        name=wait.name,
        since=from_microseconds(wait.since),
        line=wait.line,
    )


def _unread(case: Case) -> Iterator[Finding]:
    if not case.inbox:
        return
    oldest = case.inbox[0]
    names = ", ".join(dict.fromkeys(repr(entry.name) for entry in case.inbox))
    n = len(case.inbox)
    yield Finding(
        kind="unread_signals",
        text=f"{n} signal{'s are' if n > 1 else ' is'} on record and unread ({names}),"
        f" the oldest {since(oldest.at, case.now)}.{_kept(case)}",
        since=from_microseconds(oldest.at),
        count=n,
    )


def _early(case: Case) -> Iterator[Finding]:
    for name, count in case.summary.unread.items():
        yield Finding(
            kind="unread_signals",
            text=f"Signal {name!r} has arrived {_times(count)}, and is unread: the flow does not wait for it"
            f" yet.{_kept(case) or ' It is kept until it does.'}",
            name=name,
            count=count,
        )


def _kept(case: Case) -> str:
    return " It is kept for a retry of the flow." if case.header.state is StreamState.FAILED else ""


def _dead(case: Case) -> Iterator[Finding]:
    for (name, reason), count in Counter(case.dead).items():
        yield Finding(
            kind="dead_letters",
            text=f"Signal {name!r} arrived {_times(count)}, and was not delivered: {reason}.",
            name=name,
            reason=reason,
            count=count,
        )


def _refused(case: Case) -> Iterator[Finding]:
    for one in case.refused:
        request = one.request
        kind = "A request" if request is None else f"A {request_kind(request)}"
        name = request.name if isinstance(request, SignalRequest) else ""
        by = "" if request is None or not request.by else f" by {request.by}"
        yield Finding(
            kind="refused_request",
            text=f"{kind}{f' {name!r}' if name else ''} that another process left{by} was refused"
            f" {_when(one.at, case.now)}: {one.reason}.",
            since=from_microseconds(one.at),
            name=name,
            by="" if request is None else request.by,
            reason=one.reason,
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _due(case: Case, due: int, doing: str) -> str:
    """Say when something will happen, or was to happen and has not."""
    is_late = case.engine_since is not None and case.now - due > _LATE_US
    is_held = case.summary.paused is not None or case.summary.parked is not None
    held = " (once it is resumed or retried)" if is_late and is_held else ""
    will = "was due to" if case.now - due >= _SECOND_US else "will"
    return f"{will} {doing} at {local_time(due)} ({ago(due, case.now)}){held}"


def _when(at: int, now: int) -> str:
    return f"at {local_time(at)} ({ago(at, now)})"


def _said(error: Failure) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type
