"""An operation on the disk fails beneath a running system, once, thrice or for a while: nobody hears a lie.

What the store alone makes of it is in `tests/layers/store/test_failures.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw
import pytest
from conformance.recorder import Recorder, full, sync_error, write_error
from faults.workloads import short_logs
from persistasaurus import FlowSystem, StoreUnavailable, SupervisorRules
from persistasaurus.actors.flows.active_flow import RestartRules
from persistasaurus.actors.runtime.primitives import SystemClock
from persistasaurus.store import SqliteStore, StoreReader
from system.reference import Reference, check, drive, insist

if TYPE_CHECKING:
    from pathlib import Path

RULES = SupervisorRules(idle_s=0.005, restart=RestartRules(initial_s=0.001, max_restarts=3))
FAULTS = {
    "write of the log": ("wal", "write", write_error),
    "write without room": ("wal", "write", full),
    "sync of the log": ("wal", "sync", sync_error),
    "write of the file": ("db", "write", write_error),
    "sync of the file": ("db", "sync", sync_error),
    "opening of the log": ("wal", "open", lambda: apsw.CantOpenError("injected")),
}


@pytest.fixture
def recorder():
    vfs = Recorder()
    with short_logs():
        yield vfs
    vfs.unregister()


def opened(path: Path, recorder: Recorder) -> FlowSystem:
    store = SqliteStore.open(path, now=SystemClock().now, vfs=recorder.vfs_name)
    return FlowSystem(store=store, flows=[Reference], rules=RULES)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_an_operation_that_fails_changes_nothing(tmp_path, recorder, fault, times):
    path = tmp_path / "flows.db"
    with opened(path, recorder) as system:
        for number, at in enumerate((1, 2, 3, 7, 12)):
            recorder.fail(*FAULTS[fault], at=at, times=times)
            handle = drive(system, f"flow-{number}")
            check(handle)
            recorder.forgive()

    with StoreReader.open(path) as reader:
        assert reader.verify() == []


@pytest.mark.parametrize("fault", ["write without room", "sync of the log"])
def test_while_it_fails_for_good_everything_is_refused_and_then_goes_on(tmp_path, recorder, fault):
    path = tmp_path / "flows.db"
    with opened(path, recorder) as system:
        check(drive(system, "before"))
        recorder.fail(*FAULTS[fault], times=10**6)

        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                system.start(Reference.main, 1, flow_id="meanwhile")
        assert "before" in {header.stream for header in system.store.headers()}
        recorder.forgive()

        insist(lambda: system.start(Reference.main, 1, flow_id="as soon as it can"))
        check(drive(system, "meanwhile"))
        check(drive(system, "afterwards"))
    with StoreReader.open(path) as reader:
        assert reader.verify() == []
