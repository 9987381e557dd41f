"""What the engine does for a flow, counted, stays within bounds. A busy machine changes these counts little.

The bounds are wider than what was measured, so that a busy machine passes. A change that doubles the work of
a step does not.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MEMORY = Path("/dev/shm")
SKIPPED = 75
COUNTS = {
    "flow_statements": 40,  # 35
    "flow_commits": 6.5,  # 6: the start, with the first step, and one for the end of each step
    "flow_switches": 14,  # 7 or 8
    "step_statements": 6,  # 5
    "step_commits": 1.1,  # 1
    "step_switches": 1.5,  # 0.2 or 0.3
    "signal_statements": 28,  # 22 or 23
    "signal_commits": 2.5,  # 2
    "signal_switches": 15,  # 5 to 7
    "new_open_statements": 60,  # 47
    "open_close_statements": 75,  # 62
    "open_threads": 4,  # a carrier and its watchman, the alarms, the requests of other processes
}
"""At most so many for a flow of five steps, a step of a long flow, a signal to a passivated flow, and to open
and close a system without flows, at first and again. The syncs of that are in the tests of the store."""
TIMES = {"long": 50, "many": 60, "wide": 60}
"""At most so many times what bare SQLite takes for the same rows is the processor's time of a step, where no
disk is waited for: up to 15."""


def measured(*command: str) -> Any:
    """Run a measurement in a process of its own, which nothing else runs in."""
    done = subprocess.run(
        [sys.executable, HERE / command[0], *command[1:]], capture_output=True, text=True, check=False
    )
    if done.returncode == SKIPPED:
        pytest.skip(json.loads(done.stdout))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["figures"]


def test_a_flow_a_step_a_signal_and_an_opening_take_few_statements_commits_and_context_switches(
    tmp_path: Path,
) -> None:
    counts = measured("measures.py", "counts", str(tmp_path), "quick")

    assert counts.keys() == COUNTS.keys()
    assert {name: value for name, value in counts.items() if value > COUNTS[name]} == {}


@pytest.mark.skipif(not MEMORY.is_dir(), reason=f"there is no {MEMORY}")
@pytest.mark.parametrize("workload", TIMES)
def test_a_step_takes_the_processor_not_much_longer_than_its_rows(workload: str) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        figures = measured("workloads.py", "engine", folder, "quick", workload)[workload]

    assert figures["cpu_us"] / figures["bare_us"] <= TIMES[workload]
