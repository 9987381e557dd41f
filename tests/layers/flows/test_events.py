# ruff: noqa: E501, ISC004 - builders, of values and errors of any type
"""The bytes of every kind of event are pinned: histories of every release must replay for ever."""

import os
import random

import msgspec
import pytest
from persistasaurus.flows import Flow, Limits, events, flow, step
from stories import Story

RAW = msgspec.Raw(b'{"a":[1,null]}')
FAILURE = events.Failure("ValueError", "no", "Traceback ...")
GOLDEN = [
    (events.FlowStarted("F", RAW, 42), b'{"type":"flow_started","flow":"F","args":{"a":[1,null]},"seed":42}'),
    (events.StepCompleted(1, RAW), b'{"type":"step_completed","step":1,"result":{"a":[1,null]}}'),
    (
        events.StepFailed(1, 2, FAILURE, 9),
        b'{"type":"step_failed","step":1,"attempt":2,"error":{"type":"ValueError","message":"no",'
        b'"traceback":"Traceback ..."},"retry_at":9}',
    ),
    (
        events.StepFailed(1, 2, events.Failure("E", "")),
        b'{"type":"step_failed","step":1,"attempt":2,"error":{"type":"E","message":""}}',
    ),
    (events.StepAttempted(1, 2), b'{"type":"step_attempted","step":1,"attempt":2}'),
    (events.StepInterrupted(1), b'{"type":"step_interrupted","step":1}'),
    (events.TimerFired(1), b'{"type":"timer_fired","timer":1}'),
    (
        events.SignalReceived("s", "k", RAW),
        b'{"type":"signal_received","name":"s","key":"k","args":{"a":[1,null]}}',
    ),
    (events.Paused(), b'{"type":"paused"}'),
    (events.Paused("ada", "why"), b'{"type":"paused","by":"ada","why":"why"}'),
    (events.Resumed("ada", "why"), b'{"type":"resumed","by":"ada","why":"why"}'),
    (
        events.Parked("poisoned", "m", "t"),
        b'{"type":"parked","reason":"poisoned","message":"m","traceback":"t"}',
    ),
    (events.Repaired(), b'{"type":"repaired"}'),
    (
        events.Repaired(5, "ada", "why", (3, 4)),
        b'{"type":"repaired","since":5,"by":"ada","why":"why","retried":[3,4]}',
    ),
    (
        events.StepStarted(1, "s", RAW, "f.py:1"),
        b'{"type":"step_started","step":1,"name":"s","args":{"a":[1,null]},"line":"f.py:1"}',
    ),
    (
        events.StepScheduled(1, "s", RAW, 9, "f.py:1"),
        b'{"type":"step_scheduled","step":1,"name":"s","args":{"a":[1,null]},"due":9,"line":"f.py:1"}',
    ),
    (
        events.TimerSet(1, 9, True, "f.py:1"),
        b'{"type":"timer_set","timer":1,"due":9,"until":true,"line":"f.py:1"}',
    ),
    (events.TimerSet(1, 9), b'{"type":"timer_set","timer":1,"due":9}'),
    (
        events.SignalAwaited("s", 3, "f.py:1"),
        b'{"type":"signal_awaited","name":"s","step":3,"line":"f.py:1"}',
    ),
    (events.FlowCompleted(RAW), b'{"type":"flow_completed","result":{"a":[1,null]}}'),
    (
        events.FlowFailed(FAILURE, 3),
        b'{"type":"flow_failed","error":{"type":"ValueError","message":"no","traceback":"Traceback ..."},"step":3}',
    ),
]


@pytest.mark.parametrize(("event", "data"), GOLDEN, ids=lambda v: getattr(type(v), "__name__", None))
def test_the_bytes_of_an_event_are_pinned(event, data) -> None:
    assert events.encode(event) == data
    assert events.encode(events.decode(data)) == data
    assert f'"type":"{events.kind(event)}"'.encode() in data


def test_every_kind_is_pinned() -> None:
    assert {type(event) for event, _ in GOLDEN} == set(events.Event.__subclasses__())


def test_fields_of_later_releases_are_ignored() -> None:
    assert events.decode(b'{"type":"timer_fired","timer":1,"new":[1]}') == events.TimerFired(1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b'{"type":"unheard_of"}',
        b'{"step":1}',
        b'{"type":"step_completed"}',
        b'{"type":"timer_fired","timer":"x"}',
        b"\xff\xfe",
        b'{"type":"paused","by":"\xff"}',
        b"[" * 100_000,
        b'{"type":"step_completed","step":1,"result":' + b"[" * 5000,
        b'{"type":"paused"}{}',
    ],
)
def test_what_is_no_event_is_an_error_of_msgspec(data) -> None:
    with pytest.raises(msgspec.MsgspecError):
        events.decode(data)


@pytest.mark.parametrize("seed", range(5))
def test_random_damage_is_an_error_of_msgspec_or_another_event(seed) -> None:
    rng = random.Random(seed)
    for _, data in GOLDEN:
        for _ in range(200):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            try:
                event = events.decode(bytes(damaged))
            except msgspec.MsgspecError:
                continue
            assert isinstance(event, events.Event)
    with pytest.raises(msgspec.MsgspecError):
        events.decode(os.urandom(1000))


class Long(Flow):
    @flow
    async def go(self) -> None:
        for _ in range(40):
            await self.do()

    @step
    def do(self) -> None: ...


def test_a_flow_is_parked_at_its_limit_and_warned_of_at_a_fifth() -> None:
    story = Story(Long.go, limits=Limits(events=50)).start()
    while len(story.log) < 10:
        assert not story.warnings
        story.run()
    assert "10 events" in story.warnings[0]
    story.finish()

    assert len(story.warnings) == 1
    assert story.machine.parked.reason == "history_limit"
    assert "raise Limits" in story.machine.parked.message
    assert not story.runs
    assert not story.machine.is_busy
    assert story.fork().status == "parked"
    version = story.machine.version
    assert story.send("any", 1) == []
    assert story.machine.version == version


def test_bytes_are_limited_too() -> None:
    story = Story(Long.go, limits=Limits(history_bytes=1000)).start()
    story.machine.history_bytes = 200
    story.run()
    assert story.warnings
    story.machine.history_bytes = 1000
    story.run()

    assert story.machine.parked.reason == "history_limit"
