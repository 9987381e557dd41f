"""Ten thousand events: drawn in no time, and in no more text than Mermaid takes."""

from __future__ import annotations

from random import Random
from time import perf_counter
from typing import TYPE_CHECKING

import pytest
from msgspec import Raw
from persistasaurus.api.diagrams import draw, mismatch
from persistasaurus.api.diagrams.truncation import CHARACTERS_MAX
from persistasaurus.flows import events

if TYPE_CHECKING:
    from diagrams.reference import Reference

NO_ARGS = Raw(b"{}")
STEPS = 5_000
MERMAID_MAX = 50_000
"""`maxTextSize`, as Mermaid has it when nobody configures it."""


def begun(number: int, name: str) -> events.AnyEvent:
    return events.StepStarted(number, name, NO_ARGS)


def done(number: int) -> events.AnyEvent:
    return events.StepCompleted(number, NO_ARGS)


def flow_of(*history: events.AnyEvent) -> list[events.AnyEvent]:
    return [events.FlowStarted("F", NO_ARGS, 1), *history, events.FlowCompleted(NO_ARGS)]


def the_same() -> list[events.AnyEvent]:
    return flow_of(*(e for n in range(1, STEPS + 1) for e in (begun(n, "say"), done(n))))


def all_different() -> list[events.AnyEvent]:
    return flow_of(*(e for n in range(1, STEPS + 1) for e in (begun(n, f"step_{n * 7919 % 997}"), done(n))))


def at_once() -> list[events.AnyEvent]:
    rng = Random(1)
    numbers = list(range(1, STEPS // 2))
    starts = [begun(n, rng.choice("xyz")) for n in numbers]
    rng.shuffle(numbers)
    return flow_of(*starts, *map(done, numbers))


def with_crashes() -> list[events.AnyEvent]:
    lives = [
        (begun(n, f"s{n % 13 * n % 7}"), events.StepAttempted(n, 2), done(n)) for n in range(1, STEPS // 3)
    ]
    return flow_of(*(event for life in lives for event in life))


LONG = [the_same, all_different, at_once, with_crashes]


@pytest.mark.parametrize("make", LONG)
def test_a_long_history_is_drawn_and_followed_in_bounded_time_and_text(make) -> None:
    history = make()
    started = perf_counter()

    diagram = draw(history)
    text = diagram.mermaid()
    assert len(text) < MERMAID_MAX
    assert mismatch(text, history) is None
    assert diagram.text().count("\n") < 2_500

    assert perf_counter() - started < 30  # takes 2 s when nothing else does


def test_runs_of_the_same_are_a_loop() -> None:
    text = draw(the_same(), level="api").mermaid()

    assert "loop 5000 times" in text
    assert len(text) < 1_000


def test_loops_within_loops_are_found() -> None:
    one = [e for n in (1, 2, 3, 4) for e in (begun(n, "inner"), done(n))]
    text = draw(flow_of(*[*one, begun(5, "outer"), done(5)] * 3), level="api").mermaid()

    assert "    loop 3 times\n        loop 4 times\n            F->>Step: inner()" in text


def test_what_is_left_out_is_told() -> None:
    text = draw(all_different(), level="api").mermaid()

    assert "messages are not drawn (events" in text
    assert text.count("not drawn") == 1
    assert len(text) > CHARACTERS_MAX * 0.9


def test_a_shortened_diagram_holds_for_no_run_that_is_shorter_or_ends_otherwise() -> None:
    history = all_different()
    text = draw(history, level="api").mermaid()

    middle = len(history) // 2
    assert mismatch(text, history[: middle - 1] + history[middle + 1 :]) is not None
    assert mismatch(text, [*history[:-3], begun(STEPS, "other"), done(STEPS), history[-1]]) is not None


def test_mermaid_reads_a_long_diagram(reference: Reference) -> None:
    assert reference.complaints([draw(all_different()).mermaid()]) == []
