"""No name and no payload can break a diagram, or be more in it than text."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from diagrams.arbitrary import HOSTILE, KINDS, an_event
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.json import encode
from persistasaurus.api.diagrams import LEVELS, draw
from persistasaurus.flows import events

if TYPE_CHECKING:
    from diagrams.reference import Reference

SPECIAL = set("<>`\\$%{}")


def history_of(text: str) -> list[events.AnyEvent]:
    """Return a history with a text wherever a text can be."""
    args, failure = Raw(encode({text: text})), events.Failure(text, text, text)
    return [
        events.FlowStarted(text, args, 1),
        events.StepStarted(1, text, args, text),
        events.StepScheduled(2, text, args, 10),
        events.SignalAwaited(text, 3, text),
        events.SignalAwaited(text),
        events.StepCompleted(1, Raw(encode(text))),
        events.StepAttempted(2, 1),
        events.StepFailed(2, 1, failure, 10),
        events.SignalReceived(text, text, args),
        events.SignalReceived(text, text, Raw(encode(text))),
        events.Paused(text, text),
        events.Resumed(text, text),
        events.Parked(text, text, text),
        events.Repaired(3, text, text),
        events.FlowFailed(failure),
        events.FlowCompleted(Raw(encode(text))),
    ]


def written(history: list[Any], level: Any = "store", *, values: bool = True) -> str:
    return draw(history, level=level, values=values).mermaid()


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_anybody_adds_no_line_and_no_character_that_means_something(text: str) -> None:
    harmless, hostile = written(history_of("harmless")), written(history_of(text))

    assert hostile.count("\n") == harmless.count("\n")
    for line in hostile.splitlines():
        _, _, said = line.partition(": ")
        assert not SPECIAL & set(said), line
        assert all(unicodedata.category(c) not in {"Cc", "Cs", "Zl", "Zp"} for c in said), line
        assert "\u202e" not in line
        assert len(line) < 1000


def test_a_lone_surrogate_is_spelled_out() -> None:
    event = events.StepStarted(1, "a\ud800b", Raw(b"{}"))

    assert "a#92;ud800b" in written([event])


def test_mermaid_sees_the_same_messages_whatever_the_text(reference: Reference) -> None:
    harmless, *parsed = reference.parse(
        [written(history_of(text), "actors") for text in ["harmless", *HOSTILE]]
    )

    assert [answer.error for answer in parsed if answer.error] == []
    for text, answer in zip(HOSTILE, parsed, strict=True):
        assert answer.messages == _renamed(harmless.messages, answer), text


def _renamed(messages: list[Any], answer: Any) -> list[Any]:
    """Return messages with the flow actor under the name that another diagram has for it."""
    mine = {m[end] for m in messages for end in (0, 1)}
    its = {m[end] for m in answer.messages for end in (0, 1)}
    (old,), (new,) = (mine - its or {None}), (its - mine or {None})
    return [tuple(new if end == old and old is not None else end for end in m) for m in messages]


def test_mermaid_reads_what_was_meant(reference: Reference) -> None:
    text = "a; b # <c> & %%{d}%% $$e$$ `f` wrap: é 日本"
    (parsed,) = reference.parse([written([events.StepStarted(1, text, Raw(b"{}"))])])

    assert parsed.error is None
    assert f"step 1: {text}()" in parsed.texts


def test_a_name_that_is_a_word_of_mermaid_or_of_ours_is_only_a_name(reference: Reference) -> None:
    names = [
        "end",
        "loop",
        "Client",
        "Step",
        "Note",
        "par",
        "participant",
        "as",
        "Flow",
        "Optional",
        "ending",
    ]
    parsed = reference.parse([written(history_of(name)) for name in names])

    assert [answer.error for answer in parsed if answer.error] == []
    assert [answer.actors[2] for answer in parsed] == names


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_mermaid_reads_every_drawing_of_any_events(reference: Reference, data: st.DataObject) -> None:
    history = data.draw(st.lists(st.one_of([an_event(kind) for kind in KINDS]), max_size=25))

    level = data.draw(st.sampled_from(list(LEVELS)))

    assert reference.complaints([written(history, level)]) == []
