"""Instants where clocks are put back or forward come back as the instants that they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from persistasaurus.flows.errors import PayloadError
from persistasaurus.flows.values.codec import Codec

BERLIN = ZoneInfo("Europe/Berlin")
TWICE = datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN)
NEVER = datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN)


class Meeting(msgspec.Struct):
    at: datetime
    others: list[datetime]


class Odd(msgspec.Struct, eq=False):
    at: datetime


@pytest.mark.parametrize("at", [TWICE, TWICE.replace(fold=1), NEVER, NEVER.replace(fold=1)])
def test_an_instant_in_the_hour_that_comes_twice_or_never_can_be_stored(at: datetime) -> None:
    _, alone = Codec(datetime, "alone").seal(at)
    _, within = Codec(Meeting, "within").seal(Meeting(at, [at, at]))

    assert alone.astimezone(UTC) == at.astimezone(UTC)
    assert [i.astimezone(UTC) for i in (within.at, *within.others)] == [at.astimezone(UTC)] * 3


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Any, TWICE),  # comes back as text
        (Odd, Odd(TWICE.replace(month=5))),  # is equal to nothing
        (list[Any], [TWICE]),
        (
            datetime,
            TWICE.replace(tzinfo=timezone(timedelta(seconds=90))),
        ),  # there are no seconds in an offset
    ],
)
def test_what_does_not_come_back_equal_is_refused_all_the_same(annotation: Any, value: Any) -> None:
    with pytest.raises(PayloadError):
        Codec(annotation, "it").seal(value)
