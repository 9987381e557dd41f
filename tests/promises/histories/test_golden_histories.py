"""The histories of every release replay for ever. Those of a new release are written by this module:

PERSISTASAURUS_WRITE_HISTORIES=0.2 pytest tests/promises/histories
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from histories.kinds import KindsFlow
from persistasaurus.actors.flows.replay import Compatible, Diverges, check_history, recorded
from persistasaurus.actors.testing import FlowTestKit
from persistasaurus.flows import Registry, events
from persistasaurus.store import HeaderChange, NewRecord, SqliteStore, StreamState
from persistasaurus.store.contract import Restore
from persistasaurus.store.tools.export import export_file
from persistasaurus.store.tools.transcript_reader import read_export

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.jsonl"))
FLOWS = [flow for path in FILES for flow in read_export(path)]
REGISTRY = Registry((KindsFlow,))


def written() -> Iterator[tuple[str, FlowTestKit]]:
    """Yield flows of each kind, with all that can happen to them."""
    kit = FlowTestKit(KindsFlow.steps, 1)
    kit.step_succeeds(1)
    kit.advance(seconds=5)
    kit.restart()
    for n in (2, 3, 4):
        kit.step_succeeds(n)
    yield "steps", kit

    kit = FlowTestKit(KindsFlow.failures, 1)
    kit.step_fails(ConnectionError("1"))
    kit.advance(seconds=10)
    kit.step_fails(ConnectionError("2"))
    kit.step_succeeds(1)
    yield "failures", kit

    kit = FlowTestKit(KindsFlow.steps, 1)
    kit.step_fails(ValueError("wrong"))
    kit.retry(by="ada", why="right again")
    kit.step_succeeds(1)
    yield "retried", kit

    kit = FlowTestKit(KindsFlow.time)
    kit.advance(days=40_000)
    yield "time", kit

    kit = FlowTestKit(KindsFlow.signals)
    kit.signal_named("named", "early")
    kit.signal(KindsFlow.declared, "one")
    kit.pause(by="ada", why="holiday")
    kit.signal(KindsFlow.declared, "two")
    kit.step_succeeds("one")
    kit.resume(by="ada")
    kit.step_succeeds("two")
    yield "signals", kit

    kit = FlowTestKit(KindsFlow.branches)
    kit.step_succeeds(2, step=2)
    kit.step_succeeds(9, step=3)
    kit.step_succeeds(1, step=1)
    kit.step_succeeds(1, step=5)
    kit.step_succeeds(2, step=4)
    yield "branches", kit

    kit = FlowTestKit(KindsFlow.doubt, 1)
    kit.restart()
    kit.reconciled(1, happened=True)
    for _ in range(3):
        kit.restart()
    yield "doubt", kit


def write(path: Path, store_path: Path) -> None:
    """Write a file of golden histories."""
    store = SqliteStore.open(store_path, now=lambda: 1_700_000_000_000_000)
    for name, kit in written():
        records = tuple(NewRecord(r.at, events.kind(r.event), events.encode(r.event)) for r in kit.history)
        state = StreamState.ENDED if kit.status in ("completed", "failed") else StreamState.OPEN
        header = HeaderChange(kit.status, state, None)
        store.commit([Restore(name, kit.definition.name, header, records, ())])
    store.close()
    export_file(store_path, path, overwrite=True)


@pytest.mark.skipif("PERSISTASAURUS_WRITE_HISTORIES" not in os.environ, reason="only when a release is made")
def test_histories_are_written(tmp_path: Path) -> None:
    write(HERE / f"{os.environ['PERSISTASAURUS_WRITE_HISTORIES']}.jsonl", tmp_path / "store.db")


def test_each_kind_is_kept() -> None:
    assert {flow.type for flow in FLOWS} == {definition.name for definition in REGISTRY}


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.stream)
def test_every_history_replays(flow: Restore) -> None:
    history = recorded(flow.records)

    for length in range(1, len(history) + 1):  # a crash could have left any of these
        found = check_history(REGISTRY.find(flow.type), flow.stream, history[:length])
        assert isinstance(found, Compatible), found


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.stream)
def test_a_history_of_another_flow_does_not(flow: Restore) -> None:
    others = [definition for definition in REGISTRY if definition.name != flow.type]

    for other in others:
        found = check_history(other, flow.stream, recorded(flow.records))
        assert isinstance(found, Diverges)
        assert found.version
        assert "recorded:" in found.message


def test_what_is_written_now_is_what_was_written_then(tmp_path: Path) -> None:
    write(tmp_path / "now.jsonl", tmp_path / "store.db")

    now = {flow.stream: [r.kind for r in flow.records] for flow in read_export(tmp_path / "now.jsonl")}
    assert {flow.stream: [r.kind for r in flow.records] for flow in read_export(FILES[-1])} == now
