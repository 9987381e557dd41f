"""Who asks a system for what makes no sense hears so at once, and what to write."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from math import nan
from typing import TYPE_CHECKING, Any

import pytest
from persistasaurus import (
    Flow,
    FlowHandle,
    FlowSystem,
    PersistasaurusError,
    StoreError,
    flow,
    query,
    signal,
    step,
    wait_for,
)
from system.doubles import DEAD_MAN_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Waits(Flow):
    @flow
    async def main(self) -> int:
        return await wait_for("number", int)

    @step
    def work(self, x: int) -> int:
        return x

    @signal
    def ask(self, x: int) -> int:
        return x

    @query
    def peek(self) -> int:
        return 1


REQUESTS: list[tuple[Callable[[FlowSystem, FlowHandle[Any]], Any], str]] = [
    (lambda _, handle: handle.signal("number", 1, 2), "takes one value"),
    (lambda _, handle: handle.signal(5), "5 is not a signal"),
    (lambda _, handle: handle.signal(Waits.work, 1), "is not a signal"),
    (lambda _, handle: handle.signal(Waits.peek), "is not a signal"),
    (lambda _, handle: handle.signal(Waits.main, 1), "is not a signal"),
    (lambda _, handle: handle.query("peek"), "and not its name; query_json"),
    (lambda _, handle: asyncio.run(Waits().main()), "system.run"),
    (lambda _, handle: handle.query(Waits.work, 1), "is not a query"),
    (lambda _, handle: handle.result(timeout=timedelta(seconds=2)), "timeout=2"),
    (lambda _, handle: handle.result(timeout="2"), "give seconds"),
    (lambda _, handle: handle.result(timeout=nan), "as long as it takes"),
    (lambda _, handle: handle.signal("number", 1, timeout=timedelta(seconds=2)), "timeout=2"),
    (lambda system, _: system.flow(None), "the id of a flow"),
    (lambda system, _: system.flows(status="run"), "'running'"),
]


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    "ask",
    [
        lambda system, _: system.flow(LONG),
        lambda system, _: system.start(Waits.main, flow_id=LONG),
        lambda system, _: system.flows(after=LONG),
        lambda system, _: system.flows(status=LONG),
        lambda system, _: system.start_json(LONG),
        lambda _, handle: handle.signal(LONG, 1),
        lambda _, handle: handle.signal("number", 1, signal_id=LONG),
        lambda _, handle: handle.query_json(LONG),
        lambda system, _: system.store.read(LONG),
    ],
    ids=range(9),
)
def test_a_refusal_shows_the_ends_of_a_very_long_name_and_not_all_of_it(
    make_system: Callable[..., FlowSystem], ask: Callable[[FlowSystem, FlowHandle[Any]], Any]
) -> None:
    system = make_system(Waits)
    with pytest.raises((PersistasaurusError, StoreError, ValueError)) as refused:
        ask(system, system.start(Waits.main))
    assert len(str(refused.value)) < 1000
    assert "x...x" in str(refused.value)


@pytest.mark.parametrize(("ask", "said"), REQUESTS)
def test_a_request_that_makes_no_sense_is_refused_and_nothing_is_written(
    make_system: Callable[..., FlowSystem], ask: Callable[[FlowSystem, FlowHandle[Any]], Any], said: str
) -> None:
    system = make_system(Waits)
    handle = system.start(Waits.main)

    with pytest.raises((TypeError, ValueError)) as refused:
        ask(system, handle)

    assert said in str(refused.value)
    handle.signal("number", 7)
    assert handle.result(DEAD_MAN_S) == 7


SCRIPT = """
from persistasaurus import Flow, FlowSystem, flow, step

class Charges(Flow):
    @flow
    async def main(self) -> None:
        await self.charge()
        await self.apart()

    @step
    def charge(self) -> None:
        print("charged", flush=True)

    @step(isolated=True)
    def apart(self) -> None: ...

with FlowSystem(":memory:", flows=[Charges]) as system:
    system.run(Charges.main)
"""


def test_a_script_without_its_guard_does_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)

    ran = subprocess.run([sys.executable, path], capture_output=True, check=False, timeout=60, text=True)

    assert ran.stdout.split() == ["charged"]
    assert "script.py:17 opens a FlowSystem whenever" in ran.stderr
