"""How large the tests are, and how each failure can be seen again.

    pytest -n 2                                                  # every change
    PERSISTASAURUS_LONG=1 pytest -n 2 -rP tests/attacks/simulation       # a campaign; or another folder
    PERSISTASAURUS_SEED=7 pytest tests/attacks/simulation  # from another seed, or the one that was told

Each size has a variable of its own, too, which wins.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

LONG = {
    "PERSISTASAURUS_CUTS": "0",
    "PERSISTASAURUS_EXAMPLES": "2000",
    "PERSISTASAURUS_FLIPS": "20000",
    "PERSISTASAURUS_IMAGES": "500000",
    "PERSISTASAURUS_INPUTS": "1000000",
    "PERSISTASAURUS_KILLS": "2000",
    "PERSISTASAURUS_RUNS": "100000",
    "PERSISTASAURUS_SOAK": "3600",
}
"""What a long campaign is; the tests read it when they are imported, which comes after this."""

if "PERSISTASAURUS_LONG" in os.environ:
    for name, size in LONG.items():
        os.environ.setdefault(name, size)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a shell has put into the background. Processes that are sent a Ctrl-C inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names of tests that are others in each process: they can be neither repeated nor distributed."""
    changing = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if changing:
        raise pytest.UsageError("These tests are named after an address in memory: " + ", ".join(changing))


def pytest_collection_finish() -> None:
    """Have collections of garbage, which some tests ask for, pass over what the session has imported."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("replay", replay(item.nodeid, os.environ)))
    return report


def replay(nodeid: str, environment: Mapping[str, str]) -> str:
    """Return the command that runs a test as it was run, sizes and seeds included."""
    settings = [f"{k}={v}" for k, v in sorted(environment.items()) if k.startswith("PERSISTASAURUS_")]
    return " ".join([*settings, f"pytest '{nodeid}'"])
