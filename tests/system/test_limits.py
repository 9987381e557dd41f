"""Limits are the system's: they are neither narrower nor wider at its door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import Flow, Limits, PayloadError, PayloadLimits, SignalRejected, flow, signal

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
