"""Limits are the system's: they are neither narrower nor wider at its door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowParked,
    Limits,
    PayloadError,
    PayloadLimits,
    SignalRejected,
    flow,
    signal,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus import FlowSystem

MEBIBYTE = "x" * 2**20


class Measures(Flow):
    @flow
    async def measure(self, text: str) -> int:
        return len(text) + await self.more()

    @signal
    def more(self, text: str) -> int:
        return len(text)


def test_a_system_with_wider_limits_takes_larger_payloads(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Measures, limits=Limits(payload=PayloadLimits(size=4 * 2**20)))

    handle = system.start(Measures.measure, MEBIBYTE)
    handle.signal(Measures.more, MEBIBYTE)

    assert handle.result(30) == 2 * 2**20


def test_a_flow_whose_history_takes_too_much_room_is_parked(make_system: Callable[..., FlowSystem]) -> None:
    class Hoards(Flow):
        @flow
        async def hoard(self) -> None:
            for _ in range(9):
                await wait_for("word", str)

    system = make_system(Hoards, limits=Limits(history_bytes=1000))
    handle = system.start(Hoards.hoard)
    for _ in range(3):
        handle.signal("word", "x" * 400)

    with pytest.raises(FlowParked) as caught:
        handle.result(30)
    assert caught.value.reason == "history_limit"


def test_a_system_with_the_usual_limits_refuses_them_with_nothing_written(
    make_system: Callable[..., FlowSystem],
) -> None:
    system: Any = make_system(Measures)
    handle = system.start(Measures.measure, "short")

    with pytest.raises(PayloadError, match="limit"):
        system.start(Measures.measure, MEBIBYTE)
    with pytest.raises(SignalRejected, match="limit"):
        handle.signal(Measures.more, MEBIBYTE)

    assert [header.stream for header in system.flows()] == [handle.id]
    assert system.store.inbox(handle.id) == []
