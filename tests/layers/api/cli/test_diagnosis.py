"""Why a flow does not run: told from its history, its inbox, and whether an engine is there."""

from __future__ import annotations

import msgspec
import pytest
from persistasaurus.api.cli.reports.diagnosis import Case, Finding, diagnose
from persistasaurus.flows import events
from persistasaurus.flows.machine.history import Recorded
from persistasaurus.flows.summary import summary_of
from persistasaurus.store import Header, InboxEntry, StreamState

SECOND = 1_000_000
BEGAN = 1_800_000_000 * SECOND
JSON = msgspec.Raw(b'{"n":1}')
STARTED = events.FlowStarted("order", JSON, 7)
CHARGE = events.StepStarted(1, "charge", JSON, "order.py:7")
ERROR = events.Failure("ConnectionError", "nobody answers")
STATES = {events.FlowCompleted: StreamState.ENDED, events.FlowFailed: StreamState.FAILED}
FAILED = (STARTED, CHARGE, events.StepFailed(1, 1, ERROR), events.FlowFailed(ERROR, 1))


def history(*told: events.AnyEvent) -> list[Recorded]:
    """Return a history in which an event happens each second."""
    return [Recorded(n, BEGAN + n * SECOND, event) for n, event in enumerate(told, 1)]


def case(
    *told: events.AnyEvent,
    engine_since: int | None = BEGAN,
    inbox: tuple[InboxEntry, ...] = (),
    dead: tuple[tuple[str, str], ...] = (),
) -> Case:
    state = STATES.get(type(told[-1]), StreamState.OPEN)
    header = Header("order-1", "order", "?", state, len(told), None, BEGAN, BEGAN)
    now = BEGAN + 100 * SECOND
    return Case(header, summary_of(history(*told)), inbox, engine_since, now, "orders.db", dead)


def kinds(case: Case) -> list[str]:
    return [finding.kind for finding in diagnose(case)]


def only(case: Case) -> Finding:
    (found,) = diagnose(case)
    return found


def test_a_step_that_runs_is_told_with_its_line_and_its_attempt() -> None:
    found = only(case(STARTED, CHARGE))

    assert (found.kind, found.step, found.name, found.attempt) == ("running", 1, "charge", 1)
    assert found.line == "order.py:7"
    assert "Step 1 'charge' has been running since" in found.text
    assert "(2 min)" in found.text


def test_a_delayed_step_is_told_with_its_time() -> None:
    due = BEGAN + 7300 * SECOND
    found = only(case(STARTED, events.StepScheduled(1, "send", JSON, due)))

    assert found.kind == "scheduled"
    assert found.text.endswith("(in 2 h).")


def test_a_step_that_is_tried_again_is_told_with_its_last_error() -> None:
    failed = events.StepFailed(1, 1, ERROR, BEGAN + 160 * SECOND)
    found = only(case(STARTED, CHARGE, failed))

    assert (found.kind, found.error) == ("retrying", ERROR)
    assert "has failed once, and will be retried at" in found.text
    assert "(in 60 s)" in found.text
    assert "ConnectionError: nobody answers" in found.text


def test_what_is_past_is_told_as_past() -> None:
    late = BEGAN + 74 * SECOND
    retried = only(case(STARTED, CHARGE, events.StepFailed(1, 1, ERROR, late)))
    delayed = only(case(STARTED, events.StepScheduled(1, "send", JSON, late)))
    asleep = only(case(STARTED, events.TimerSet(1, late)))

    assert "and was due to be retried at" in retried.text
    assert "Step 1 'send' was due to run at" in delayed.text
    assert "It sleeps, and was due to continue at" in asleep.text
    assert all("(26 s ago)" in found.text for found in (retried, delayed, asleep))


def test_a_step_that_was_running_when_its_process_died_is_in_doubt() -> None:
    assert kinds(case(STARTED, CHARGE, engine_since=None)) == ["no_engine", "in_doubt"]
    assert kinds(case(STARTED, CHARGE, engine_since=BEGAN + 50 * SECOND)) == ["in_doubt"]


def test_a_step_that_has_outlived_no_process_twice_is_a_suspect() -> None:
    found = only(case(STARTED, CHARGE, events.StepAttempted(1, 2), engine_since=BEGAN + 50 * SECOND))

    assert found.kind == "suspect"
    assert "2 times in a row" in found.text


def test_a_step_that_an_orderly_shutdown_did_not_wait_for_is_told_as_interrupted() -> None:
    assert kinds(case(STARTED, CHARGE, events.StepInterrupted(1), engine_since=None))[1] == "interrupted"


def test_a_sleep_is_told_with_its_end() -> None:
    found = only(case(STARTED, events.TimerSet(1, BEGAN + 200 * SECOND, line="order.py:9")))

    assert (found.kind, found.line) == ("sleeping", "order.py:9")
    assert "will continue at" in found.text


def test_a_wait_is_told_with_the_command_that_ends_it() -> None:
    found = only(case(STARTED, events.SignalAwaited("confirm", 1)))

    assert (found.kind, found.name) == ("waiting", "confirm")
    assert found.command == "persistasaurus signal order-1 confirm JSON --store orders.db"


def test_signals_and_waits_meet_by_name_oldest_first() -> None:
    early = events.SignalReceived("a", "k1", JSON)
    told = case(STARTED, early, events.SignalAwaited("a"), events.SignalAwaited("b"), early)

    assert kinds(told) == ["waiting", "unread_signals"]
    assert [finding.name for finding in diagnose(told)] == ["b", "a"]


def test_signals_that_the_flow_has_not_read_are_counted() -> None:
    inbox = tuple(InboxEntry(n, BEGAN, name, f"k{n}", b"{}") for n, name in enumerate(("a", "b", "a")))
    found = diagnose(case(STARTED, events.Paused("ops", "a fire"), inbox=inbox))

    assert [one.kind for one in found] == ["paused", "between", "unread_signals"]
    assert (found[0].by, found[0].why) == ("ops", "a fire")
    assert found[0].command.startswith("persistasaurus resume order-1")
    assert "3 signals are on record" in found[2].text
    assert "('a', 'b')" in found[2].text


def test_a_flow_that_has_failed_keeps_what_it_has_not_read_and_says_so() -> None:
    early = events.SignalReceived("a", "k1", JSON)
    inbox = (InboxEntry(7, BEGAN, "b", "k2", b"{}"),)
    found = diagnose(case(STARTED, early, *FAILED[1:], inbox=inbox))

    assert [one.kind for one in found] == ["failed", "unread_signals", "unread_signals"]
    assert all(one.text.endswith("kept for a retry of the flow.") for one in found[1:])


def test_what_was_not_delivered_is_told_with_the_reason() -> None:
    told = case(
        STARTED, events.FlowCompleted(JSON), dead=(("a", "unread"), ("a", "unread"), ("b", "no date"))
    )

    found = diagnose(told)[1:]

    assert [(one.kind, one.name, one.count, one.reason) for one in found] == [
        ("dead_letters", "a", 2, "unread"),
        ("dead_letters", "b", 1, "no date"),
    ]


def test_that_no_engine_is_there_comes_first() -> None:
    found = diagnose(case(STARTED, events.Paused(), events.SignalAwaited("a"), engine_since=None))

    assert [one.kind for one in found] == ["no_engine", "paused", "waiting"]
    assert "persistasaurus run MODULE --store orders.db" in found[0].command


REASONS = [
    "poisoned",
    "in_doubt",
    "nondeterminism",
    "unknown_flow",
    "unreadable",
    "crashing",
    "history_limit",
]


@pytest.mark.parametrize("reason", [*REASONS, "a_reason_of_tomorrow"])
def test_a_parked_flow_is_told_with_its_reason_and_what_to_do(reason: str) -> None:
    found = diagnose(case(STARTED, events.Parked(reason, "what it said")))[0]

    assert (found.kind, found.reason) == ("parked", reason)
    assert f"what it said [parked-{reason.replace('_', '-')}]" in found.text
    assert found.todo.endswith(":")
    assert "persistasaurus retry order-1" in found.command


def test_a_failed_flow_is_told_with_the_error_of_its_step() -> None:
    found = only(case(*FAILED, engine_since=None))

    assert (found.kind, found.step, found.error) == ("failed", 1, ERROR)
    assert "in step 1 'charge': ConnectionError: nobody answers" in found.text


def test_a_completed_flow_needs_nothing() -> None:
    found = only(case(STARTED, events.FlowCompleted(JSON), engine_since=None))

    assert (found.kind, found.todo, found.command) == ("completed", "", "")


def test_what_a_repair_has_made_void_is_left_out() -> None:
    assert kinds(case(*FAILED, events.Repaired(4, "ops", "", (3,)))) == ["running"]


def test_a_resumed_flow_is_not_paused() -> None:
    assert kinds(case(STARTED, events.Paused(), events.Resumed())) == ["between"]
