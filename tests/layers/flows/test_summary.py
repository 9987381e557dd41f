"""What a history says about its flow is what the flow's machine knows; and each kind of event has words."""

from __future__ import annotations

from random import Random
from typing import Any, get_args

import msgspec
import pytest
from diagrams.wandering import SHAPES, wander
from persistasaurus.flows import events
from persistasaurus.flows.description import describe
from persistasaurus.flows.machine.history import Recorded, plan_of
from persistasaurus.flows.summary import FlowSummary, StepState, summary_of

KINDS = [*get_args(events.InputEvent), *get_args(events.CommandEvent)]
JSON = msgspec.Raw(b'{"n":1}')
ERROR = events.Failure("ValueError", "no")
STARTED = events.FlowStarted("order", JSON, 7)
CHARGE = events.StepStarted(1, "charge", JSON, "order.py:7")
FIELDS: dict[str, Any] = {"args": JSON, "result": JSON, "error": ERROR, "due": 9, "retry_at": 9}


class Surprised(msgspec.Struct, tag="surprised", frozen=True):
    """A kind of event that nobody has taught anything yet."""


def example(kind: type[Any]) -> Any:
    numbers = dict.fromkeys(("step", "timer", "attempt", "seed"), 3)
    values = {field: FIELDS.get(field, numbers.get(field, field)) for field in kind.__struct_fields__}
    return kind(**values)


def history(*told: events.AnyEvent) -> list[Recorded]:
    return [Recorded(n, n * 1_000_000, event) for n, event in enumerate(told, 1)]


def shown(summary: FlowSummary) -> dict[str, Any]:
    """Return everything that a summary says, but for what of a step only matters to a repair."""
    steps = {number: {**_fields(step), "before_failure": None} for number, step in summary.steps.items()}
    return {
        **{name: value for name, value in vars(summary).items() if not name.startswith("_")},
        "steps": steps,
        "status": summary.status,
        "waits": summary.waits,
        "unread": summary.unread,
        "last_word": summary.last_word,
    }


def _fields(step: Any) -> dict[str, Any]:
    return {name: getattr(step, name) for name in step.__slots__}


# ----------------------------------------------------------------------------------------- the summary
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(12))
def test_a_history_says_what_the_machine_knows(shape: int, seed: int) -> None:
    story = wander(shape, Random(f"{shape}/{seed}"))
    execution = story.machine._execution

    summary = summary_of(story.log)

    assert summary.status == story.status
    if story.status in ("running", "waiting"):  # one that is paused has not looked at its signals yet
        assert {step.number for step in summary.open_steps} == set(execution.steps)
        assert set(summary.sleeps) == set(execution.timers)
        waits = [(wait.name, wait.number) for some in execution.signals._waits.values() for wait in some]
        assert sorted((wait.name, wait.step) for wait in summary.waits) == sorted(waits)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(12))
def test_event_by_event_it_says_what_is_left_when_all_repairs_are_known(shape: int, seed: int) -> None:
    log = wander(shape, Random(f"{shape}/{seed}")).log
    void = plan_of(log).void
    summary = FlowSummary()
    for recorded in log:
        summary.apply(recorded)

    assert shown(summary) == shown(summary_of([one for one in log if one.version not in void]))


def test_a_repair_takes_back_the_failure_that_it_retries() -> None:
    failed = events.StepFailed(1, 1, ERROR)
    summary = summary_of(
        history(STARTED, CHARGE, failed, events.FlowFailed(ERROR, 1), events.Repaired(4, retried=(3,)))
    )

    (step,) = summary.steps.values()
    assert (step.state, step.error, step.ended_at) == (StepState.RUNNING, None, None)
    assert (summary.status, summary.failed) == ("running", None)


def test_a_repair_takes_back_what_the_code_did_since_and_keeps_the_signals() -> None:
    waits, slept = events.SignalAwaited("go", 2), events.TimerSet(1, 9)
    signal = events.SignalReceived("go", "k", JSON)
    before = [STARTED, CHARGE, events.StepCompleted(1, JSON)]
    summary = summary_of(history(*before, waits, slept, signal, events.Repaired(since=4)))

    assert list(summary.steps) == [1]
    assert not summary.sleeps
    assert (summary.waits, summary.unread) == ([], {"go": 1})
    assert summary.step_name(2) == "go", "the name of what is undone can still be told"


def test_signals_that_were_given_up_are_not_waited_with() -> None:
    signals = [events.SignalReceived("go", key, JSON) for key in ("bad", "good")]
    told = history(STARTED, *signals, events.SignalAwaited("go"), events.SignalAwaited("go"))

    assert [wait.version for wait in summary_of(told, {"bad"}).waits] == [5]
    assert [signal.key for signal in summary_of(told, {"bad"}).signals["go"]] == ["good"]


def test_what_happens_to_a_step_that_is_not_there_is_passed_over() -> None:
    assert summary_of(history(STARTED, events.StepCompleted(7, JSON), events.TimerFired(7))).steps == {}


def test_the_steps_of_a_flow_that_was_parked_at_a_start_are_in_doubt() -> None:
    summary = summary_of(history(STARTED, CHARGE, events.Parked("poisoned", "three times")))

    assert summary.steps[1].state is StepState.IN_DOUBT
    assert summary.status == "parked"


def test_a_flow_that_is_paused_again_is_paused_since_the_first_time() -> None:
    first, again = events.Paused("ada", "a fire"), events.Paused("bob", request="1")
    summary = FlowSummary()
    for version, event in enumerate((first, again), 1):
        summary.apply(Recorded(version, version * 1000, event))
    assert summary.paused == (first, 1000)


# ---------------------------------------------------------------------------------- the words of events
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_of_event_is_in_the_summary_and_has_words_of_its_own(kind: type[Any]) -> None:
    summary = FlowSummary()
    summary.apply(Recorded(1, 0, example(kind)))

    others = {str(describe(example(other))) for other in KINDS if other is not kind}
    assert describe(example(kind)).verb
    assert str(describe(example(kind))) not in others


def test_a_kind_of_event_that_has_no_words_is_an_error() -> None:
    with pytest.raises(AssertionError):
        describe(Surprised())  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        FlowSummary().apply(Recorded(1, 0, Surprised()))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_nothing_that_an_event_says_is_left_out(kind: type[Any]) -> None:
    event = example(kind)
    left_out = {"seed", "line", "key", "until", "begun", "since", "retried", "request"}

    said = repr(describe(event))

    for field in set(kind.__struct_fields__) - left_out:
        assert repr(getattr(event, field)) in said or str(getattr(event, field)) in said, field


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (STARTED, "flow 'order' started"),
        (CHARGE, "step 1 'charge' started"),
        (events.StepFailed(2, 1, ERROR), "step 2 failed"),
        (events.TimerSet(3, 9), "sleep 3 set"),
        (events.SignalAwaited("confirm", 4), "signal 'confirm' awaited as step 4"),
        (events.FlowFailed(ERROR, 2), "flow failed"),
        (events.Paused("ops", "a fire"), "paused"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_event_in_a_sentence(event: Any, words: str) -> None:
    assert str(describe(event)) == words
