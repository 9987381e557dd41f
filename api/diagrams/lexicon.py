"""The vocabulary: how each kind of event is put into words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from ...flows.description import describe
from .phrases import NAME_MAX, Part, Phrase, clean, detail, hidden, number, word

if TYPE_CHECKING:
    from ...flows import events
    from ...flows.description import Description
    from ...flows.summary import FlowSummary

NOTES = re.compile(
    r"waits .*before step|waits for signal |waits (\.\.\.|…)|wait before step.* is over|sleeps "
    r"|sleep .*is over|keeps signal |signal .* has come early|parked|shutdown |the process died"
    r"|the system was closed|what the code did since"
)
"""A note over the flow actor that begins like this says what must have happened; any other is a remark."""

_RESTART = re.compile(r"the process died|the system was closed|shutdown ")

RECOVER: Phrase = (word("recover"),)
READ: Phrase = (word("read the history"),)
HISTORY: Phrase = (word("history"),)
REPLAYED: Phrase = (word("recorded result"),)
COMMIT: Phrase = (word("commit"),)
COMMITTED: Phrase = (word("committed"),)
DURABLE: Phrase = (word("durable"),)
ACCEPTED: Phrase = (word("accepted"),)
RECEIPT: Phrase = (word("receipt"),)
DIED: Phrase = (word("the process died, and was started again"),)
CLOSED: Phrase = (word("the system was closed, and opened again"),)

_VALUE_MAX = 40
_SECOND = 1_000_000
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def named(text: str) -> str:
    return clean(text, NAME_MAX) or "?"


def start(event: events.FlowStarted) -> Phrase:
    return (word("start"), detail(f" {named(event.flow)}", f" {named(event.flow)}"), _arguments(event.args))


def call(step: int, name: str, args: bytes | None, attempt: int) -> Phrase:
    again = [number(f" (attempt {attempt})")] if attempt > 1 else []
    known = [] if args is None else [_arguments(args)]
    return (number(f"step {step}: "), word(named(name)), *known, *again)


def returns(step: int, result: bytes) -> Phrase:
    return (number(f"step {step} "), word("returns"), detail("", f" {_shown(result)}"))


def raises(event: events.StepFailed) -> Phrase:
    return (
        number(f"step {event.step} "),
        word("raises "),
        word(named(event.error.type)),
        detail("", f": {clean(event.error.message, _VALUE_MAX)}"),
        hidden(f" (attempt {event.attempt})"),
    )


def signal(event: events.SignalReceived) -> Phrase:
    return (word(f"signal {named(event.name)}"), _arguments(event.args))


def result(event: events.FlowCompleted) -> Phrase:
    return (word("result"), detail("", f" {_shown(event.result)}"))


def fails(event: events.FlowFailed) -> Phrase:
    error = event.error
    return (word(f"fails with {named(error.type)}"), detail("", f": {clean(error.message, _VALUE_MAX)}"))


def demand(what: str, by: str, why: str) -> Phrase:
    who = (f" by {named(by)}" if by else "") + (f": {clean(why, _VALUE_MAX)}" if why else "")
    return (word(what), detail("", who))


def said(text: str) -> Phrase:
    return (word(text),)


# ------------------------------------------------------------------------------------------- notes
def waits_before(step: int, name: str | None, wait: int | None) -> Phrase:
    return (
        word("waits "),
        *([detail(f"{duration(wait)} ", f"{duration(wait)} ")] if wait is not None else []),
        word("before step"),
        number(f" {step}"),
        *([hidden(f": {named(name)}")] if name else []),
    )


def waits_before_retry(event: events.StepFailed, wait: int | None) -> Phrase:
    """How long a step waits may depend on chance, so it is a detail."""
    return (
        word("waits "),
        detail("", "" if wait is None else f"{duration(wait)} "),
        word("before step"),
        number(f" {event.step}"),
        word(" is tried again"),
    )


def wait_is_over(step: int) -> Phrase:
    return (word("wait before step"), number(f" {step}"), word(" is over"))


def sleeps(event: events.TimerSet, wait: int | None) -> Phrase:
    if event.until:
        return (word("sleeps until a date"),)
    return (word("sleeps "), *([] if wait is None else [detail(duration(wait), duration(wait))]))


def sleep_is_over(event: events.TimerFired) -> Phrase:
    return (word("sleep"), number(f" {event.timer}"), word(" is over"))


def waits_for(event: events.SignalAwaited) -> Phrase:
    return (word(f"waits for signal {named(event.name)}"), *_as_step(event.step))


def came_early(event: events.SignalAwaited) -> Phrase:
    return (word(f"signal {named(event.name)} has come early"), *_as_step(event.step))


def _as_step(step: int) -> tuple[Part, ...]:
    return (number(f" as step {step}"),) if step else ()


def keeps(event: events.SignalReceived) -> Phrase:
    return (word(f"keeps signal {named(event.name)} until it is awaited"),)


def parked(event: events.Parked) -> Phrase:
    return (word(f"parked: {named(event.reason)}"), detail("", f": {clean(event.message)}"))


def shutdown(event: events.StepInterrupted) -> Phrase:
    had = "does not wait for step" if event.begun else "does not begin step"
    return (word(f"shutdown {had}"), number(f" {event.step}"))


def anew(since: int) -> Phrase:
    return (word("what the code did since"), number(f" event {since}"), word(" is done anew"))


def tells_of_restart(note: str) -> bool:
    """Whether a note is about the end of a process, or the start of one."""
    return _RESTART.match(note) is not None


# ----------------------------------------------------------------------------------------- records
def record(event: events.AnyEvent, summary: FlowSummary) -> Phrase:
    return (word("record "), *_recorded(describe(event), summary))


def _recorded(words: Description, summary: FlowSummary) -> Phrase:
    match words.subject:
        case "step":
            name = words.name or summary.step_name(words.step)
            text = f": {named(name)}"
            # Where a step begins its name is shown; later on a specification may say it.
            about = detail(text, text) if words.name else hidden(text)
            return (*_numbered("step", words.step), word(f" {words.verb}"), *([about] if name else []))
        case "" if words.error is not None:
            reason = f": {named(words.error.type)}"
            return (word(words.what), detail(reason, reason))
        case "sleep":
            return (*_numbered("sleep", words.sleep), word(f" {words.verb}"))
        case "signal":
            return (word(f"signal {named(words.name)} {words.verb}"), *_as_step(words.step))
        case _:
            return said(words.what)


def _numbered(subject: str, count: int) -> tuple[Part, ...]:
    return (word(subject), number(f" {count}"))


# ------------------------------------------------------------------------------------------ values
def _arguments(data: bytes) -> Part:
    """Return arguments: their names, or with values. A payload without names is only a value."""
    try:
        values = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return detail("", f"({_shown(data)})")
    names = ", ".join(named(name) for name in values)
    full = ", ".join(f"{named(name)}={_shown(value)}" for name, value in values.items())
    return detail(f"({names})", f"({full})")


def _shown(data: Any) -> str:
    return clean(bytes(data)[: _VALUE_MAX * 16].decode(errors="replace"), _VALUE_MAX)


def duration(microseconds: int) -> str:
    """Return a duration in words: `10 s`, `2 d 3 h`, `250 ms`."""
    if microseconds < _SECOND:
        return f"{max(microseconds, 0) / 1000:.0f} ms"
    seconds = round(microseconds / _SECOND, 2)
    words: list[str] = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count:.0f} {unit}")
    if round(seconds, 2):
        words.append(f"{round(seconds, 2):g} s")
    return " ".join(words)
