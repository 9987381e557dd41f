"""A diagram holds for the run that it was drawn from, at each level, and for no run that differs."""

from __future__ import annotations

from random import Random

import pytest
from diagrams.arbitrary import histories
from diagrams.wandering import SHAPES, wander
from hypothesis import given, settings
from persistasaurus.api.diagrams import LEVELS, draw, mismatch
from persistasaurus.flows import events
from persistasaurus.flows.machine.history import Recorded

SEEDS = range(5)
FINAL = (events.StepCompleted, events.StepFailed, events.TimerFired, events.FlowCompleted, events.FlowFailed)


SIGHTS = [
    "the process died",
    "the system was closed",
    "shutdown does not",
    "step already complete (replay)",
    "par step",
    "loop ",
    "parked: in_doubt",
    "is tried again",
    "sleep 1 is over",
    "has come early",
    "keeps signal",
    "is done anew",
    "-->>Client: paused",
    "fails with StepError",
    "-->>Client: result",
]


@pytest.mark.parametrize("sight", SIGHTS)
def test_the_runs_of_these_tests_show_everything(sight: str) -> None:
    texts = (draw(wander(shape, Random(seed)).log).mermaid() for seed in SEEDS for shape in SHAPES)

    assert any(sight in text for text in texts)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_diagram_holds_for_the_run_that_it_was_drawn_from(shape: int, seed: int) -> None:
    log = wander(shape, Random(seed)).log

    for level in LEVELS:
        for values in (False, True):
            diagram = draw(log, level=level, values=values, times=values).mermaid()
            assert mismatch(diagram, log) is None, diagram


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_not_hold_for_a_run_that_lacks_something(shape: int, seed: int) -> None:
    rng = Random(seed)
    log = wander(shape, rng).log
    places = [place for place, one in enumerate(log) if isinstance(one.event, FINAL)]
    for place in rng.sample(places, min(len(places), 5)):
        other = log[:place] + log[place + 1 :]
        for level in ("actors", "store"):
            assert mismatch(draw(log, level=level).mermaid(), other) is not None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_it_does_not_hold_for_a_run_with_another_step_at_some_place(shape: int, seed: int) -> None:
    rng = Random(seed)
    log = wander(shape, rng).log
    starts = [r for r in log if isinstance(r.event, events.StepStarted)]
    for one in rng.sample(starts, min(len(starts), 5)):
        renamed = events.StepStarted(one.event.step, "another", one.event.args, one.event.line)
        other = [Recorded(r.version, r.at, renamed) if r is one else r for r in log]
        for level in LEVELS:
            assert mismatch(draw(log, level=level).mermaid(), other) is not None


@settings(max_examples=80, deadline=None, derandomize=True)
@given(histories)
def test_no_sequence_of_events_breaks_a_drawing_or_fails_to_follow_it(history: list[events.AnyEvent]) -> None:
    for level in LEVELS:
        for values in (False, True):
            diagram = draw(history, level=level, values=values)
            assert mismatch(diagram.mermaid(), history) is None, diagram.mermaid()
            diagram.text(width=60)
