"""Charts for the terminal: no wider than wanted, with lifelines that are straight."""

from __future__ import annotations

from random import Random

import pytest
from diagrams.arbitrary import HOSTILE
from diagrams.test_hostile_text import history_of
from diagrams.wandering import wander
from persistasaurus.api.diagrams import LEVELS, draw
from persistasaurus.api.diagrams.chart import wide
from persistasaurus.flows.examples import HelloWorldFlow
from stories import Story

HELLO = """\
Client              HelloWorldFlow               Step
   │ start HelloWorldFlow()│                       │
   ├──────────────────────▶│                       │
   │◀╌╌╌╌╌╌ accepted ╌╌╌╌╌╌┤                       │
┌─ loop 5 times ────────────────────────────────────
   │                       ├── say(name, count) ──▶│
   │                       │◀╌╌╌╌╌╌ returns ╌╌╌╌╌╌╌┤
└───────────────────────────────────────────────────
   │◀╌╌╌╌╌╌╌ result ╌╌╌╌╌╌╌┤                       │
Client              HelloWorldFlow               Step
"""


def test_a_chart_shows_lifelines_messages_notes_and_loops() -> None:
    story = Story(HelloWorldFlow.say_hello).start().finish()

    assert draw(story.log, level="api").text() == HELLO


def test_it_can_do_without_box_characters() -> None:
    story = Story(HelloWorldFlow.say_hello).start().finish()

    assert draw(story.log).text(ascii=True).isascii()


@pytest.mark.parametrize("width", [40, 41, 60, 79, 80, 100, 200])
@pytest.mark.parametrize("seed", range(5))
def test_no_line_is_wider_than_wanted(width: int, seed: int) -> None:
    log = wander(seed, Random(seed)).log
    for level in LEVELS:
        lines = draw(log, level=level, values=True, times=True).text(width=width).splitlines()
        assert max(map(wide, lines)) <= width


@pytest.mark.parametrize("text", HOSTILE)
def test_wide_characters_and_hostile_ones_move_no_lifeline(text: str) -> None:
    chart = draw(history_of(text), level="api", values=True).text(width=80)

    assert max(map(wide, chart.splitlines())) <= 80
    assert "\x1b" not in chart
    assert (
        chart.count("\n") == draw(history_of("x" * 70), level="api", values=True).text(width=80).count("\n")
        or len(text) < 70
    )


def test_a_wide_character_takes_two_columns() -> None:
    assert [wide(text) for text in ("a", "日", "é", "e\u0301", "✅")] == [1, 2, 1, 1, 2]
