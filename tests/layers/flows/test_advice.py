"""Mistakes that a newcomer makes are answered with what to write, where they are made."""

from __future__ import annotations

import gc
import logging
import re
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from persistasaurus import Flow, FlowDefinitionError, FlowFailed, FlowSystem, Retry, flow, signal, sleep, step
from persistasaurus.actors.steps.attempts import _Key
from persistasaurus.actors.testing import FlowTestKit
from persistasaurus.flows.values.annotations import refuse_unstorable
from persistasaurus.flows.values.models import refusal
from pydantic import AliasPath, BaseModel, ConfigDict, Field, field_serializer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


# ------------------------------------------------------------------------------------------ options
@pytest.mark.parametrize(
    ("wrong", "instead"),
    [
        (lambda: Retry(3), "Retry(max_attempts=3)"),
        (lambda: Retry(timedelta(1)), "Retry(max_attempts=...)"),
        (lambda: Retry(attempts=3), "Retry(max_attempts=3)"),
        (lambda: Retry(initail=3), "Retry(initial=3)"),
        (lambda: Retry(zzz=3), "It takes max_attempts, initial"),
    ],
)
def test_options_of_a_policy_say_what_to_write(wrong: Callable[[], Any], instead: str) -> None:
    with pytest.raises(FlowDefinitionError, match=re.escape(instead)):
        wrong()


# ------------------------------------------------------------------------------------------- bodies
class Mistaken(Flow):
    how: Callable[[Any], Any]

    @flow(name="mistaken")
    async def main(self) -> Any:
        return type(self).how(self)

    @step
    def count(self, n: int) -> int:
        return n

    @signal
    def confirm(self, by: str) -> str:
        return by


class Waiting(Flow):
    @flow(name="waiting")
    async def main(self) -> Any:
        return await self.confirm  # without the call

    @signal
    def confirm(self, by: str) -> str:
        return by


@pytest.mark.parametrize(
    "how",
    [
        lambda self: self.count(1) > 0,
        lambda self: self.count(1) >= 0,
        lambda self: self.count(1) + 1,
        lambda self: 1 - self.count(1),
        lambda self: -self.count(1),
        lambda self: int(self.count(1)),
        lambda self: len(self.count(1)),
        lambda self: 3 in self.count(1),
        lambda self: range(self.count(1)),
        lambda self: self.confirm() % 2,
    ],
)
def test_a_result_that_was_not_awaited_is_no_value(how: Callable[[Any], Any]) -> None:
    Mistaken.how = how
    with (
        FlowSystem(":memory:", flows=[Mistaken]) as system,
        pytest.raises(FlowFailed, match=r"write `\(await \.\.\.\)` around the call"),
    ):
        system.run(Mistaken.main)


def test_a_signal_that_is_awaited_without_being_called_is_written_out() -> None:
    with (
        FlowSystem(":memory:", flows=[Waiting]) as system,
        pytest.raises(FlowFailed, match=r"test_advice.py:\d+.*write `await self.confirm\(\)`"),
    ):
        system.run(Waiting.main)


def test_a_stop_iteration_has_the_line_it_comes_from() -> None:
    Mistaken.how = lambda _: next(iter([]))
    with (
        FlowSystem(":memory:", flows=[Mistaken]) as system,
        pytest.raises(FlowFailed, match=r"failed at test_advice.py:\d+: RuntimeError"),
    ):
        system.run(Mistaken.main)


class Leaving(Flow):
    ended: bool

    @flow(name="leaving")
    async def main(self, kind: str) -> str:
        async for _ in {"plain": self.plain, "raises": self.raising}.get(kind, self.durable)():
            if kind == "held":
                await sleep(1000)
            break
        await sleep(0)
        return "went on"

    async def durable(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await sleep(1)

    async def raising(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise ConnectionError

    async def plain(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            Leaving.ended = True


def test_an_async_generator_that_is_left_while_its_finally_awaits_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), FlowSystem(":memory:", flows=[Leaving]) as system:
        assert system.run(Leaving.main, "durable", flow_id="a") == "went on"

    (told,) = caplog.messages
    assert "flow 'a': the body has left durable(), an async generator at test_advice.py:" in told
    assert "contextlib.aclosing(...)" in told


def test_one_whose_finally_awaits_nothing_is_closed_and_nothing_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Leaving.ended = False
    with caplog.at_level(logging.WARNING), FlowSystem(":memory:", flows=[Leaving]) as system:
        assert system.run(Leaving.main, "plain") == "went on"

    assert Leaving.ended
    assert not caplog.messages


def test_one_that_its_flow_still_has_when_it_is_dropped_is_closed_and_nothing_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kit = FlowTestKit(Leaving.main, "held")
    assert kit.decided.kinds == ["flow_started", "timer_set"]
    with caplog.at_level(logging.WARNING):
        kit.restart()

        del kit  # what is collected is not driven any more
        gc.collect()

    assert not caplog.messages


def test_what_a_finally_raises_in_an_async_generator_is_told_as_python_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    with FlowSystem(":memory:", flows=[Leaving]) as system:
        assert system.run(Leaving.main, "raises") == "went on"

    assert told == [ConnectionError]


def test_an_attempt_is_shown_in_words() -> None:
    assert str(_Key("a", (3, 1))) == "step 3 of flow 'a', attempt 1"
    assert str(_Key("a", (3, -1))) == "step 3 of flow 'a', reconciling attempt 1"


# -------------------------------------------------------------------------------------------- types
class Cat(BaseModel):
    name: str


class Dog(BaseModel):
    name: str


@dataclass
class Pair:
    a: int


class Box(msgspec.Struct):
    a: int


@pytest.mark.parametrize(
    ("union", "said"),
    [
        (
            Cat | Dog,
            "Cat | Dog cannot be stored, as its members cannot be distinguished in JSON: make a model",
        ),
        (list[Cat | int], "Cat | int cannot be stored, as its members cannot be distinguished"),
        (list[Pair | Box] | None, "Pair | Box cannot be stored, as its members cannot be distinguished"),
        (
            Pair | Box,
            "distinguished in JSON: derive its members from msgspec.Struct",
        ),
        (
            dict[str, list[int] | set[int]],
            "list | set cannot be stored, as its members cannot be distinguished",
        ),
    ],
)
def test_members_of_a_union_that_cannot_be_told_apart_are_told_in_our_own_words(
    union: Any, said: str
) -> None:
    with pytest.raises(FlowDefinitionError, match=re.escape(said)):
        refuse_unstorable(union, "a value")


class ByPath(BaseModel):
    a: int = Field(validation_alias=AliasPath("x", 0))


class ByPairs(BaseModel):
    by: dict[tuple[int, int], int]


class AsText(BaseModel):
    a: int

    @field_serializer("a")
    def write(self, a: int) -> str:
        return f"n{a}"


class Raw(BaseModel):
    data: bytes


class InBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ByPath, "ByPath.a is read by an AliasPath, but not written by one"),
        (ByPairs, "ByPairs.by is a dict with keys that JSON cannot hold"),
        (AsText, "the field 'a' of AsText is written as string, and read as integer"),
    ],
)
def test_models_that_do_not_read_what_they_write_are_refused_at_the_definition(model: Any, said: str) -> None:
    assert said in str(refusal(model))


class Storing(Flow):
    @flow(name="storing")
    async def main(self, kind: str) -> int:
        data = b"\xff"
        return await (self.raw(Raw(data=data)) if kind == "raw" else self.based(InBase64(data=data)))

    @step
    def raw(self, raw: Raw) -> int:
        raise AssertionError(raw)

    @step
    def based(self, based: InBase64) -> int:
        return based.data[0]


def test_bytes_of_a_model_that_are_no_text_are_refused_with_what_to_write() -> None:
    with FlowSystem(":memory:", flows=[Storing]) as system:
        with pytest.raises(
            FlowFailed, match='ConfigDict\\(ser_json_bytes="base64", val_json_bytes="base64"\\)'
        ):
            system.run(Storing.main, "raw")
        assert system.run(Storing.main, "based") == 255
