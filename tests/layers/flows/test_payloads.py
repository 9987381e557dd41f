# ruff: noqa: BLE001 - builders, of values and errors of any type
"""Values come back equal or are refused at once, with the path; nothing is found out at recovery."""

import enum
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from persistasaurus.flows import PayloadLimits
from persistasaurus.flows.errors import PayloadError
from persistasaurus.flows.values.codec import Codec, check, codec_of


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: Any = None


class Record(msgspec.Struct):
    x: int


class Text(str):
    __slots__ = ()


class Incomparable(msgspec.Struct):
    x: int

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


WHEN = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
TYPED = [
    (tuple[int, ...], (1, 2)),
    (set[int], {1}),
    (frozenset[str], frozenset("a")),
    (datetime, WHEN),
    (datetime, WHEN.replace(tzinfo=None)),
    (date, WHEN.date()),
    (timedelta, timedelta(seconds=1.5)),
    (Decimal, Decimal("1.50")),
    (uuid.UUID, uuid.UUID(int=5)),
    (Colour, Colour.RED),
    (bytes, b"\x00\xff"),
    (Point, Point(1)),
    (Record, Record(1)),
    (dict[int, str], {1: "a"}),
]


@pytest.mark.parametrize(("kind", "value"), TYPED, ids=lambda v: getattr(v, "__name__", None))
def test_a_value_comes_back_under_its_own_annotation(kind, value) -> None:
    _, back = Codec(kind, "it").seal(value)

    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(("kind", "value"), TYPED, ids=lambda v: getattr(v, "__name__", None))
def test_the_same_value_is_refused_under_any_with_its_path(kind, value) -> None:
    with pytest.raises(PayloadError) as caught:
        Codec(Any, "it").seal({"a": [0, value]})

    assert caught.value.path == "$['a'][1]"


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", 1j, object(), {(1, 2): 3}, Text, lambda: 0],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_is_refused_with_its_path(value) -> None:
    for kind in (Any, list[Any]):
        with pytest.raises(PayloadError, match=r"\$\[1\]"):
            Codec(kind, "it").seal([1, value])


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63), 2**64 - 1, 10**30, -(2**70), 1.5, "ü", [], {}, [{"a": [None]}]]
)
def test_plain_values_come_back_under_any(value) -> None:
    assert Codec(Any, "it").seal(value)[1] == value


def test_an_annotation_is_held_to() -> None:
    for kind, value in [(int, True), (int, "1"), (float, float("nan")), (str, None), (list[int], [1.5])]:
        with pytest.raises(PayloadError):
            Codec(kind, "it").seal(value)
    assert Codec(float, "it").seal(1) == (b"1", 1.0)
    with pytest.raises(PayloadError, match="<= 5"):
        Codec(Annotated[int, msgspec.Meta(le=5)], "it").seal(6)


def test_a_value_that_cannot_be_compared_is_refused() -> None:
    with pytest.raises(PayloadError, match="no comparison"):
        Codec(Incomparable, "it").seal(Incomparable(1))
    with pytest.raises(PayloadError):
        Codec(Any, "it").seal([Incomparable(1), {1, 2}])


def nested(depth):
    value = []
    for _ in range(depth - 1):
        value = [value]
    return value


def on_a_small_stack(function):
    raised = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    size = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    return raised[0] if raised else None


@pytest.mark.parametrize("depth", [64, 65, 900, 2000])
def test_64_levels_are_allowed_on_any_stack(depth) -> None:
    error = on_a_small_stack(lambda: Codec(Any, "it").seal(nested(depth)))

    if depth == 64:
        assert error is None
    else:
        assert isinstance(error, PayloadError)


def test_brackets_within_text_do_not_count() -> None:
    text = '[{"\\' * 1000
    assert Codec(Any, "it").seal([text, {"a": text}])[1][0] == text


def test_limits_are_kept_to_the_byte() -> None:
    limits = PayloadLimits(size=100, depth=3)
    check(b"x" * 100, "it", limits)
    with pytest.raises(PayloadError, match="101 bytes exceed the limit of 100"):
        check(b"x" * 101, "it", limits)
    check(b"[[[1]]]", "it", limits)
    with pytest.raises(PayloadError, match="3 levels"):
        check(b"[[[[1]]]]", "it", limits)
    with pytest.raises(ValueError, match="depth"):
        PayloadLimits(depth=10_000)


def test_a_path_is_told_as_deep_as_the_culprit_lies() -> None:
    with pytest.raises(PayloadError) as caught:
        Codec(Any, "step 'a'").seal({"orders": [Point(1, {"tags": {1, 2}})]})

    assert "step 'a': the value at $['orders'][0]" in str(caught.value)
    with pytest.raises(PayloadError) as caught:
        Codec(list[Point], "step 'a'").seal([Point(1, {"tags": {1, 2}})])
    assert caught.value.path == "$[0].y['tags']"


def test_codecs_are_made_once() -> None:
    assert codec_of(list[int], "it") is codec_of(list[int], "it")
    assert codec_of(Annotated[int, msgspec.Meta(extra={"a": []})], "it").seal(1)[1] == 1
