"""Asking for a result without waiting: whoever has ended answers, and nobody else."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowFailed,
    FlowHandle,
    FlowNotFound,
    FlowParked,
    FlowSystem,
    flow,
    wait_for,
)
from system.doubles import DEAD_MAN_S, supervisor_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Ended(Flow):
    @flow(name="ended")
    async def main(self, how: str) -> int:
        if how == "fails":
            raise ValueError("as asked")
        if how == "waits":
            return await wait_for("number", int)
        return 7


async def in_a_moment(handle: FlowHandle[Any], seconds: float) -> Any:
    return await handle.result_async(timeout=seconds)


async def within(handle: FlowHandle[Any], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await handle


ASKING: dict[str, Callable[[FlowHandle[Any]], Any]] = {
    "result(0)": lambda handle: handle.result(timeout=0),
    "result(-1)": lambda handle: handle.result(timeout=-1),
    "result_async(0)": lambda handle: asyncio.run(in_a_moment(handle, 0)),
}


@pytest.fixture(params=ASKING)
def ask(request: pytest.FixtureRequest) -> Callable[[FlowHandle[Any]], Any]:
    return ASKING[request.param]


def test_a_flow_that_has_ended_answers_at_once(
    make_system: Callable[..., FlowSystem], path: Path, ask: Callable[[FlowHandle[Any]], Any]
) -> None:
    system = make_system(Ended, path=path)
    completed, failed = system.start(Ended.main, "completes"), system.start(Ended.main, "fails")
    assert completed.result(DEAD_MAN_S) == 7
    assert completed.status == "completed"
    assert ask(completed) == 7
    wait_until(lambda: failed.status == "failed")
    with pytest.raises(FlowFailed, match="as asked"):
        ask(failed)

    system.close()
    again = make_system(Ended, path=path)
    assert ask(again.flow(completed.id)) == 7


def test_whoever_started_it_has_the_result_without_a_look_into_the_store(
    make_system: Callable[..., FlowSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = make_system(Ended)
    wait_until(lambda: "new" not in supervisor_of(system)._harmful)  # all that is parked was looked at
    handle = system.start(Ended.main, "completes")
    monkeypatch.setattr(system.client, "ask", lambda _: pytest.fail("the supervisor is asked"))
    monkeypatch.setattr(system.store, "header", lambda _: pytest.fail("the store is asked"))

    assert handle.result(DEAD_MAN_S) == 7
    assert handle.result(timeout=0) == 7
    assert asyncio.run(within(handle, 0)) == 7


def test_as_soon_as_the_end_is_durable_it_is_told(make_system: Callable[..., FlowSystem]) -> None:
    system = make_system(Ended)
    for _ in range(50):
        handle = system.start(Ended.main, "completes")
        deadline = time.monotonic() + DEAD_MAN_S
        while handle.status != "completed":
            assert time.monotonic() < deadline
        assert handle.result(timeout=0) == 7


def test_one_that_goes_on_is_not_waited_for(
    make_system: Callable[..., FlowSystem], ask: Callable[[FlowHandle[Any]], Any]
) -> None:
    handle = make_system(Ended).start(Ended.main, "waits")

    with pytest.raises(TimeoutError):
        ask(handle)

    handle.signal("number", 3)
    assert handle.result(DEAD_MAN_S) == 3


def test_one_that_does_not_exist_is_said_not_to(
    make_system: Callable[..., FlowSystem], ask: Callable[[FlowHandle[Any]], Any]
) -> None:
    nobody: FlowHandle[Any] = FlowHandle(make_system(Ended).client, "nobody", "ended")

    with pytest.raises(FlowNotFound):
        ask(nobody)


@pytest.mark.parametrize("ask", [ASKING["result(0)"], ASKING["result_async(0)"]])
def test_one_that_is_parked_says_so_at_once(
    make_system: Callable[..., FlowSystem], path: Path, ask: Callable[[FlowHandle[Any]], Any]
) -> None:
    before = make_system(Ended, path=path)
    before.start(Ended.main, "waits", flow_id="a")
    before.close()
    handle = make_system(path=path).flow("a")
    handle.signal("number", 3)
    wait_until(lambda: handle.status == "parked")

    with pytest.raises(FlowParked, match="unknown_flow"):
        ask(handle)


@pytest.mark.parametrize(
    "ask", [lambda handle: asyncio.run(in_a_moment(handle, 0.01)), lambda handle: handle.result(timeout=0.01)]
)
def test_a_timeout_that_runs_out_just_when_the_end_is_there_still_gives_it(
    make_system: Callable[..., FlowSystem],
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[FlowHandle[Any]], Any],
) -> None:
    system = make_system(Ended)
    handle = system.start(Ended.main, "completes")
    handle.result(DEAD_MAN_S)
    # As if it were still at work, and said nothing in time.
    monkeypatch.setattr(system.client, "is_active", lambda _: True)
    monkeypatch.setattr(system.client, "ask", lambda _: None)

    assert ask(handle) == 7
