"""What blocks the engine is named by `doctor`, `list` and `explain`: while it does, and when given up."""

from __future__ import annotations

import json
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from cli.test_doctor import checks
from persistasaurus import Flow, FlowSystem, SupervisorRules, flow, query, step, wait_for
from persistasaurus.store.files.black_box import present_in
from system.doubles import Gate, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cli.conftest import Ask

NEVER = 3600.0


class Blocks(Flow):
    gate: Gate

    @flow(name="blocks")
    async def body(self) -> None:
        Blocks.gate()

    @flow(name="waits")
    async def waits(self) -> None:
        await wait_for("n", int)

    @query
    def look(self) -> None:
        Blocks.gate()

    @flow(name="blocks the loop")
    async def loop(self) -> None:
        await self.spin()

    @step
    async def spin(self) -> None:
        Blocks.gate()


@pytest.fixture
def gate() -> Gate:
    Blocks.gate = Gate()
    return Blocks.gate


@pytest.fixture
def patient(store: Path, gate: Gate) -> Iterator[FlowSystem]:
    """A system that reports at once what blocks, and gives nothing up."""
    with FlowSystem(store, flows=[Blocks], rules=rules(NEVER)) as system:
        yield system
        gate.open()


@pytest.fixture
def strict(store: Path, gate: Gate) -> Iterator[FlowSystem]:
    """A system that gives up what blocks at once."""
    with FlowSystem(store, flows=[Blocks], rules=rules(0.5)) as system:
        yield system
        gate.open()


def rules(park_s: float) -> SupervisorRules:
    return SupervisorRules(report_blocking_s=0.3, park_blocking_s=park_s)


def in_background(call: Any) -> None:
    Thread(target=call, daemon=True).start()


def listed(ask: Ask, flow_id: str) -> dict[str, Any]:
    found = [json.loads(line) for line in ask("list", "--json").stdout.splitlines()]
    return next(one for one in found if one["flow_id"] == flow_id)


def test_a_flow_that_blocks_is_named_for_as_long_as_it_does(
    ask: Ask, store: Path, patient: FlowSystem, gate: Gate
) -> None:
    in_background(lambda: patient.start(Blocks.body, flow_id="culprit"))
    wait_until(lambda: present_in(store).blocking)

    found = checks(ask)
    assert found["blocking"]["state"] == "warn"
    assert "culprit holds a thread" in found["blocking"]["text"]
    assert "doubles.py:" in found["blocking"]["text"] or "test_blocking.py:" in found["blocking"]["text"]
    assert found["lost threads"]["state"] == "ok"

    gate.open()
    wait_until(lambda: present_in(store).blocking == ())
    assert checks(ask)["blocking"]["state"] == "ok"
    assert patient.flow("culprit").result(timeout=20) is None


def test_a_query_that_blocks_is_named_in_all_three(ask: Ask, store: Path, patient: FlowSystem) -> None:
    handle = patient.start(Blocks.waits, flow_id="asked")
    in_background(lambda: handle.query(Blocks.look))
    wait_until(lambda: present_in(store).blocking)

    assert "'look' of asked holds a thread" in checks(ask)["blocking"]["text"]
    assert "test_blocking.py:" in listed(ask, "asked")["blocking"]
    assert "asked blocks, at test_blocking.py:" in ask("list").stdout
    findings = json.loads(ask("explain", "asked", "--json").stdout)["findings"]
    assert findings[0]["kind"] == "blocking"
    assert "'look' holds a thread of the engine" in ask("explain", "asked").stdout


def test_a_step_that_blocks_the_loop_is_named(ask: Ask, store: Path, patient: FlowSystem) -> None:
    patient.start(Blocks.loop, flow_id="looping")
    wait_until(lambda: present_in(store).blocking)

    assert "'spin' of looping holds a thread" in checks(ask)["blocking"]["text"]
    assert listed(ask, "looping")["blocking"]


def test_a_flow_that_was_parked_for_it_is_named_with_the_threads_that_are_lost(
    ask: Ask, store: Path, strict: FlowSystem, gate: Gate
) -> None:
    in_background(lambda: strict.start(Blocks.body, flow_id="culprit"))
    wait_until(lambda: present_in(store).lost_threads)
    wait_until(lambda: strict.flow("culprit").status == "parked")

    found = checks(ask)
    assert found["parked: blocking"]["text"] == "culprit"
    assert "explain culprit" in found["parked: blocking"]["todo"]
    assert found["lost threads"]["text"] == "1"
    assert found["blocking"]["state"] == "ok"
    assert listed(ask, "culprit")["reason"] == "blocking"
    assert "parked (blocking)" in ask("list").stdout
    assert strict.statistics().lost_threads == 1

    gate.open()
    wait_until(lambda: present_in(store).lost_threads == 0)
    assert checks(ask)["lost threads"]["state"] == "ok"


def test_what_an_engine_said_that_is_gone_is_not_believed(
    ask: Ask, store: Path, strict: FlowSystem, gate: Gate
) -> None:
    in_background(lambda: strict.start(Blocks.body, flow_id="culprit"))
    wait_until(lambda: present_in(store).lost_threads)
    wait_until(lambda: strict.flow("culprit").status == "parked")
    strict.close()

    assert checks(ask)["lost threads"]["state"] == "ok"
    assert listed(ask, "culprit")["reason"] == "blocking"
