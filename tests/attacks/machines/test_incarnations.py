"""Random commands, some of which fail after they have recorded something, against a model that is a list."""

# ruff: noqa: FBT001 - a test gets what Hypothesis draws

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from persistasaurus import EventSourcedActor, Refused, command
from persistasaurus.flows.entities.actor import definition_of
from persistasaurus.flows.entities.incarnation import EntityIncarnation


class Said(msgspec.Struct, tag="said"):
    what: str


class Words(msgspec.Struct):
    said: list[str] = []


class Talker(EventSourcedActor[Words, Said], name="talker"):
    def apply(self, state: Words, event: Said) -> None:
        state.said.append(event.what)
        if event.what.startswith("!"):
            raise ZeroDivisionError(event.what)

    @command
    def say(self, words: list[str], then: str) -> int:
        for what in words:
            self.record(Said(what))
        if then:
            raise Refused(then)
        return len(self.state.said)


WORDS = st.one_of(st.text("ab", max_size=3), st.just("long" * 200), st.just("! a bug in apply"))
COMMANDS = st.tuples(st.lists(WORDS, max_size=4), st.sampled_from(["", "", "refused"]))


@given(st.lists(COMMANDS, max_size=40), st.booleans())
def test_what_failed_has_left_nothing_and_all_else_is_what_a_recovery_makes(
    commands: list[tuple[list[str], str]], is_checked: bool
) -> None:
    definition = definition_of(Talker)
    handler = definition.handler(vars(Talker)["say"])
    live = EntityIncarnation(definition, "t", is_checked=is_checked)
    model: list[str] = []
    recorded: list[bytes] = []

    for words, then in commands:
        fails = bool(then) or any(word.startswith("!") for word in words)
        try:
            events, reply = live.handle(handler, handler.parameters.bind((words, then), {}))
        except (Refused, ZeroDivisionError):
            assert fails
        else:
            model += words
            recorded += [event.data for event in events]
            assert not fails
            assert reply == len(model)
        assert (live.state.said, live.is_lost) == (model, False)

    again: Any = EntityIncarnation(definition, "t")
    for data in recorded:
        again.replay(data)
    assert again.state == live.state
