"""What fails tells the command that repeats it, and a long campaign is one command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

FAILING = """
import os
def test_that_fails():
    assert os.environ["PERSISTASAURUS_IMAGES"] == "nothing"
"""


def told_by(tmp_path: Path, **environment: str) -> str:
    """Run a test that fails, beside the conftest of ours; return what is told."""
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_it.py").write_text(FAILING)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PERSISTASAURUS_")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env={**ours, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1, run.stdout
    return run.stdout


def test_a_failure_tells_the_command_that_repeats_it(tmp_path: Path) -> None:
    told = told_by(tmp_path, PERSISTASAURUS_SEED="7", PERSISTASAURUS_IMAGES="100")

    assert "PERSISTASAURUS_IMAGES=100 PERSISTASAURUS_SEED=7 pytest 'test_it.py::test_that_fails'" in told


def test_a_long_campaign_is_one_switch_and_a_size_of_its_own_wins(tmp_path: Path) -> None:
    assert "assert '500000' == 'nothing'" in told_by(tmp_path, PERSISTASAURUS_LONG="1")
    assert "assert '12' == 'nothing'" in told_by(
        tmp_path, PERSISTASAURUS_LONG="1", PERSISTASAURUS_IMAGES="12"
    )
